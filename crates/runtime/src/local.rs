//! The engine within one process: queues behind a mutex, and a channel to each side.
//!
//! That an attempt began is told with what comes next, or a moment later: where tasks are short, waking the driver for it would cost more
//! than the task.

use crate::engine::{DriverPort, WorkerPort};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tilework_core::driver::{DriverEvent, Queue};
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{JobAttempt, ToDriver, ToWorker, WorkerReport};
use tilework_core::worker::WorkerEvent;

/// How long the driver may not know that an attempt began.
const UNSAID_FOR: Duration = Duration::from_millis(2);

/// The driver's port and one for each of `n_workers`.
pub fn local_engine(n_workers: u32) -> (LocalDriverPort, Vec<LocalWorkerPort>) {
    let shared = Arc::new(Mutex::new(Queues::default()));
    let (to_driver, at_driver) = channel();
    let mut inboxes = Vec::new();
    let workers = (0..n_workers).map(|worker| {
        let (sender, receiver) = channel();
        inboxes.push(sender.clone());
        let (shared, to_driver) = (Arc::clone(&shared), to_driver.clone());
        LocalWorkerPort {
            worker: WorkerIdx(worker),
            shared,
            to_driver,
            inbox: sender,
            events: receiver,
            unsaid: Vec::new(),
        }
    });
    let workers = workers.collect();
    (
        LocalDriverPort {
            shared,
            inbox: to_driver,
            events: at_driver,
            workers: inboxes,
        },
        workers,
    )
}

/// Released attempts that nobody fetched, and fetches that found none.
#[derive(Debug, Default)]
struct Queues {
    released: BTreeMap<Queue, VecDeque<JobAttempt>>,
    fetching: VecDeque<WorkerIdx>,
}

impl Queues {
    fn take(&mut self, worker: WorkerIdx) -> Option<JobAttempt> {
        [Queue::Worker(worker), Queue::Shared]
            .iter()
            .find_map(|queue| self.released.get_mut(queue)?.pop_front())
    }
}

fn locked(shared: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The driver's side.
#[derive(Debug)]
pub struct LocalDriverPort {
    shared: Arc<Mutex<Queues>>,
    inbox: Sender<DriverEvent>,
    events: Receiver<DriverEvent>,
    workers: Vec<Sender<WorkerEvent>>,
}

impl DriverPort for LocalDriverPort {
    fn release(&mut self, attempt: JobAttempt, queue: Queue) {
        let mut queues = locked(&self.shared);
        queues.released.entry(queue).or_default().push_back(attempt);
        let may_take = |worker: WorkerIdx| queue == Queue::Shared || queue == Queue::Worker(worker);
        let Some(at) = queues.fetching.iter().position(|worker| may_take(*worker)) else {
            return;
        };
        let worker = queues.fetching.remove(at);
        let taken = worker.and_then(|worker| Some((worker, queues.take(worker)?)));
        if let Some((worker, attempt)) = taken {
            let _ = self.workers[worker.0 as usize].send(WorkerEvent::Assigned(attempt));
        }
    }

    fn forget(&mut self, worker: WorkerIdx) {
        locked(&self.shared).released.remove(&Queue::Worker(worker));
    }

    fn send(&mut self, worker: WorkerIdx, message: ToWorker) {
        let _ = self.workers[worker.0 as usize].send(WorkerEvent::Received(message));
    }

    fn next(&mut self, timeout: Duration) -> Option<DriverEvent> {
        self.events.recv_timeout(timeout).ok()
    }

    fn inbox(&self) -> Sender<DriverEvent> {
        self.inbox.clone()
    }
}

impl Drop for LocalDriverPort {
    /// Without a driver nobody would ever tell the workers to end.
    fn drop(&mut self) {
        for worker in &self.workers {
            let _ = worker.send(WorkerEvent::Received(ToWorker::Drain));
        }
    }
}

/// One worker's side.
#[derive(Debug)]
pub struct LocalWorkerPort {
    worker: WorkerIdx,
    shared: Arc<Mutex<Queues>>,
    to_driver: Sender<DriverEvent>,
    inbox: Sender<WorkerEvent>,
    events: Receiver<WorkerEvent>,
    /// What the driver is told with the next message.
    unsaid: Vec<ToDriver>,
}

impl LocalWorkerPort {
    fn say_all(&mut self) {
        for message in self.unsaid.drain(..) {
            let _ = self.to_driver.send(DriverEvent::Received(message));
        }
    }
}

impl WorkerPort for LocalWorkerPort {
    fn worker(&self) -> WorkerIdx {
        self.worker
    }

    fn fetch(&mut self) {
        let mut queues = locked(&self.shared);
        match queues.take(self.worker) {
            Some(attempt) => {
                let _ = self.inbox.send(WorkerEvent::Assigned(attempt));
            }
            None if queues.fetching.contains(&self.worker) => {}
            None => queues.fetching.push_back(self.worker),
        }
    }

    fn renew(&mut self, _attempt: JobAttempt) {
        // Within a process nothing is redelivered.
    }

    fn ack(&mut self, _attempt: JobAttempt) {
        // Within a process nothing is redelivered.
    }

    fn send(&mut self, message: ToDriver) {
        let may_wait = matches!(message.body, WorkerReport::Started(_));
        self.unsaid.push(message);
        if !may_wait {
            self.say_all();
        }
    }

    fn next(&mut self, timeout: Duration) -> Option<WorkerEvent> {
        if self.unsaid.is_empty() {
            return self.events.recv_timeout(timeout).ok();
        }
        let event = self.events.recv_timeout(timeout.min(UNSAID_FOR));
        if event.is_err() {
            self.say_all();
        }
        event.ok()
    }

    fn inbox(&self) -> Sender<WorkerEvent> {
        self.inbox.clone()
    }
}

impl Drop for LocalWorkerPort {
    fn drop(&mut self) {
        self.say_all();
        let mut queues = locked(&self.shared);
        queues.fetching.retain(|worker| *worker != self.worker);
        queues.released.remove(&Queue::Worker(self.worker));
        drop(queues);
        let _ = self.to_driver.send(DriverEvent::WorkerLost(self.worker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_engine_keeps_the_contract() {
        crate::contract::check_embedded(|n_workers| {
            let (driver, workers) = local_engine(n_workers);
            (
                Box::new(driver) as _,
                workers.into_iter().map(|worker| Box::new(worker) as _).collect(),
            )
        });
    }
}
