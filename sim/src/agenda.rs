//! What happens when: events in order of time, and of their making where times are equal.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use tilework_core::ids::Millis;

/// Events to come.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    now: Millis,
    order: BinaryHeap<Reverse<(Millis, u64)>>,
    events: BTreeMap<u64, E>,
    n_made: u64,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Agenda<E> {
        Agenda {
            now: Millis(0),
            order: BinaryHeap::new(),
            events: BTreeMap::new(),
            n_made: 0,
        }
    }

    /// Virtual time.
    pub(crate) fn now(&self) -> Millis {
        self.now
    }

    /// Something will happen so much later.
    pub(crate) fn after(&mut self, ms: u64, event: E) {
        self.at(Millis(self.now.0 + ms), event);
    }

    /// Something will happen at that time, or now if that is past.
    pub(crate) fn at(&mut self, time: Millis, event: E) {
        self.order.push(Reverse((time.max(self.now), self.n_made)));
        self.events.insert(self.n_made, event);
        self.n_made += 1;
    }

    /// The next event; its time is now.
    pub(crate) fn next(&mut self) -> Option<E> {
        let Reverse((time, number)) = self.order.pop()?;
        self.now = time;
        self.events.remove(&number)
    }
}
