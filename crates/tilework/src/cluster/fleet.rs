//! Who the workers are: what they said when they joined, and what the driver heard of them since.

use super::board::WorkerOnBoard;
use super::numbers::HeardNumbers;
use super::protocol::{Join, KnownKind};
use super::record::PlannedFor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tilework_core::driver::DriverEvent;
use tilework_core::ids::WorkerIdx;
use tilework_core::limits::{HEARTBEAT_MS, WORKER_LOST_MS};
use tilework_core::message::{ToDriver, WorkerReport};
use tilework_nats::limits::MEMBERS_MAX;

/// How long a lost worker stays on the board, and one that was never heard is known.
const KEPT_LOST: Duration = Duration::from_secs(600);
/// How long a worker may be silent before it is lost.
const LOST_AFTER: Duration = Duration::from_millis(WORKER_LOST_MS);

#[derive(Debug)]
struct Member {
    is_working: bool,
    is_draining: bool,
    last_heard: Instant,
    /// Whether the driver gave it up: only that it joins or beats brings it back, as it does there.
    is_given_up: bool,
    n_done: u64,
}

impl Member {
    fn is_lost(&self, now: Instant) -> bool {
        self.is_given_up || now.saturating_duration_since(self.last_heard) >= LOST_AFTER
    }
}

/// The workers that this driver has heard.
///
/// It does not rely on hearing of each loss: who is silent is lost.
#[derive(Debug)]
pub struct FleetView {
    /// When it was looked at last, which is before anything else that is asked: time in which the driver itself slept is nobody's silence.
    now: Instant,
    joined: BTreeMap<WorkerIdx, Join>,
    /// Who joined or beat. At most as many as a cluster admits, but that those it did admit always find room.
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
            now: Instant::now(),
            joined: BTreeMap::new(),
            members: BTreeMap::new(),
            unheard: BTreeMap::new(),
            left: Vec::new(),
            numbers,
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
            self.unheard.entry(worker).or_insert(self.now);
        }
    }

    /// The driver hears something. `is_new_commit`: a task is committed for the first time.
    pub fn on_event(&mut self, event: &DriverEvent, is_new_commit: bool) {
        self.pass_time(Instant::now());
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

    /// There are events several times a second, unless the driver was stopped or busy: what it did not hear then waits for it.
    fn pass_time(&mut self, now: Instant) {
        let slept = now.saturating_duration_since(self.now);
        if slept > Duration::from_millis(HEARTBEAT_MS) {
            for member in self.members.values_mut() {
                member.last_heard += slept;
            }
        }
        self.now = now;
    }

    fn on_report(&mut self, message: &ToDriver, is_new_commit: bool) {
        let worker = message.worker;
        self.numbers.hear(worker);
        if let WorkerReport::Joined { .. } | WorkerReport::Heartbeat { .. } = &message.body {
            self.on_there(worker);
        }
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        member.last_heard = self.now;
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

    /// A worker says that it is there, which makes it known, as it does to the driver; anything else may be the last of one that is gone.
    fn on_there(&mut self, worker: WorkerIdx) {
        if !self.members.contains_key(&worker) && !self.make_room(worker) {
            return;
        }
        self.unheard.remove(&worker);
        let now = self.now;
        let member = self.members.entry(worker).or_insert(Member {
            is_working: false,
            is_draining: false,
            last_heard: now,
            is_given_up: false,
            n_done: 0,
        });
        member.is_given_up = false;
    }

    /// Whether there is room for one more: numbers that somebody made up go before one that was given out.
    fn make_room(&mut self, worker: WorkerIdx) -> bool {
        if self.members.len() < MEMBERS_MAX {
            return true;
        }
        if !self.joined.contains_key(&worker) {
            return false;
        }
        let mut members = self.members.keys();
        let made_up = members.find(|other| !self.joined.contains_key(other)).copied();
        if let Some(made_up) = made_up {
            self.members.remove(&made_up);
        }
        // So many as were admitted have room in any case.
        true
    }

    /// A worker was not heard in time.
    pub fn on_lost(&mut self, worker: WorkerIdx) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.is_given_up = true;
            member.is_working = false;
        }
    }

    /// What a plan for the workers that are there counts on: the least of each.
    pub fn planned_for(&self) -> Option<PlannedFor> {
        let there = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_lost(self.now) && !member.is_draining);
        let known: Vec<&Join> = there.filter_map(|(worker, _)| self.joined.get(worker)).collect();
        Some(PlannedFor {
            memory_bytes: known.iter().map(|join| join.memory_bytes).min()?,
            threads: known.iter().map(|join| join.threads).min()?,
            workers: known.len() as u32,
        })
    }

    /// Workers that lack the code of a job.
    pub fn unable(&self, needed: &KnownKind) -> BTreeSet<WorkerIdx> {
        let joined = self.joined.iter();
        let unable = joined.filter(|(_, join)| !join.kinds.contains(needed));
        unable.map(|(worker, _)| *worker).collect()
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
        let lost = lost.filter(|(_, member)| member.is_lost(self.now));
        let silent = lost.map(|(worker, member)| (worker, &member.last_heard));
        let gone = silent
            .chain(&self.unheard)
            .filter(|(_, since)| self.now.saturating_duration_since(**since) >= time);
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
                member if member.is_lost(self.now) => "lost",
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
                kinds: join.map_or(Vec::new(), |join| join.kinds.clone()),
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
            kinds: Vec::new(),
        }
    }

    fn nobody() -> FleetView {
        FleetView::new(BTreeMap::new(), Arc::default())
    }

    fn attempt() -> JobAttempt {
        JobAttempt {
            job: JobId([1; 16]),
            attempt: Attempt {
                epoch: Default::default(),
                round: Default::default(),
                task: Default::default(),
                attempt: Default::default(),
            },
        }
    }

    /// Time in which the driver heard nothing, but was there.
    fn wait(fleet: &mut FleetView, time: Duration) {
        let until = fleet.now + time;
        while fleet.now < until {
            fleet.pass_time(until.min(fleet.now + Duration::from_millis(HEARTBEAT_MS)));
        }
    }

    fn says(fleet: &mut FleetView, worker: u32, body: WorkerReport) {
        let worker = WorkerIdx(worker);
        fleet.on_report(&ToDriver { worker, body }, true);
    }

    fn states(fleet: &FleetView) -> Vec<(u32, String, u64)> {
        let workers = fleet.on_board().into_iter();
        workers
            .map(|worker| (worker.id, worker.state, worker.tasks_done))
            .collect()
    }

    #[test]
    fn workers_are_shown_as_they_were_heard_last() {
        let mut fleet = nobody();
        let attempt = attempt();
        for (worker, memory) in [(0, 5), (1, 3), (2, 9)] {
            fleet.on_joined(WorkerIdx(worker), join(memory, worker + 1));
        }
        assert_eq!(fleet.planned_for(), None);
        says(&mut fleet, 0, WorkerReport::Joined { memory_bytes: 5 });
        says(&mut fleet, 1, WorkerReport::Joined { memory_bytes: 3 });
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
        assert_eq!(
            fleet.forget_lost_for(Duration::ZERO),
            [],
            "whoever is there stays"
        );
        fleet.on_lost(WorkerIdx(3));
        assert_eq!(fleet.forget_lost_for(Duration::ZERO), [WorkerIdx(3)]);
    }

    /// A dead worker stayed idle on the board for ever once one report of it came late, and was planned for.
    #[test]
    fn a_late_report_of_a_lost_worker_does_not_bring_it_back() {
        let mut fleet = nobody();
        for worker in [0, 1] {
            fleet.on_joined(WorkerIdx(worker), join(5, 1));
            says(&mut fleet, worker, WorkerReport::Joined { memory_bytes: 5 });
        }
        fleet.on_lost(WorkerIdx(0));
        says(&mut fleet, 0, WorkerReport::Committed(attempt()));
        assert_eq!(states(&fleet)[0], (0, "lost".to_owned(), 1));
        assert_eq!(fleet.planned_for().map(|planned| planned.workers), Some(1));
        // Nor does one of a worker that was forgotten.
        assert_eq!(fleet.forget_lost_for(Duration::ZERO), [WorkerIdx(0)]);
        says(&mut fleet, 0, WorkerReport::Committed(attempt()));
        assert_eq!(states(&fleet), [(1, "idle".to_owned(), 0)]);
        says(&mut fleet, 0, WorkerReport::Joined { memory_bytes: 5 });
        assert_eq!(states(&fleet)[0], (0, "idle".to_owned(), 0), "it is there");
    }

    /// That it left was lost on its way: it stayed draining for ever.
    #[test]
    fn who_is_silent_is_lost_without_anyone_saying_so() {
        let mut fleet = nobody();
        for worker in [0, 1] {
            fleet.on_joined(WorkerIdx(worker), join(5, 1));
            says(&mut fleet, worker, WorkerReport::Joined { memory_bytes: 5 });
        }
        says(&mut fleet, 0, WorkerReport::Drained);
        let state = |fleet: &FleetView, at: usize| states(fleet)[at].1.clone();
        assert_eq!(state(&fleet, 0), "draining");
        // The driver slept: it may have been heard meanwhile.
        fleet.pass_time(fleet.now + 10 * LOST_AFTER);
        assert_eq!(
            (state(&fleet, 0), state(&fleet, 1)),
            ("draining".into(), "idle".into())
        );
        wait(&mut fleet, LOST_AFTER);
        assert_eq!(
            (state(&fleet, 0), state(&fleet, 1)),
            ("lost".into(), "lost".into())
        );
        assert_eq!(fleet.planned_for(), None);
        says(&mut fleet, 1, WorkerReport::Joined { memory_bytes: 5 });
        assert_eq!(
            (state(&fleet, 0), state(&fleet, 1)),
            ("lost".into(), "idle".into())
        );
        assert_eq!(fleet.forget_gone(), []);
        wait(&mut fleet, KEPT_LOST - LOST_AFTER);
        says(&mut fleet, 1, WorkerReport::Joined { memory_bytes: 5 });
        assert_eq!(fleet.forget_gone(), [WorkerIdx(0)]);
        assert_eq!(states(&fleet).len(), 1);
    }

    #[test]
    fn made_up_numbers_have_a_bound_and_keep_no_worker_out() {
        let mut fleet = nobody();
        let n_made_up = MEMBERS_MAX as u32 + 7;
        for worker in 0..n_made_up {
            says(&mut fleet, worker, WorkerReport::Drained);
        }
        assert_eq!(states(&fleet), [], "nobody said that it is there");
        for worker in 0..n_made_up {
            says(&mut fleet, worker, WorkerReport::Joined { memory_bytes: 5 });
        }
        assert_eq!(states(&fleet).len(), MEMBERS_MAX);
        fleet.on_event(&DriverEvent::WorkerLost(WorkerIdx(1)), false);
        assert_eq!(fleet.forget_gone(), [], "nothing is kept of who never joined");
        // One that was heard under its number first, and others.
        for worker in [0, n_made_up, n_made_up + 1] {
            fleet.on_joined(WorkerIdx(worker), join(5, 1));
            says(&mut fleet, worker, WorkerReport::Joined { memory_bytes: 5 });
        }
        assert_eq!(states(&fleet).len(), MEMBERS_MAX);
        assert_eq!(fleet.planned_for().map(|planned| planned.workers), Some(3));
        wait(&mut fleet, KEPT_LOST);
        assert_eq!(fleet.planned_for(), None);
        assert_eq!(fleet.forget_gone().len(), MEMBERS_MAX);
    }
}
