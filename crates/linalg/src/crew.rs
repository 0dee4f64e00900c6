//! A queue of work that runs in parallel as if it ran in order: a piece starts when no earlier piece that is not done yet touches the
//! same things. So no thread waits for another at the end of a panel, only at the end of the tile, and depth blocks are added in
//! order.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Something that a piece of work changes or reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A piece of the tile.
    Piece(usize),
    /// A depth block of packed B.
    Block(usize),
}

/// What a piece of work touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Touches {
    pub(crate) changes: Part,
    pub(crate) reads: Option<Part>,
}

impl Touches {
    /// Whether a later piece has to wait for this one.
    fn delays(&self, later: &Touches) -> bool {
        later.changes == self.changes
            || later.reads == Some(self.changes)
            || self.reads.is_some_and(|read| read == later.changes)
    }
}

/// The queue; `W` is a piece of work.
pub(crate) struct Crew<W> {
    state: Mutex<State<W>>,
    changed: Condvar,
}

struct State<W> {
    queue: VecDeque<(Touches, W)>,
    running: Vec<Touches>,
    closed: bool,
}

impl<W> State<W> {
    /// Takes the oldest piece that no older one delays.
    fn take_ready(&mut self) -> Option<(Touches, W)> {
        let at = (0..self.queue.len()).find(|at| {
            let touches = &self.queue[*at].0;
            let older = self.queue.iter().take(*at).map(|(older, _)| older);
            !self
                .running
                .iter()
                .chain(older)
                .any(|older| older.delays(touches))
        })?;
        self.queue.remove(at)
    }
}

impl<W> Crew<W> {
    /// An empty queue.
    pub(crate) fn new() -> Crew<W> {
        Crew {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                running: Vec::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Adds a piece of work; nothing once the queue is closed.
    pub(crate) fn push(&self, touches: Touches, work: W) {
        let mut state = self.lock();
        if !state.closed {
            state.queue.push_back((touches, work));
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Whether pushed work is still taken: after a panic nobody would do it.
    pub(crate) fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// No more work comes: threads end when the queue is empty.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Closes the queue and forgets all work that has not begun.
    pub(crate) fn abandon(&self) {
        let forgotten = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.queue)
        };
        self.changed.notify_all();
        drop(forgotten);
    }

    /// One thread's part: works until the queue is closed and empty.
    pub(crate) fn work(&self, on: impl Fn(Touches, W)) {
        while let Some((touches, work)) = self.next() {
            let running = Running { crew: self, touches };
            on(touches, work);
            drop(running);
        }
    }

    fn next(&self) -> Option<(Touches, W)> {
        let mut state = self.lock();
        loop {
            if let Some((touches, work)) = state.take_ready() {
                state.running.push(touches);
                return Some((touches, work));
            }
            if state.closed && state.queue.is_empty() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a piece of work, or gives everything up if it panicked.
struct Running<'a, W> {
    crew: &'a Crew<W>,
    touches: Touches,
}

impl<W> Drop for Running<'_, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.crew.abandon();
        }
        let mut state = self.crew.lock();
        if let Some(at) = state.running.iter().position(|running| *running == self.touches) {
            state.running.swap_remove(at);
        }
        drop(state);
        self.crew.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn parallel_work_sees_what_it_would_see_in_order() {
        // Blocks count their packings; a piece notes the count of the block that it reads.
        let crew = Crew::new();
        let blocks = [(); 2].map(|()| Mutex::new(0));
        let pieces = [(); 3].map(|()| Mutex::new(Vec::new()));
        let (mut packings, mut expected) = ([0; 2], [(); 3].map(|()| Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    crew.work(|touches, ()| match touches.changes {
                        Part::Block(block) => {
                            let mut packings =
                                blocks[block].try_lock().expect("nobody else is at this block");
                            std::thread::yield_now();
                            *packings += 1;
                        }
                        Part::Piece(piece) => {
                            let Some(Part::Block(block)) = touches.reads else {
                                panic!("a piece reads a block")
                            };
                            let seen = *blocks[block].lock().unwrap();
                            std::thread::yield_now();
                            pieces[piece]
                                .try_lock()
                                .expect("nobody else is at this piece")
                                .push((block, seen));
                        }
                    });
                });
            }
            for round in 0..100 {
                let block = round % 2;
                packings[block] += 1;
                crew.push(
                    Touches {
                        changes: Part::Block(block),
                        reads: None,
                    },
                    (),
                );
                for (piece, expected) in expected.iter_mut().enumerate() {
                    expected.push((block, packings[block]));
                    crew.push(
                        Touches {
                            changes: Part::Piece(piece),
                            reads: Some(Part::Block(block)),
                        },
                        (),
                    );
                }
            }
            crew.close();
        });
        assert_eq!(pieces.map(|piece| piece.into_inner().unwrap()), expected);
    }

    #[test]
    fn a_panic_ends_the_crew_and_drops_what_waits() {
        let crew = Crew::new();
        let token = Arc::new(());
        let touches = |piece| Touches {
            changes: Part::Piece(piece),
            reads: None,
        };
        for piece in [0, 0, 1, 1] {
            crew.push(touches(piece), Arc::clone(&token));
        }
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            crew.work(|_, _| panic!("as the test wants"));
        }));
        assert!(panicked.is_err());
        assert!(!crew.is_open());
        crew.push(touches(0), Arc::clone(&token));
        crew.work(|_, _| panic!("nothing is left"));
        assert_eq!(Arc::strong_count(&token), 1);
    }
}
