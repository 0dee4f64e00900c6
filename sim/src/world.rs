//! The processes and what lies between them, event by event.

use crate::agenda::Agenda;
use crate::coverage::{self, Coverage, Machine};
use crate::dice::Dice;
use crate::network::{Network, Node, Weather};
use crate::queue::WorkQueue;
use crate::scenario::{Kind, LastWorker, Scenario};
use crate::storage::{Segment, Storage, job, right_output};
use crate::verdict::{Counts, Outcome, Violation};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tilework_core::alarm::AlarmKind;
use tilework_core::driver::{Driver, DriverEffect, DriverEvent, JobStart, Needs, Queue, Round};
use tilework_core::failure::{Cause, Failure, JobEnd, Remedy, StopCause};
use tilework_core::ids::{Millis, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::lease::{DriverIdx, Lease, LeaseEffect, LeaseEvent, LeaseState};
use tilework_core::limits::{
    ATTEMPTS_MAX_CORRUPT, ATTEMPTS_MAX_LOST, ATTEMPTS_MAX_RETRY, BACKOFF_MAX_MS, LEASE_STEP_DOWN_MS,
};
use tilework_core::message::{JobAttempt, ToDriver, ToWorker, WorkerReport};
use tilework_core::record::{Barrier, Commit, Record, Winner};
use tilework_core::task_table::{TaskStatus, TaskTable};
use tilework_core::worker::{Worker, WorkerEffect, WorkerEvent, WorkerStart};

mod drivers;
mod faults;
mod server;
mod workers;

/// How long a killed process is away at least.
const RESTART_MS: u64 = 1_000;
/// How often a worker's port asks again for a task.
const FETCH_AGAIN_MS: u64 = 5_000;
/// How often the queue looks for deliveries that were not acknowledged.
const QUEUE_LOOK_MS: u64 = 1_000;
/// How long the job may go on after the last fault, beside the work itself.
const PEACE_MS: u64 = 300_000;
/// Times a failed job is submitted again while things go wrong ...
const FAILURES_MAX: u32 = 60;
/// ... and later.
const FAILURES_IN_PEACE_MAX: u32 = 3;
/// Of so many steps each may be the one that a fault waits for.
const STEPS_WATCHED: u64 = 12;
/// Things that may happen within a millisecond: more is a loop.
const AT_ONCE_MAX: u64 = 20_000;
/// How long a stopped run's end is away from the next run.
const RESUBMIT_MS: u64 = 2_000;
/// How long a driver waits for the server's answer to its lease.
const LEASE_ANSWER_MS: u64 = 1_500;
/// How long an attempt takes to notice that it is told to stop.
const CANCEL_MS: u64 = 10;
/// When the first driver surely leads, if nothing goes wrong.
const DRIVER_LEADS_MS: u64 = 100;
const MEMORY_BYTES: u64 = 1 << 30;

/// Runs a scenario to its end. With `keeps_log`, the outcome tells all that happened.
pub fn simulate(scenario: &Scenario, keeps_log: bool) -> Outcome {
    let mut world = World::new(scenario.clone(), keeps_log);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.violate(Violation::Invariant(text.unwrap_or_default()));
    }
    world.into_outcome()
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    AtDriver(u32, u32, DriverInput),
    AtWorker(u32, u32, WorkerInput),
    AtServer(Request),
    QueueLooks,
    Fault(Fault),
}

#[derive(Debug, Clone)]
enum DriverInput {
    Event(DriverEvent),
    Lease(LeaseEvent),
    Wake(Millis),
    LeaseWake(Millis),
    /// A step of its own that takes time, and the run that began it.
    Step(RunEpoch, Step),
    /// Try again to begin what a leader does.
    Lead,
    /// Somebody asks for the job that runs.
    AskAgain,
    /// Somebody ends it.
    Cancel,
}

#[derive(Debug, Clone)]
enum Step {
    Advance(RoundIdx),
    ReadCommits(RoundIdx),
    Verify,
    Finish,
}

#[derive(Debug, Clone)]
enum WorkerInput {
    Event(WorkerEvent),
    Wake(Millis),
    Sync(JobAttempt),
    /// Ask again for a task, unless this question was the last but one.
    FetchAgain(u64),
    /// The run with this number has opened what it needs, and may take so long.
    Begins(u64, Option<u64>),
    /// The run with this number comes to its end.
    Ends(u64, Result<(), Failure>),
}

/// What the server is asked for.
#[derive(Debug, Clone)]
enum Request {
    Publish(JobAttempt, Queue),
    Purge,
    Fetch(u32, u32),
    Ack(JobAttempt),
    Renew(JobAttempt),
    ReadLease(u32, u32),
    /// The revision that is expected, and when by the driver's clock.
    SetLease(u32, u32, u64, Millis),
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// One of those that have their moments.
    Of(Kind),
    EmptyDisk,
    /// Those that were cut off are reached again.
    Reconnect(Node),
    /// One of all workers fails, and some time later another one.
    WearOut,
    StartDriver(u32),
    StartWorker(u32),
}

/// What all processes have.
#[derive(Debug, Default)]
struct Life {
    incarnation: u32,
    alive: bool,
    stopped_until: Option<Millis>,
    /// How far the process's clock is ahead, and when it jumped last.
    ahead_ms: u64,
    jumped: Option<Millis>,
    timer: Timer,
}

impl Life {
    fn clock(&self, now: Millis) -> Millis {
        Millis(now.0 + self.ahead_ms)
    }

    /// When the process's clock shows this time, as far as is known now.
    fn when(&self, clock: Millis) -> Millis {
        Millis(clock.0.saturating_sub(self.ahead_ms))
    }

    /// The process does nothing until then; a second stop never shortens the first.
    fn stop_until(&mut self, until: Millis) {
        self.stopped_until = self.stopped_until.max(Some(until));
    }

    /// Whether it is alive and has had time to look at its clock since it was last stopped: all that it was late for, it notices at
    /// the very moment it wakes.
    fn is_awake(&self, now: Millis) -> bool {
        self.alive && self.stopped_until.is_none_or(|until| until < now)
    }
}

/// The one wake-up that a process waits for: of several it keeps the earliest.
#[derive(Debug, Default)]
struct Timer {
    due: Option<Millis>,
}

impl Timer {
    /// Asks for a wake-up; `false` if an earlier one comes anyway.
    fn set(&mut self, at: Millis) -> bool {
        let is_earlier = self.due.is_none_or(|due| at < due);
        if is_earlier {
            self.due = Some(at);
        }
        is_earlier
    }

    /// Whether this wake-up is the one that is waited for.
    fn rings(&mut self, at: Millis) -> bool {
        self.due.take_if(|due| *due == at).is_some()
    }
}

/// The lease as the store has it.
#[derive(Debug)]
struct StoredLease {
    state: LeaseState,
    /// When its revision was set.
    set: Millis,
    /// Until when two may hold themselves for the leader, because the clock of the later one jumped.
    two_until: Millis,
}

#[derive(Debug)]
struct WorkerProcess {
    life: Life,
    machine: Worker,
    /// Its segment, and how often the job had been started afresh when it was opened: a segment ends with its journal.
    segment: Option<(usize, Segment)>,
    fetching: bool,
    n_fetches: u64,
    run: Option<TaskRun>,
    n_runs: u64,
}

/// A task's work: each has one end, if any.
#[derive(Debug, Clone, Copy)]
struct TaskRun {
    number: u64,
    attempt: JobAttempt,
    /// When it has opened what it needs.
    opened: Millis,
    /// Whether it goes on when it is told to stop.
    hangs: bool,
}

#[derive(Debug)]
struct DriverProcess {
    life: Life,
    lease: Lease,
    lease_timer: Timer,
    leading: Option<Leading>,
}

#[derive(Debug)]
struct Leading {
    machine: Driver,
    epoch: RunEpoch,
    segment: Segment,
}

#[derive(Debug)]
struct World {
    scenario: Scenario,
    agenda: Agenda<Happening>,
    dice: Dice,
    network: Network,
    queue: WorkQueue,
    lease: StoredLease,
    storage: Storage,
    drivers: Vec<DriverProcess>,
    workers: Vec<WorkerProcess>,
    acknowledged: BTreeSet<(RoundIdx, TaskIdx)>,
    /// Barriers as they were first seen.
    barriers: BTreeMap<RoundIdx, Barrier>,
    /// How often the driver of a run tried each task of its round again that is not committed: after failures that may pass, after
    /// failed checks, and after it hung.
    failures: BTreeMap<(RunEpoch, TaskIdx), [u8; 3]>,
    /// The latest run that each worker began an attempt of.
    latest_runs: BTreeMap<(usize, u32), RunEpoch>,
    /// Runs with which the job was started afresh.
    generations: Vec<RunEpoch>,
    /// Workers that were told to drain.
    draining: BTreeSet<(usize, u32)>,
    n_failures: u32,
    n_failures_in_peace: u32,
    coverage: Coverage,
    /// Steps that drivers began, and what happens during which.
    n_steps: u64,
    in_wait: Vec<(u64, Kind)>,
    end: Option<JobEnd>,
    violation: Option<Violation>,
    counts: Counts,
    log: Option<Vec<String>>,
}

impl World {
    fn new(scenario: Scenario, keeps_log: bool) -> World {
        let seed = scenario.seed;
        let driver = |i| DriverProcess {
            life: Life::default(),
            lease: Lease::new(DriverIdx(i)),
            lease_timer: Timer::default(),
            leading: None,
        };
        let worker = |slot| WorkerProcess {
            life: Life::default(),
            machine: Worker::new(worker_start(&scenario, slot, 0)),
            segment: None,
            fetching: false,
            n_fetches: 0,
            run: None,
            n_runs: 0,
        };
        World {
            drivers: (0..scenario.n_drivers).map(driver).collect(),
            workers: (0..scenario.n_workers).map(worker).collect(),
            counts: Counts {
                n_tasks: scenario.rounds.iter().sum(),
                ..Counts::default()
            },
            agenda: Agenda::new(),
            dice: Dice::new(seed),
            network: Network::default(),
            queue: WorkQueue::default(),
            lease: StoredLease {
                state: LeaseState {
                    revision: 0,
                    holder: None,
                },
                set: Millis(0),
                two_until: Millis(0),
            },
            storage: if scenario.checks {
                Storage::checked(seed)
            } else {
                Storage::counted()
            },
            acknowledged: BTreeSet::new(),
            barriers: BTreeMap::new(),
            failures: BTreeMap::new(),
            generations: Vec::new(),
            latest_runs: BTreeMap::new(),
            draining: BTreeSet::new(),
            n_failures: 0,
            n_failures_in_peace: 0,
            coverage: Coverage::default(),
            n_steps: 0,
            in_wait: Vec::new(),
            end: None,
            violation: None,
            log: keeps_log.then(Vec::new),
            scenario,
        }
    }

    fn run(&mut self) {
        for i in 0..self.scenario.n_drivers {
            self.agenda.after(0, Happening::Fault(Fault::StartDriver(i)));
        }
        for slot in 0..self.scenario.n_workers {
            // The workers of a cluster that is planned for all come at once, when its driver leads and hears them.
            let delay = if self.scenario.checks {
                self.dice.pick(0..500)
            } else {
                DRIVER_LEADS_MS
            };
            self.agenda
                .after(delay, Happening::Fault(Fault::StartWorker(slot)));
        }
        self.agenda.after(QUEUE_LOOK_MS, Happening::QueueLooks);
        self.plan_faults();
        let horizon = self.horizon();
        let (mut before, mut n_at_once) = (Millis(0), 0);
        while self.violation.is_none() && self.end.is_none() {
            let Some(happening) = self.agenda.next() else {
                break;
            };
            if self.agenda.now() > horizon {
                let stalled = self.drivers.iter().filter_map(|driver| driver.leading.as_ref());
                let stalled: Vec<_> = stalled.map(|leading| leading.machine.stalled(job())).collect();
                self.violate(Violation::StandsStill(format!("{stalled:?}")));
                break;
            }
            let is_same = before == self.agenda.now();
            (before, n_at_once) = (self.agenda.now(), if is_same { n_at_once + 1 } else { 0 });
            if n_at_once > AT_ONCE_MAX {
                self.violate(Violation::StandsStill("time does, too".to_owned()));
                break;
            }
            self.note(&happening);
            self.happen(happening);
            self.check_leaders();
        }
        if self.end.is_some() {
            self.check_end();
        }
    }

    /// When the job must have ended: the work at the slowest, and some time for recovery.
    fn horizon(&self) -> Millis {
        let Scenario {
            rounds,
            task_ms,
            faults,
            ..
        } = &self.scenario;
        let work_ms = rounds.iter().sum::<u64>() * task_ms * 2 * faults[Kind::Slows].max(1);
        if self.scenario.checks {
            Millis(faults.until_ms + work_ms + PEACE_MS)
        } else {
            // Faults never end here, so nothing but time tells a job that stands still.
            Millis(2 * work_ms + 100 * PEACE_MS)
        }
    }

    fn into_outcome(self) -> Outcome {
        Outcome {
            end: self.end,
            violation: self.violation,
            seconds: self.agenda.now().0 as f64 / 1e3,
            log: self.log.unwrap_or_default(),
            counts: self.counts,
            coverage: self.coverage,
        }
    }

    fn note(&mut self, what: &impl Debug) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>9.3} {what:?}", self.agenda.now().0 as f64 / 1e3));
        }
    }

    fn violate(&mut self, violation: Violation) {
        self.note(&violation);
        self.violation.get_or_insert(violation);
    }

    /// Notes that a machine in this state met this event.
    fn meet(&mut self, machine: Machine, state: &'static str, event: &'static str) {
        if let Err(why) = self.coverage.meet(machine, state, event) {
            let text = format!("{machine:?} in {state} met {event}, though {why}");
            self.violate(Violation::Impossible(text));
        }
    }

    /// Whether a fault of a kind that has chances happens now.
    fn strikes(&mut self, kind: Kind) -> bool {
        let strikes = self.dice.happens(self.scenario.faults[kind]) && !self.in_peace();
        if strikes {
            self.counts.fire(kind);
        }
        strikes
    }

    /// How long storage takes longer than it should, this time.
    fn storage_delay_ms(&mut self) -> u64 {
        let longest = self.scenario.faults[Kind::SlowsStorage];
        if longest == 0 || self.in_peace() || !self.dice.happens(300) {
            return 0;
        }
        self.counts.fire(Kind::SlowsStorage);
        self.dice.pick(0..longest)
    }

    fn in_peace(&self) -> bool {
        self.agenda.now().0 >= self.scenario.faults.until_ms
    }

    fn weather(&self) -> Weather {
        let faults = &self.scenario.faults;
        Weather {
            lost: if self.in_peace() { 0 } else { faults[Kind::Loses] },
            repeated: if self.in_peace() { 0 } else { faults[Kind::Repeats] },
            delay_ms_max: faults[Kind::Delays].max(self.scenario.delay_ms),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Fault(fault) => self.suffer(fault),
            Happening::QueueLooks => {
                self.queue.expire(self.agenda.now());
                self.deliver();
                self.agenda.after(QUEUE_LOOK_MS, Happening::QueueLooks);
            }
            Happening::AtServer(request) => self.at_server(request),
            Happening::AtDriver(i, incarnation, input) => {
                let life = &self.drivers[i as usize].life;
                if !life.alive || life.incarnation != incarnation {
                    return;
                }
                match life.stopped_until {
                    Some(until) if self.agenda.now() < until => {
                        self.agenda.at(until, Happening::AtDriver(i, incarnation, input));
                    }
                    Some(_) => {
                        // Whoever wakes looks at the clock before it does anything, as drivers do with each event.
                        self.drivers[i as usize].life.stopped_until = None;
                        self.step_lease(i as usize, LeaseEvent::Tick);
                        self.at_driver(i as usize, input);
                    }
                    None => self.at_driver(i as usize, input),
                }
            }
            Happening::AtWorker(slot, incarnation, input) => {
                let life = &self.workers[slot as usize].life;
                if !life.alive || life.incarnation != incarnation {
                    return;
                }
                match life.stopped_until {
                    Some(until) if self.agenda.now() < until => {
                        self.agenda
                            .at(until, Happening::AtWorker(slot, incarnation, input));
                    }
                    _ => self.at_worker(slot as usize, input),
                }
            }
        }
    }

    fn check_end(&mut self) {
        for (round, n_tasks) in self.scenario.rounds.clone().into_iter().enumerate() {
            let round = RoundIdx(round as u32);
            let n_winners = self
                .storage
                .barrier(round)
                .map(|barrier| barrier.winners.len() as u64);
            if n_winners != Some(n_tasks) {
                self.violate(Violation::BarrierIncomplete(round));
            }
            let is_last = round.0 as usize + 1 == self.scenario.rounds.len();
            let generation = self.generations.len();
            if let Some(task) = self.storage.wrong(generation, round, n_tasks).filter(|_| is_last) {
                self.violate(Violation::WrongOutput(round, task));
            }
            let tasks = (0..n_tasks).map(|task| (round, TaskIdx(task)));
            if let Some((round, task)) = self.storage.first_lost(tasks) {
                self.violate(Violation::AcknowledgedButLost(round, task));
            }
        }
    }
}

/// Every process that is started has a number of its own.
fn worker_idx(scenario: &Scenario, slot: u32, incarnation: u32) -> WorkerIdx {
    WorkerIdx(slot + scenario.n_workers * incarnation)
}

fn slot_of(scenario: &Scenario, worker: WorkerIdx) -> (u32, u32) {
    (worker.0 % scenario.n_workers, worker.0 / scenario.n_workers)
}

/// What a worker can do.
fn lacks_of(scenario: &Scenario, slot: u32) -> LastWorker {
    let is_last = scenario.n_workers > 1 && slot + 1 == scenario.n_workers;
    if is_last {
        scenario.last_worker
    } else {
        LastWorker::Able
    }
}

fn worker_start(scenario: &Scenario, slot: u32, incarnation: u32) -> WorkerStart {
    let lacks = lacks_of(scenario, slot);
    WorkerStart {
        worker: worker_idx(scenario, slot, incarnation),
        memory_bytes: MEMORY_BYTES / if lacks == LastWorker::TooSmall { 2 } else { 1 },
        looks_ahead: scenario.look_ahead,
    }
}
