//! The driver machine: jobs and the workers that they share. It releases tasks, watches commits and heartbeats, retries, runs
//! barriers, and ends jobs.
//!
//! What a single job goes through is in `job`; who the workers are in `fleet`; how round-robin deals in `deal`.

use crate::alarm::{Alarm, AlarmKind, Stall};
use crate::failure::{Failure, JobEnd, StopCause};
use crate::ids::{JobId, Millis, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use crate::message::{JobAttempt, ToDriver, ToWorker, WorkerReport};
use crate::task_table::TaskTable;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use fleet::Fleet;
use job::{JobRun, Surroundings};

mod deal;
mod durations;
mod fleet;
mod job;

/// What happened to the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverEvent {
    /// A job is to be driven: a new one, one that is resumed, or one that another driver left.
    Submitted(JobStart),
    /// A worker said something.
    Received(ToDriver),
    /// The engine knows that a worker is gone; what it held is given back.
    WorkerLost(WorkerIdx),
    /// The barrier is durable and the job has another round.
    RoundReady(JobId, Round),
    /// The barrier was not made: the journal lacks these tasks' commits.
    BarrierRefused(JobId, Vec<TaskIdx>),
    /// The barrier is durable and the job has no further round.
    RoundsDone(JobId),
    /// The journal was read: these tasks of the round are committed.
    CommitsRead(JobId, Vec<TaskIdx>),
    /// The committed outputs were read back; these tasks' outputs are damaged.
    OutputsVerified(JobId, Vec<TaskIdx>),
    /// The outputs are durable under their final names.
    OutputsFinished(JobId),
    /// A step of the driver's own (advance, verify, finish) failed.
    StepFailed(JobId, Failure),
    /// A worker lacks the job's code: it gets none of its tasks.
    LacksCode(JobId, WorkerIdx),
    /// Someone wants the job to stop.
    StopRequested(JobId, StopCause),
    /// Time passed.
    Tick,
}

/// What the driver must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverEffect {
    /// Put the attempt into a queue that workers fetch from.
    Release(JobAttempt, Queue),
    /// Say something to a worker.
    Send(WorkerIdx, ToWorker),
    /// Make the round's barrier durable, if the journal has a commit of every task, and ask the job what comes next.
    Advance(JobId, RoundIdx),
    /// Read which tasks of the round are committed.
    ReadCommits(JobId, RoundIdx),
    /// Read every committed output back and compare it with its commit.
    VerifyOutputs(JobId),
    /// Make the outputs durable under their final names.
    FinishOutputs(JobId),
    /// Tell whoever watches.
    Alarm(Alarm),
    /// Come back with a `Tick` at this time.
    WakeAt(Millis),
    /// The run of the job is over.
    End(JobId, JobEnd),
}

/// Where a released attempt lies until a worker fetches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// Whoever fetches first.
    Shared,
    /// This worker's own, which it looks into first; gone when the worker is lost.
    Worker(WorkerIdx),
}

/// How tasks find their workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assign {
    /// By load: whoever has room takes the next one.
    Dynamic,
    /// Task i goes to worker i mod n.
    RoundRobin {
        /// Workers that are waited for, for a while, before the tasks are dealt.
        n_workers: u32,
    },
}

/// What a task needs, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Memory of a worker.
    pub memory_bytes: u64,
    /// Time, before there is a measurement.
    pub expected_ms: u64,
    /// Time after which an attempt is told to stop, and counts as failed; nothing if it may take as long as it takes.
    pub deadline_ms: Option<u64>,
}

/// A set of independent tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Its number.
    pub round: RoundIdx,
    /// Its tasks.
    pub n_tasks: u64,
    /// What each needs.
    pub needs: Needs,
}

/// What a job does when the disk of its output is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It stops and can be resumed.
    Stop,
    /// It waits for space.
    Wait,
}

/// What a job starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStart {
    /// The job.
    pub job: JobId,
    /// This run.
    pub epoch: RunEpoch,
    /// Attempts of this run and later ones count; those of earlier ones wrote to files that are no more.
    pub adopts_from: RunEpoch,
    /// The round to go on with.
    pub round: RoundIdx,
    /// Tasks in that round.
    pub n_tasks: u64,
    /// What each needs.
    pub needs: Needs,
    /// Tasks of that round that the journal has commits of.
    pub committed: Vec<TaskIdx>,
    /// Whether outputs of an earlier run are used, which must be read back before the end.
    pub resumed: bool,
    /// Whether another driver left it while workers were at it.
    pub took_over: bool,
    /// Whether all workers are of one machine: what one of them can't read, none can.
    pub one_machine: bool,
    /// How tasks find their workers.
    pub assign: Assign,
    /// Whether idle workers do again what takes much longer than usual.
    pub backups: bool,
    /// What happens on a full disk.
    pub when_full: WhenFull,
    /// When it stops if it has not ended.
    pub deadline: Option<Millis>,
    /// Workers that lack its code: they get none of its tasks.
    pub unable: BTreeSet<WorkerIdx>,
}

/// The driver's state: for each job one byte per task and a constant, and a constant for each worker.
#[derive(Debug, Default)]
pub struct Driver {
    fleet: Fleet,
    jobs: BTreeMap<JobId, JobRun>,
    next_watch: Millis,
    last_event: Millis,
}

impl Driver {
    /// A driver without jobs and workers.
    pub fn new() -> Driver {
        Driver::default()
    }

    /// The current round's tasks of a job that has not ended.
    pub fn tasks(&self, job: JobId) -> Option<&TaskTable> {
        self.jobs.get(&job).map(JobRun::tasks)
    }

    /// The current round of a job that has not ended.
    pub fn round(&self, job: JobId) -> Option<RoundIdx> {
        self.jobs.get(&job).map(JobRun::round)
    }

    /// Where a job's run stands, by the name of its state; `Unknown` if there is none. For those who look at the machine from outside.
    pub fn state(&self, job: JobId) -> &'static str {
        self.jobs.get(&job).map_or("Unknown", JobRun::state)
    }

    /// Where an attempt stands as this driver sees it, by the name of its state.
    pub fn state_of(&self, attempt: JobAttempt) -> &'static str {
        let run = self.jobs.get(&attempt.job);
        run.map_or("Unknown", |run| run.state_of(attempt.attempt))
    }

    /// Whether a job's run is about to end, or has.
    pub fn is_stopping(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_none_or(JobRun::is_stopping)
    }

    /// What a job waits for, if it stands still.
    pub fn stalled(&self, job: JobId) -> Option<Stall> {
        self.jobs.get(&job).and_then(JobRun::stalled)
    }

    /// Attempts of a job that failed and were, or will be, made again.
    pub fn n_retries(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, JobRun::n_retries)
    }

    /// Tasks of a job that failed and wait a moment before they are tried again.
    pub fn n_backing_off(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, JobRun::n_backing_off)
    }

    /// Backup attempts of a job's current round.
    pub fn n_backups(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, JobRun::n_backups)
    }

    /// Takes one event and appends what must be done, in order. `now` never goes back.
    pub fn on_event(&mut self, now: Millis, event: DriverEvent, effects: &mut Vec<DriverEffect>) {
        let generation = self.fleet.generation();
        let n_jobs = self.jobs.len();
        self.forgive_own_sleep(now);
        let affected = self.take(now, event, effects);
        if now >= self.next_watch {
            self.next_watch = Millis(now.0 + crate::limits::WATCH_MS);
            for worker in self.fleet.silent(now) {
                self.on_lost(now, worker, effects);
            }
            self.each_job(now, effects, JobRun::watch);
        }
        match affected {
            // Only this job's window may have opened.
            Some(job) if self.fleet.generation() == generation && self.jobs.len() == n_jobs => {
                self.with_job(now, job, effects, JobRun::go_on);
            }
            _ => self.each_job(now, effects, JobRun::go_on),
        }
        self.jobs.retain(|_, job| !job.has_ended());
        if self.jobs.len() < n_jobs {
            // The others share what the ended job had.
            self.each_job(now, effects, JobRun::go_on);
        }
        effects.extend(self.next_wake(now).map(DriverEffect::WakeAt));
    }

    /// A driver that was stopped, or busy with a step of its own, does not blame the workers for what it did not hear.
    fn forgive_own_sleep(&mut self, now: Millis) {
        let slept_ms = now.0 - self.last_event.0;
        if slept_ms > crate::limits::HEARTBEAT_MS {
            self.fleet.forgive(slept_ms);
        }
        self.last_event = now;
    }

    /// Panics if the machine reached a state it must never reach. Takes time in proportion to what is in flight.
    pub fn check_invariants(&self) {
        self.jobs
            .values()
            .for_each(|job| job.check_invariants(&self.fleet));
    }

    /// Takes the event; the only job that it is about, if there is one.
    fn take(&mut self, now: Millis, event: DriverEvent, effects: &mut Vec<DriverEffect>) -> Option<JobId> {
        match event {
            DriverEvent::Submitted(start) => {
                self.submit(now, start, effects);
                None
            }
            DriverEvent::Received(message) => self.on_report(now, message, effects),
            DriverEvent::WorkerLost(worker) => {
                self.on_lost(now, worker, effects);
                None
            }
            DriverEvent::RoundReady(job, round) => self.with_job(now, job, effects, |job, around| {
                job.on_round_ready(round.round, round.n_tasks, round.needs, around.now);
            }),
            DriverEvent::BarrierRefused(job, missing) => self.with_job(now, job, effects, |job, around| {
                job.on_barrier_refused(&missing, around);
            }),
            DriverEvent::RoundsDone(job) => self.with_job(now, job, effects, JobRun::on_rounds_done),
            DriverEvent::CommitsRead(job, tasks) => self.with_job(now, job, effects, |job, around| {
                job.on_commits_read(&tasks, around);
            }),
            DriverEvent::OutputsVerified(job, bad_tasks) => {
                self.with_job(now, job, effects, |job, around| {
                    job.on_outputs_verified(&bad_tasks, around)
                })
            }
            DriverEvent::OutputsFinished(job) => {
                self.with_job(now, job, effects, JobRun::on_outputs_finished)
            }
            DriverEvent::StepFailed(job, failure) => self.with_job(now, job, effects, |job, around| {
                job.stop(JobEnd::Failed(failure), around);
            }),
            DriverEvent::StopRequested(job, cause) => self.with_job(now, job, effects, |job, around| {
                job.stop(JobEnd::Stopped(cause), around);
            }),
            DriverEvent::LacksCode(job, worker) => self.with_job(now, job, effects, |job, _| {
                job.on_lacks_code(worker);
            }),
            DriverEvent::Tick => None,
        }
    }

    fn submit(&mut self, now: Millis, start: JobStart, effects: &mut Vec<DriverEffect>) {
        if self.jobs.contains_key(&start.job) {
            return;
        }
        if start.took_over {
            effects.push(DriverEffect::Alarm(Alarm {
                job: Some(start.job),
                kind: AlarmKind::DriverChanged { epoch: start.epoch },
            }));
        }
        self.jobs.insert(start.job, JobRun::new(start, now));
    }

    fn on_report(
        &mut self,
        now: Millis,
        message: ToDriver,
        effects: &mut Vec<DriverEffect>,
    ) -> Option<JobId> {
        let worker = message.worker;
        self.fleet.touch(now, worker);
        match message.body {
            WorkerReport::Joined { memory_bytes } => {
                self.hear(now, worker, memory_bytes, effects);
                None
            }
            WorkerReport::Heartbeat {
                memory_bytes,
                holding,
            } => {
                self.hear(now, worker, memory_bytes, effects);
                self.each_job(now, effects, |job, around| {
                    job.on_heartbeat(worker, &holding, around);
                });
                let unknown = holding
                    .iter()
                    .filter(|held| !self.jobs.contains_key(&held.attempt.job));
                effects.extend(unknown.map(|held| call_off(worker, held.attempt)));
                if self.fleet.get(worker).is_some_and(|member| member.quarantined) {
                    // It may not have heard the first time.
                    effects.push(DriverEffect::Send(worker, ToWorker::Drain));
                }
                None
            }
            WorkerReport::Took(attempt) => self.on_held(now, worker, attempt, false, effects),
            WorkerReport::Started(attempt) => self.on_held(now, worker, attempt, true, effects),
            WorkerReport::Committed(attempt) => self.with_job(now, attempt.job, effects, |job, around| {
                job.on_committed(worker, attempt.attempt, around);
            }),
            WorkerReport::Failed(attempt, failure) => {
                self.with_job(now, attempt.job, effects, |job, around| {
                    job.on_failed(worker, attempt.attempt, failure, around);
                })
            }
            WorkerReport::GaveBack(attempt) => self.with_job(now, attempt.job, effects, |job, around| {
                job.on_gave_back(attempt.attempt, around);
            }),
            WorkerReport::Left(job) => self.with_job(now, job, effects, |job, _| job.on_left(worker)),
            WorkerReport::Drained => {
                self.forget(now, worker, effects);
                None
            }
        }
    }

    fn hear(&mut self, now: Millis, worker: WorkerIdx, memory_bytes: u64, effects: &mut Vec<DriverEffect>) {
        if self.fleet.hear(now, worker, memory_bytes) {
            self.each_job(now, effects, |job, around| job.on_joined(worker, around));
        }
    }

    fn on_held(
        &mut self,
        now: Millis,
        worker: WorkerIdx,
        attempt: JobAttempt,
        started: bool,
        effects: &mut Vec<DriverEffect>,
    ) -> Option<JobId> {
        if !self.jobs.contains_key(&attempt.job) {
            effects.push(call_off(worker, attempt));
        }
        self.with_job(now, attempt.job, effects, |job, around| {
            job.on_held(worker, attempt.attempt, started, around);
        })
    }

    fn on_lost(&mut self, now: Millis, worker: WorkerIdx, effects: &mut Vec<DriverEffect>) {
        if let Some(n_attempts) = self.forget(now, worker, effects) {
            effects.push(DriverEffect::Alarm(Alarm {
                job: None,
                kind: AlarmKind::WorkerLost { worker, n_attempts },
            }));
        }
    }

    /// A worker is gone, and all that it held waits again; how much that was.
    fn forget(&mut self, now: Millis, worker: WorkerIdx, effects: &mut Vec<DriverEffect>) -> Option<u64> {
        let member = self.fleet.remove(worker)?;
        let mut n_attempts = 0;
        self.each_job(now, effects, |job, around| {
            n_attempts += job.on_lost(worker, &member.held, around);
        });
        Some(n_attempts)
    }

    fn with_job(
        &mut self,
        now: Millis,
        job: JobId,
        effects: &mut Vec<DriverEffect>,
        step: impl FnOnce(&mut JobRun, &mut Surroundings<'_>),
    ) -> Option<JobId> {
        let n_jobs = self.jobs.len();
        if let Some(run) = self.jobs.get_mut(&job) {
            let mut around = Surroundings {
                now,
                fleet: &mut self.fleet,
                effects,
                n_jobs,
            };
            step(run, &mut around);
        }
        Some(job)
    }

    fn each_job(
        &mut self,
        now: Millis,
        effects: &mut Vec<DriverEffect>,
        mut step: impl FnMut(&mut JobRun, &mut Surroundings<'_>),
    ) {
        let n_jobs = self.jobs.len();
        for run in self.jobs.values_mut() {
            let mut around = Surroundings {
                now,
                fleet: &mut self.fleet,
                effects,
                n_jobs,
            };
            step(run, &mut around);
        }
    }

    fn next_wake(&self, now: Millis) -> Option<Millis> {
        self.jobs.values().filter_map(|job| job.next_due(now)).min()
    }
}

/// Of a job that this driver does not know, or knows no more, nothing is needed.
fn call_off(worker: WorkerIdx, attempt: JobAttempt) -> DriverEffect {
    DriverEffect::Send(
        worker,
        ToWorker::CancelJob {
            job: attempt.job,
            epoch: attempt.attempt.epoch,
        },
    )
}

#[cfg(test)]
mod tests;
