//! The driver machine against scripted workers.

use super::*;
use crate::failure::Cause;
use crate::ids::{Attempt, AttemptNo};
use crate::limits;
use crate::message::Holding;
use alloc::vec;

mod code;
mod elsewhere;
mod ending;
mod hanging;
mod quarantine;
mod reporting;
mod watching;

const JOB: JobId = JobId([1; 16]);
const W0: WorkerIdx = WorkerIdx(0);
const W1: WorkerIdx = WorkerIdx(1);
const W2: WorkerIdx = WorkerIdx(2);
const GIB: u64 = 1 << 30;

fn job_of(n_tasks: u64) -> JobStart {
    JobStart {
        job: JOB,
        epoch: RunEpoch(3),
        adopts_from: RunEpoch(3),
        round: RoundIdx(0),
        n_tasks,
        needs: Needs {
            memory_bytes: GIB,
            expected_ms: 1_000,
            deadline_ms: None,
        },
        committed: vec![],
        resumed: false,
        took_over: false,
        one_machine: false,
        assign: Assign::Dynamic,
        backups: true,
        when_full: WhenFull::Stop,
        deadline: None,
        unable: Default::default(),
    }
}

fn attempt(task: u64, number: u8) -> JobAttempt {
    JobAttempt {
        job: JOB,
        attempt: Attempt {
            epoch: RunEpoch(3),
            round: RoundIdx(0),
            task: TaskIdx(task),
            attempt: AttemptNo(number),
        },
    }
}

fn shared(task: u64, number: u8) -> DriverEffect {
    DriverEffect::Release(attempt(task, number), Queue::Shared)
}

fn own(worker: WorkerIdx, task: u64, number: u8) -> DriverEffect {
    DriverEffect::Release(attempt(task, number), Queue::Worker(worker))
}

/// A driver and its time.
struct Script {
    driver: Driver,
    now: Millis,
}

impl Script {
    fn new() -> Script {
        Script {
            driver: Driver::new(),
            now: Millis(0),
        }
    }

    /// A driver with workers that have joined, and what it released of a job.
    fn with(workers: &[WorkerIdx], start: JobStart) -> (Script, Vec<DriverEffect>) {
        let mut script = Script::new();
        for worker in workers {
            script.joins(*worker);
        }
        let effects = script.step(DriverEvent::Submitted(start));
        (script, effects)
    }

    /// What an event leads to, but for wake-up times.
    fn step(&mut self, event: DriverEvent) -> Vec<DriverEffect> {
        let mut effects = Vec::new();
        self.driver.on_event(self.now, event, &mut effects);
        self.driver.check_invariants();
        effects.retain(|effect| !matches!(effect, DriverEffect::WakeAt(_)));
        effects
    }

    fn says(&mut self, worker: WorkerIdx, body: WorkerReport) -> Vec<DriverEffect> {
        self.step(DriverEvent::Received(ToDriver { worker, body }))
    }

    fn joins(&mut self, worker: WorkerIdx) -> Vec<DriverEffect> {
        self.says(
            worker,
            WorkerReport::Joined {
                memory_bytes: 2 * GIB,
            },
        )
    }

    fn beats(&mut self, worker: WorkerIdx, holding: &[(JobAttempt, bool)]) -> Vec<DriverEffect> {
        let holding = holding.iter().map(|(attempt, started)| Holding {
            attempt: *attempt,
            started: *started,
        });
        let report = WorkerReport::Heartbeat {
            memory_bytes: 2 * GIB,
            holding: holding.collect(),
        };
        self.says(worker, report)
    }

    /// Time passes, and these workers go on saying that they hold these.
    fn wait(&mut self, ms: u64, holding: &[(WorkerIdx, &[(JobAttempt, bool)])]) -> Vec<DriverEffect> {
        let until = self.now.0 + ms;
        let mut effects = vec![];
        while self.now.0 < until {
            self.now = Millis(until.min(self.now.0 + limits::WATCH_MS));
            for (worker, holding) in holding {
                effects.extend(self.beats(*worker, holding));
            }
            effects.extend(self.step(DriverEvent::Tick));
        }
        effects
    }

    fn commits(&mut self, worker: WorkerIdx, attempt: JobAttempt) -> Vec<DriverEffect> {
        let mut effects = self.says(worker, WorkerReport::Started(attempt));
        effects.extend(self.says(worker, WorkerReport::Committed(attempt)));
        effects
    }

    fn commits_after(&mut self, ms: u64, worker: WorkerIdx, attempt: JobAttempt) -> Vec<DriverEffect> {
        self.says(worker, WorkerReport::Started(attempt));
        self.now = Millis(self.now.0 + ms);
        self.says(worker, WorkerReport::Committed(attempt))
    }

    fn fails(&mut self, worker: WorkerIdx, attempt: JobAttempt, failure: &Failure) -> Vec<DriverEffect> {
        self.says(worker, WorkerReport::Failed(attempt, failure.clone()))
    }
}

fn alarms(effects: &[DriverEffect]) -> Vec<&'static str> {
    let alarm = |effect: &DriverEffect| match effect {
        DriverEffect::Alarm(alarm) => Some(alarm.name()),
        _ => None,
    };
    effects.iter().filter_map(alarm).collect()
}

fn releases(effects: &[DriverEffect]) -> Vec<DriverEffect> {
    let releases = effects
        .iter()
        .filter(|effect| matches!(effect, DriverEffect::Release(..)));
    releases.cloned().collect()
}

fn drain(worker: WorkerIdx) -> DriverEffect {
    DriverEffect::Send(worker, ToWorker::Drain)
}

fn cancel(worker: WorkerIdx) -> DriverEffect {
    let epoch = RunEpoch(3);
    DriverEffect::Send(worker, ToWorker::CancelJob { job: JOB, epoch })
}

// --- rounds ------------------------------------------------------------------------------------------------------

#[test]
fn a_round_ends_when_every_task_is_committed_and_not_before() {
    let (mut script, effects) = Script::with(&[W0], job_of(4));
    assert_eq!(effects, [shared(0, 0), shared(1, 0), shared(2, 0)]);
    assert_eq!(script.commits(W0, attempt(0, 0)), [shared(3, 0)]);
    assert!(script.commits(W0, attempt(1, 0)).is_empty());
    assert!(script.commits(W0, attempt(3, 0)).is_empty());
    assert_eq!(
        script.commits(W0, attempt(2, 0)),
        [DriverEffect::Advance(JOB, RoundIdx(0))]
    );
    assert_eq!(
        script.step(DriverEvent::RoundsDone(JOB)),
        [DriverEffect::FinishOutputs(JOB)]
    );
    assert_eq!(
        script.step(DriverEvent::OutputsFinished(JOB)),
        [DriverEffect::End(JOB, JobEnd::Done)]
    );
}

#[test]
fn a_job_without_tasks_advances_at_once() {
    let (_, effects) = Script::with(&[], job_of(0));
    assert_eq!(effects, [DriverEffect::Advance(JOB, RoundIdx(0))]);
}

#[test]
fn a_barrier_that_lacks_commits_sends_their_tasks_out_again() {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    script.commits(W0, attempt(0, 0));
    script.commits(W0, attempt(1, 0));
    let effects = script.step(DriverEvent::BarrierRefused(JOB, vec![TaskIdx(1)]));
    assert_eq!(alarms(&effects), ["commit-missing"]);
    assert_eq!(releases(&effects), [shared(1, 1)]);
}

#[test]
fn the_next_round_has_its_own_tasks() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    script.commits(W0, attempt(0, 0));
    let round = Round {
        round: RoundIdx(1),
        n_tasks: 2,
        needs: job_of(0).needs,
    };
    let effects = script.step(DriverEvent::RoundReady(JOB, round));
    assert_eq!(releases(&effects).len(), 2);
    assert!(
        script
            .commits(W0, attempt(0, 0))
            .iter()
            .all(|effect| *effect == DriverEffect::Send(W0, ToWorker::Abandon(attempt(0, 0))))
    );
    assert_eq!(script.driver.tasks(JOB).map(TaskTable::n_committed), Some(0));
    assert_eq!(script.driver.round(JOB), Some(RoundIdx(1)));
    assert_eq!(script.driver.round(JobId([2; 16])), None);
}

#[test]
fn a_resumed_job_runs_only_what_is_missing_and_reads_everything_back() {
    let start = JobStart {
        committed: vec![TaskIdx(0), TaskIdx(2)],
        resumed: true,
        ..job_of(3)
    };
    let (mut script, effects) = Script::with(&[W0], start);
    assert_eq!(effects, [shared(1, 0)]);
    script.commits(W0, attempt(1, 0));
    assert_eq!(
        script.step(DriverEvent::RoundsDone(JOB)),
        [DriverEffect::VerifyOutputs(JOB)]
    );
    let effects = script.step(DriverEvent::OutputsVerified(JOB, vec![TaskIdx(2)]));
    assert_eq!(effects, [shared(2, 0)]);
    script.commits(W0, attempt(2, 0));
    assert_eq!(
        script.step(DriverEvent::RoundsDone(JOB)),
        [DriverEffect::VerifyOutputs(JOB)]
    );
    assert_eq!(
        script.step(DriverEvent::OutputsVerified(JOB, vec![])),
        [DriverEffect::FinishOutputs(JOB)]
    );
}

#[test]
fn a_commit_of_another_run_or_round_does_not_count() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    let mut stale = attempt(0, 0);
    stale.attempt.epoch = RunEpoch(2);
    script.says(W0, WorkerReport::Committed(stale));
    let mut elsewhere = attempt(0, 0);
    elsewhere.attempt.round = RoundIdx(1);
    script.says(W0, WorkerReport::Committed(elsewhere));
    assert_eq!(script.driver.tasks(JOB).map(TaskTable::n_committed), Some(0));
}

// --- failures ----------------------------------------------------------------------------------------------------

#[test]
fn a_retry_waits_longer_each_time_and_ends_the_job_at_its_limit() {
    let start = JobStart {
        one_machine: true,
        ..job_of(1)
    };
    let (mut script, _) = Script::with(&[W0], start);
    let failure = Failure::retry(Cause::Storage, "flaky");
    let mut waited = vec![];
    for number in 0..limits::ATTEMPTS_MAX_RETRY - 1 {
        let effects = script.fails(W0, attempt(0, number), &failure);
        let [DriverEffect::Alarm(alarm)] = &effects[..] else {
            panic!("{effects:?}")
        };
        let AlarmKind::TaskRetried { delay_ms, .. } = alarm.kind else {
            panic!("{alarm:?}")
        };
        waited.push(delay_ms);
        script.now = Millis(script.now.0 + delay_ms - 1);
        assert!(script.step(DriverEvent::Tick).is_empty(), "not before its time");
        script.now = Millis(script.now.0 + 1);
        assert_eq!(script.step(DriverEvent::Tick), [shared(0, number + 1)]);
    }
    assert_eq!(waited, [100, 200, 400, limits::BACKOFF_MAX_MS]);
    assert_eq!(script.driver.n_retries(JOB), waited.len() as u64);
    let last = attempt(0, limits::ATTEMPTS_MAX_RETRY - 1);
    let effects = script.fails(W0, last, &failure);
    assert_eq!(alarms(&effects), ["poison-task"]);
    let effects = script.says(W0, WorkerReport::Left(JOB));
    assert_eq!(effects, [DriverEffect::End(JOB, JobEnd::Failed(failure))]);
}

/// One worker had no access to the inputs, was always first to ask, and failed the same task until that failed the job.
#[test]
fn r3_a_retry_goes_to_another_worker() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(1));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    script.fails(W0, attempt(0, 0), &Failure::retry(Cause::Storage, "no such file"));
    script.now = Millis(script.now.0 + limits::BACKOFF_FIRST_MS);
    assert_eq!(script.step(DriverEvent::Tick), [own(W1, 0, 1)]);
}

#[test]
fn the_driver_wakes_for_a_back_off_and_to_watch() {
    let taken_over = JobStart {
        took_over: true,
        ..job_of(1)
    };
    let mut script = Script::new();
    let mut effects = vec![];
    script
        .driver
        .on_event(script.now, DriverEvent::Submitted(taken_over), &mut effects);
    let watch = DriverEffect::WakeAt(Millis(limits::WATCH_MS));
    assert_eq!(effects.pop(), Some(watch.clone()), "while it listens");
    let (mut script, _) = Script::with(&[W0], job_of(1));
    let mut wakes = |event| {
        let mut effects = vec![];
        script.driver.on_event(script.now, event, &mut effects);
        effects.pop()
    };
    assert_eq!(wakes(DriverEvent::Tick), Some(watch));
    let body = WorkerReport::Failed(attempt(0, 0), Failure::retry(Cause::Storage, "flaky"));
    let failed = DriverEvent::Received(ToDriver { worker: W0, body });
    let back_off = DriverEffect::WakeAt(Millis(limits::BACKOFF_FIRST_MS));
    assert_eq!(wakes(failed), Some(back_off));
}

#[test]
fn a_fatal_failure_is_not_retried() {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    let failure = Failure::fatal(Cause::DiskFull, "full");
    assert_eq!(script.fails(W0, attempt(0, 0), &failure), [cancel(W0)]);
    script.says(W0, WorkerReport::GaveBack(attempt(1, 0)));
    assert_eq!(
        script.says(W0, WorkerReport::Left(JOB)),
        [DriverEffect::End(JOB, JobEnd::Failed(failure))]
    );
}

#[test]
fn a_job_that_may_wait_for_space_does() {
    let start = JobStart {
        when_full: WhenFull::Wait,
        ..job_of(1)
    };
    let (mut script, _) = Script::with(&[W0], start);
    let failure = Failure::fatal(Cause::DiskFull, "full");
    assert_eq!(alarms(&script.fails(W0, attempt(0, 0), &failure)), ["disk-low"]);
    assert!(releases(&script.wait(limits::DISK_FULL_WAIT_MS - 1, &[(W0, &[])])).is_empty());
    assert_eq!(releases(&script.wait(1, &[(W0, &[])])), [shared(0, 1)]);
}

#[test]
fn what_failed_its_check_runs_elsewhere() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(1));
    script.fails(W0, attempt(0, 0), &Failure::corrupt("wrong"));
    script.now = Millis(limits::BACKOFF_FIRST_MS);
    assert_eq!(script.step(DriverEvent::Tick), [own(W1, 0, 1)]);
}

#[test]
fn a_task_that_takes_its_workers_down_ends_the_job() {
    let (mut script, _) = Script::with(&[W0, W1, W2], job_of(1));
    let mut effects = vec![];
    for (number, worker) in [W0, W1, W2].into_iter().enumerate() {
        script.says(worker, WorkerReport::Started(attempt(0, number as u8)));
        effects = script.step(DriverEvent::WorkerLost(worker));
    }
    assert!(alarms(&effects).contains(&"poison-task"), "{effects:?}");
}

// --- workers -----------------------------------------------------------------------------------------------------

#[test]
fn a_lost_workers_tasks_are_released_again() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    let effects = script.step(DriverEvent::WorkerLost(W0));
    assert_eq!(alarms(&effects), ["worker-lost"]);
    assert!(releases(&effects).is_empty(), "nobody is there to take it");
    assert_eq!(script.joins(W0), [shared(0, 1)]);
}

#[test]
fn a_worker_that_falls_silent_counts_as_lost() {
    let mut start = job_of(1);
    start.needs.expected_ms = 60_000;
    let (mut script, _) = Script::with(&[W0, W1], start);
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    let effects = script.wait(limits::WORKER_LOST_MS - limits::WATCH_MS, &[(W1, &[])]);
    assert!(alarms(&effects).is_empty());
    let effects = script.wait(2 * limits::WATCH_MS, &[(W1, &[])]);
    assert_eq!(alarms(&effects), ["worker-lost"]);
    assert_eq!(releases(&effects), [shared(0, 1)]);
    // It wakes, and nobody needs what it has.
    let effects = script.beats(W0, &[(attempt(0, 0), true)]);
    assert!(effects.contains(&DriverEffect::Send(W0, ToWorker::Abandon(attempt(0, 0)))));
}

#[test]
fn a_driver_that_slept_does_not_blame_the_workers() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    script.now = Millis(10 * limits::WORKER_LOST_MS);
    assert!(script.step(DriverEvent::Tick).is_empty());
    let effects = script.wait(limits::WORKER_LOST_MS, &[]);
    assert_eq!(
        alarms(&effects)[0],
        "worker-lost",
        "but a silence that it hears counts"
    );
}

#[test]
fn a_task_whose_taker_never_spoke_is_released_again() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(1));
    let effects = script.wait(limits::UNCLAIMED_MS, &[(W0, &[]), (W1, &[])]);
    assert_eq!(releases(&effects), [shared(0, 1)]);
}

#[test]
fn a_commit_whose_report_got_lost_is_found_in_the_journal() {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    script.says(W0, WorkerReport::Started(attempt(1, 0)));
    let effects = script.wait(2 * limits::HEARTBEAT_MS, &[(W0, &[])]);
    assert_eq!(effects, [DriverEffect::ReadCommits(JOB, RoundIdx(0))]);
    let effects = script.step(DriverEvent::CommitsRead(JOB, vec![TaskIdx(1)]));
    assert_eq!(effects, [shared(0, 1)], "the other attempt is lost");
}

#[test]
fn tasks_need_workers_with_the_memory_for_them() {
    let mut start = job_of(1);
    start.needs.memory_bytes = 3 * GIB;
    let (mut script, effects) = Script::with(&[W0], start);
    assert!(effects.is_empty());
    let effects = script.wait(limits::STALL_ALARM_MS, &[(W0, &[])]);
    assert_eq!(alarms(&effects), ["job-stalled"]);
    let stall = Stall::NoWorkerFits {
        needed_bytes: 3 * GIB,
        largest_bytes: 2 * GIB,
    };
    assert_eq!(script.driver.stalled(JOB), Some(stall));
    let joined = WorkerReport::Joined {
        memory_bytes: 4 * GIB,
    };
    // In the shared queue the other one would find it.
    assert_eq!(script.says(W1, joined), [own(W1, 0, 0)]);
    assert!(alarms(&script.commits(W1, attempt(0, 0))).contains(&"job-goes-on"));
}

#[test]
fn a_job_without_workers_says_what_it_waits_for() {
    let (mut script, _) = Script::with(&[], job_of(1));
    assert_eq!(alarms(&script.wait(limits::STALL_ALARM_MS, &[])), ["job-stalled"]);
    assert_eq!(script.driver.stalled(JOB), Some(Stall::NoWorkers));
    assert!(
        alarms(&script.wait(limits::STALL_ALARM_MS, &[])).is_empty(),
        "once"
    );
}

#[test]
fn jobs_share_the_workers() {
    let (mut script, effects) = Script::with(&[W0, W1], job_of(100));
    assert_eq!(releases(&effects).len(), 6);
    let other = JobStart {
        job: JobId([2; 16]),
        ..job_of(100)
    };
    assert_eq!(releases(&script.step(DriverEvent::Submitted(other))).len(), 3);
    for task in 0..3 {
        let effects = script.commits_after(1_000, W0, attempt(task, 0));
        assert!(
            releases(&effects).is_empty(),
            "the first job has more than its share"
        );
    }
    let effects = script.commits_after(1_000, W0, attempt(3, 0));
    assert_eq!(releases(&effects).len(), 1);
}

// --- slow workers ------------------------------------------------------------------------------------------------

#[test]
fn a_straggler_is_backed_up_by_an_idle_worker_and_the_first_commit_wins() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(2));
    let (slow, quick, backup) = (attempt(0, 0), attempt(1, 0), attempt(0, 1));
    script.says(W0, WorkerReport::Started(slow));
    script.says(W1, WorkerReport::Started(quick));
    script.now = Millis(1_000);
    script.says(W1, WorkerReport::Committed(quick));
    let effects = script.wait(400, &[(W0, &[(slow, true)]), (W1, &[])]);
    assert!(releases(&effects).is_empty(), "not late yet");
    let effects = script.wait(600, &[(W0, &[(slow, true)]), (W1, &[])]);
    assert_eq!(releases(&effects), [own(W1, 0, 1)]);
    assert_eq!(script.driver.n_backups(JOB), 1);
    let effects = script.commits(W1, backup);
    assert_eq!(
        effects,
        [
            DriverEffect::Send(W0, ToWorker::Abandon(slow)),
            DriverEffect::Advance(JOB, RoundIdx(0))
        ]
    );
    assert!(script.says(W0, WorkerReport::Committed(slow)).is_empty());
}

/// A task that W0 is slow at and W1 backs up: both attempts run.
fn backed_up() -> (Script, JobAttempt, JobAttempt) {
    let (mut script, _) = Script::with(&[W0, W1], job_of(1));
    let (slow, backup) = (attempt(0, 0), attempt(0, 1));
    script.says(W0, WorkerReport::Started(slow));
    let effects = script.wait(2_000, &[(W0, &[(slow, true)]), (W1, &[])]);
    assert_eq!(releases(&effects), [own(W1, 0, 1)]);
    script.says(W1, WorkerReport::Started(backup));
    (script, slow, backup)
}

#[test]
fn a_backup_that_is_lost_leaves_the_first_attempt_alone() {
    let (mut script, slow, _) = backed_up();
    let effects = script.step(DriverEvent::WorkerLost(W1));
    assert!(releases(&effects).is_empty());
    assert_eq!(
        script.says(W0, WorkerReport::Committed(slow)),
        [DriverEffect::Advance(JOB, RoundIdx(0))]
    );
}

#[test]
fn a_straggler_that_is_missing_leaves_its_backup_alone() {
    let (mut script, _, backup) = backed_up();
    let effects = script.wait(limits::HEARTBEAT_MS, &[(W0, &[]), (W1, &[(backup, true)])]);
    assert_eq!(effects, [DriverEffect::ReadCommits(JOB, RoundIdx(0))]);
    assert!(script.step(DriverEvent::CommitsRead(JOB, vec![])).is_empty());
    let effects = script.says(W1, WorkerReport::Committed(backup));
    assert_eq!(effects, [DriverEffect::Advance(JOB, RoundIdx(0))]);
}

#[test]
fn what_was_taken_ahead_is_recalled_for_idle_workers() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(2));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    script.says(W0, WorkerReport::Took(attempt(1, 0)));
    let holding = [(attempt(0, 0), true), (attempt(1, 0), false)];
    let effects = script.wait(limits::WATCH_MS, &[(W0, &holding), (W1, &[])]);
    assert_eq!(effects, [DriverEffect::Send(W0, ToWorker::Recall(attempt(1, 0)))]);
    let effects = script.says(W0, WorkerReport::GaveBack(attempt(1, 0)));
    assert_eq!(
        effects,
        [own(W1, 1, 1)],
        "not to W0 again, which has room for it now"
    );
}

// --- round-robin -------------------------------------------------------------------------------------------------

fn round_robin(n_tasks: u64, n_workers: u32) -> JobStart {
    JobStart {
        assign: Assign::RoundRobin { n_workers },
        ..job_of(n_tasks)
    }
}

#[test]
fn round_robin_deals_when_all_are_there() {
    let (mut script, effects) = Script::with(&[W0], round_robin(8, 2));
    assert!(effects.is_empty());
    let dealt = [
        own(W0, 0, 0),
        own(W0, 2, 0),
        own(W0, 4, 0),
        own(W1, 1, 0),
        own(W1, 3, 0),
        own(W1, 5, 0),
    ];
    assert_eq!(script.joins(W1), dealt);
    assert_eq!(script.commits(W0, attempt(0, 0)), [own(W0, 6, 0)]);
    assert!(script.commits(W0, attempt(2, 0)).is_empty(), "nothing is stolen");
}

#[test]
fn round_robin_does_not_wait_for_ever() {
    let (mut script, _) = Script::with(&[W0], round_robin(3, 2));
    let effects = script.wait(limits::DEAL_WAIT_MS, &[(W0, &[])]);
    assert_eq!(releases(&effects).len(), 3);
}

#[test]
fn round_robin_waits_for_nobody_who_is_there_and_too_small() {
    let mut script = Script::new();
    script.joins(W0);
    script.says(W1, WorkerReport::Joined { memory_bytes: 1 });
    let effects = script.step(DriverEvent::Submitted(round_robin(3, 2)));
    assert_eq!(releases(&effects), [own(W0, 0, 0), own(W0, 1, 0), own(W0, 2, 0)]);
}

#[test]
fn a_lost_workers_share_and_what_it_held_are_dealt_again() {
    let (mut script, _) = Script::with(&[W0, W1], round_robin(12, 2));
    script.step(DriverEvent::WorkerLost(W1));
    let mut done = vec![];
    let mut next = vec![attempt(0, 0), attempt(2, 0), attempt(4, 0)];
    while let Some(attempt) = next.pop() {
        done.push(attempt.attempt.task.0);
        for effect in script.commits(W0, attempt) {
            match effect {
                DriverEffect::Release(attempt, Queue::Worker(W0)) => next.push(attempt),
                DriverEffect::Advance(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    done.sort_unstable();
    assert_eq!(done, (0..12).collect::<Vec<_>>());
}

// --- another driver ----------------------------------------------------------------------------------------------

#[test]
fn a_driver_that_takes_over_adopts_what_workers_hold_and_releases_the_rest() {
    let start = JobStart {
        epoch: RunEpoch(4),
        committed: vec![TaskIdx(0)],
        resumed: true,
        took_over: true,
        ..job_of(3)
    };
    let mut script = Script::new();
    let effects = script.step(DriverEvent::Submitted(start));
    assert_eq!(alarms(&effects), ["driver-changed"]);
    let held = attempt(1, 0);
    let effects = script.wait(limits::TAKE_OVER_LISTEN_MS, &[(W0, &[(held, true)])]);
    let mut rest = attempt(2, 0);
    rest.attempt.epoch = RunEpoch(4);
    assert_eq!(releases(&effects), [DriverEffect::Release(rest, Queue::Shared)]);
    script.says(W0, WorkerReport::Committed(held));
    assert_eq!(
        script.commits(W0, rest),
        [DriverEffect::Advance(JOB, RoundIdx(0))]
    );
}

#[test]
fn a_worker_that_holds_something_of_an_unknown_job_is_told_to_stop() {
    let mut script = Script::new();
    script.joins(W0);
    assert_eq!(
        script.says(W0, WorkerReport::Started(attempt(0, 0))),
        [cancel(W0)]
    );
    assert_eq!(script.beats(W0, &[(attempt(0, 0), true)]), [cancel(W0)]);
}
