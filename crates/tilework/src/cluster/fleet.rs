//! Who the workers are: what they said when they joined, and what the driver heard of them since.

use super::board::WorkerOnBoard;
use super::numbers::HeardNumbers;
use super::protocol::Join;
use super::record::PlannedFor;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tilework_core::driver::DriverEvent;
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{ToDriver, WorkerReport};
use tilework_nats::limits::MEMBERS_MAX;

/// How long a lost worker stays on the board, and one that was never heard is known.
const KEPT_LOST: Duration = Duration::from_secs(600);
#[derive(Debug)]
struct Member {
    is_working: bool,
    is_draining: bool,
    lost_since: Option<Instant>,
    n_done: u64,
}

/// The workers that this driver has heard.
#[derive(Debug, Default)]
pub struct FleetView {
    joined: BTreeMap<WorkerIdx, Join>,
    members: BTreeMap<WorkerIdx, Member>,
    /// Who has a number and was not heard, since when: dead since, for all that is known.
    unheard: BTreeMap<WorkerIdx, Instant>,
    /// Workers that left in good order, whose records are not needed any more.
    left: Vec<WorkerIdx>,
    numbers: Arc<HeardNumbers>,
}

impl FleetView {
    /// Nobody heard yet, of those that joined under other drivers. Who is heard is told to `numbers`.
    pub fn new(joined: BTreeMap<WorkerIdx, Join>, numbers: Arc<HeardNumbers>) -> FleetView {
        let mut fleet = FleetView {
            numbers,
            ..FleetView::default()
        };
        for (worker, join) in joined {
            fleet.on_joined(worker, join);
        }
        fleet
    }

    /// Somebody joined.
    pub fn on_joined(&mut self, worker: WorkerIdx, join: Join) {
        self.numbers.hear(worker);
        self.joined.insert(worker, join);
        if !self.members.contains_key(&worker) {
            self.unheard.entry(worker).or_insert_with(Instant::now);
        }
    }

    /// The driver hears something. `is_new_commit`: a task is committed for the first time.
    pub fn on_event(&mut self, event: &DriverEvent, is_new_commit: bool) {
        match event {
            DriverEvent::Received(message) => self.on_report(message, is_new_commit),
            DriverEvent::WorkerLost(worker) => {
                self.members.remove(worker);
                self.unheard.remove(worker);
                if self.joined.remove(worker).is_some() {
                    self.left.push(*worker);
                }
            }
            _ => {}
        }
    }

    fn on_report(&mut self, message: &ToDriver, is_new_commit: bool) {
        let is_made_up = !self.members.contains_key(&message.worker) && self.members.len() >= MEMBERS_MAX;
        if is_made_up {
            return;
        }
        self.numbers.hear(message.worker);
        self.unheard.remove(&message.worker);
        let member = self.members.entry(message.worker).or_insert(Member {
            is_working: false,
            is_draining: false,
            lost_since: None,
            n_done: 0,
        });
        member.lost_since = None;
        match &message.body {
            WorkerReport::Heartbeat { holding, .. } => member.is_working = !holding.is_empty(),
            WorkerReport::Took(_) | WorkerReport::Started(_) => member.is_working = true,
            WorkerReport::Committed(_) => {
                member.n_done += u64::from(is_new_commit);
            }
            WorkerReport::Drained => member.is_draining = true,
            WorkerReport::Joined { .. }
            | WorkerReport::Failed(..)
            | WorkerReport::GaveBack(_)
            | WorkerReport::Left(_) => {}
        }
    }

    /// A worker was not heard in time.
    pub fn on_lost(&mut self, worker: WorkerIdx) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.lost_since = Some(Instant::now());
            member.is_working = false;
        }
    }

    /// What a plan for the workers that are there counts on: the least of each.
    pub fn planned_for(&self) -> Option<PlannedFor> {
        let there = self
            .members
            .iter()
            .filter(|(_, member)| member.lost_since.is_none() && !member.is_draining);
        let known: Vec<&Join> = there.filter_map(|(worker, _)| self.joined.get(worker)).collect();
        Some(PlannedFor {
            memory_bytes: known.iter().map(|join| join.memory_bytes).min()?,
            threads: known.iter().map(|join| join.threads).min()?,
            workers: known.len() as u32,
        })
    }

    /// Where a worker runs.
    pub fn host(&self, worker: WorkerIdx) -> String {
        self.joined
            .get(&worker)
            .map_or_else(|| "?".to_owned(), |join| join.host.clone())
    }

    /// Forgets who left, was lost long ago, or was never heard for as long; their records may go.
    pub fn forget_gone(&mut self) -> Vec<WorkerIdx> {
        self.forget_lost_for(KEPT_LOST)
    }

    fn forget_lost_for(&mut self, time: Duration) -> Vec<WorkerIdx> {
        let lost = self.members.iter();
        let lost = lost.filter_map(|(worker, member)| Some((worker, member.lost_since.as_ref()?)));
        let gone = lost
            .chain(&self.unheard)
            .filter(|(_, since)| since.elapsed() > time);
        let gone: Vec<WorkerIdx> = gone.map(|(worker, _)| *worker).collect();
        for worker in &gone {
            self.members.remove(worker);
            self.unheard.remove(worker);
            self.joined.remove(worker);
        }
        let mut left = std::mem::take(&mut self.left);
        left.extend(gone);
        left
    }

    /// As anyone may see them.
    pub fn on_board(&self) -> Vec<WorkerOnBoard> {
        let shown = self.members.iter().map(|(worker, member)| {
            let join = self.joined.get(worker);
            let state = match member {
                Member {
                    lost_since: Some(_), ..
                } => "lost",
                Member {
                    is_draining: true, ..
                } => "draining",
                Member { is_working: true, .. } => "working",
                _ => "idle",
            };
            WorkerOnBoard {
                id: worker.0,
                tilework: join.map_or(String::new(), |join| join.tilework.clone()),
                host: self.host(*worker),
                pid: join.map_or(0, |join| join.pid),
                threads: join.map_or(0, |join| join.threads),
                memory_bytes: join.map_or(0, |join| join.memory_bytes),
                state: state.to_owned(),
                tasks_done: member.n_done,
                data_roots: join.map_or(Vec::new(), |join| join.data_roots.clone()),
            }
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilework_core::ids::{Attempt, JobId};
    use tilework_core::message::{Holding, JobAttempt};

    fn join(memory_bytes: u64, threads: u32) -> Join {
        Join {
            tilework: "1".to_owned(),
            host: "h".to_owned(),
            pid: 7,
            threads,
            memory_bytes,
            data_roots: Vec::new(),
            started_unix_ms: 1,
            worker: None,
        }
    }

    fn says(fleet: &mut FleetView, worker: u32, body: WorkerReport) {
        let worker = WorkerIdx(worker);
        fleet.on_event(&DriverEvent::Received(ToDriver { worker, body }), true);
    }

    fn states(fleet: &FleetView) -> Vec<(u32, String, u64)> {
        let workers = fleet.on_board().into_iter();
        workers
            .map(|worker| (worker.id, worker.state, worker.tasks_done))
            .collect()
    }

    #[test]
    fn workers_are_shown_as_they_were_heard_last() {
        let mut fleet = FleetView::default();
        let attempt = JobAttempt {
            job: JobId([1; 16]),
            attempt: Attempt {
                epoch: Default::default(),
                round: Default::default(),
                task: Default::default(),
                attempt: Default::default(),
            },
        };
        for (worker, memory) in [(0, 5), (1, 3), (2, 9)] {
            fleet.on_joined(WorkerIdx(worker), join(memory, worker + 1));
        }
        assert_eq!(fleet.planned_for(), None);
        says(&mut fleet, 0, WorkerReport::Joined { memory_bytes: 5 });
        says(&mut fleet, 1, WorkerReport::Started(attempt));
        let planned_for = PlannedFor {
            memory_bytes: 3,
            threads: 1,
            workers: 2,
        };
        assert_eq!(fleet.planned_for(), Some(planned_for));
        says(&mut fleet, 1, WorkerReport::Committed(attempt));
        let holding = vec![Holding {
            attempt,
            started: true,
        }];
        says(
            &mut fleet,
            0,
            WorkerReport::Heartbeat {
                memory_bytes: 5,
                holding,
            },
        );
        let shown = |id, state: &str, n| (id, state.to_owned(), n);
        assert_eq!(states(&fleet), [shown(0, "working", 0), shown(1, "working", 1)]);
        fleet.on_lost(WorkerIdx(1));
        assert_eq!(states(&fleet)[1], shown(1, "lost", 1));
        assert_eq!(fleet.planned_for().map(|planned| planned.memory_bytes), Some(5));
        fleet.on_event(&DriverEvent::WorkerLost(WorkerIdx(0)), false);
        assert_eq!(fleet.forget_gone(), [WorkerIdx(0)]);
        assert_eq!(states(&fleet).len(), 1);
    }

    #[test]
    fn who_is_never_heard_is_forgotten_and_not_shown() {
        let earlier = BTreeMap::from([(WorkerIdx(3), join(5, 1)), (WorkerIdx(5), join(5, 1))]);
        let numbers = Arc::new(HeardNumbers::default());
        let mut fleet = FleetView::new(earlier, Arc::clone(&numbers));
        fleet.on_joined(WorkerIdx(6), join(5, 1));
        assert_eq!(numbers.next(), 7);
        says(&mut fleet, 5, WorkerReport::Joined { memory_bytes: 5 });
        assert_eq!(states(&fleet), [(5, "idle".to_owned(), 0)]);
        assert_eq!(fleet.forget_gone(), [], "they may be heard yet");
        assert_eq!(
            fleet.forget_lost_for(Duration::ZERO),
            [WorkerIdx(3), WorkerIdx(6)],
            "and who was heard stays"
        );
        assert_eq!(fleet.planned_for().map(|planned| planned.workers), Some(1));
        // Its number is its own: it joins again when it is back.
        fleet.on_joined(WorkerIdx(3), join(4, 1));
        says(&mut fleet, 3, WorkerReport::Joined { memory_bytes: 4 });
        assert_eq!(fleet.planned_for().map(|planned| planned.workers), Some(2));
        assert_eq!(fleet.forget_lost_for(Duration::ZERO), []);
        fleet.on_lost(WorkerIdx(3));
        assert_eq!(fleet.forget_lost_for(Duration::ZERO), [WorkerIdx(3)]);
    }

    #[test]
    fn reports_under_made_up_numbers_have_a_bound() {
        let mut fleet = FleetView::default();
        for worker in 0..MEMBERS_MAX as u32 + 7 {
            says(&mut fleet, worker, WorkerReport::Drained);
        }
        assert_eq!(states(&fleet).len(), MEMBERS_MAX);
        fleet.on_event(&DriverEvent::WorkerLost(WorkerIdx(1)), false);
        assert_eq!(fleet.forget_gone(), [], "nothing is kept of who never joined");
    }
}
