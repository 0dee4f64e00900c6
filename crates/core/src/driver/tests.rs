//! The driver machine against scripted workers.

use super::*;
use crate::ids::AttemptNo;
use alloc::vec;

/// A driver with one joined worker, and a memory of what it asked for.
struct Script {
    driver: Driver,
    now: Millis,
}

impl Script {
    fn new(n_tasks: u64, committed: &[u64]) -> (Script, Vec<DriverEffect>) {
        let start = DriverStart {
            epoch: RunEpoch(3),
            round: RoundIdx(0),
            n_tasks,
            committed: committed.iter().map(|task| TaskIdx(*task)).collect(),
            resumed: !committed.is_empty(),
        };
        let mut script = Script {
            driver: Driver::new(&start),
            now: Millis(0),
        };
        let effects = script.report(WorkerReport::Joined);
        (script, effects)
    }

    fn step(&mut self, event: DriverEvent) -> Vec<DriverEffect> {
        let mut effects = Vec::new();
        self.driver.on_event(self.now, event, &mut effects);
        effects
    }

    fn report(&mut self, body: WorkerReport) -> Vec<DriverEffect> {
        self.step(DriverEvent::Received(ToDriver {
            worker: WorkerIdx(0),
            body,
        }))
    }
}

fn attempt(task: u64, number: u8) -> Attempt {
    Attempt {
        epoch: RunEpoch(3),
        round: RoundIdx(0),
        task: TaskIdx(task),
        attempt: AttemptNo(number),
    }
}

#[test]
fn a_round_ends_when_every_task_is_committed_and_not_before() {
    let (mut script, effects) = Script::new(3, &[]);
    assert_eq!(
        effects,
        [
            DriverEffect::Release(attempt(0, 0)),
            DriverEffect::Release(attempt(1, 0))
        ]
    );
    assert_eq!(
        script.report(WorkerReport::Committed(attempt(0, 0))),
        [DriverEffect::Release(attempt(2, 0))]
    );
    assert!(script.report(WorkerReport::Committed(attempt(1, 0))).is_empty());
    assert_eq!(
        script.report(WorkerReport::Committed(attempt(2, 0))),
        [DriverEffect::Advance(RoundIdx(0))]
    );
    assert_eq!(
        script.step(DriverEvent::RoundsDone),
        [DriverEffect::FinishOutputs]
    );
    let effects = script.step(DriverEvent::OutputsFinished);
    assert_eq!(effects.last(), Some(&DriverEffect::End(JobEnd::Done)));
}

#[test]
fn a_job_without_tasks_advances_at_once() {
    let (_, effects) = Script::new(0, &[]);
    assert_eq!(effects, [DriverEffect::Advance(RoundIdx(0))]);
}

#[test]
fn a_resumed_job_runs_only_what_is_missing_and_reads_everything_back() {
    let (mut script, effects) = Script::new(3, &[0, 2]);
    assert_eq!(effects, [DriverEffect::Release(attempt(1, 0))]);
    script.report(WorkerReport::Committed(attempt(1, 0)));
    assert_eq!(
        script.step(DriverEvent::RoundsDone),
        [DriverEffect::VerifyOutputs]
    );
    let effects = script.step(DriverEvent::OutputsVerified(vec![TaskIdx(2)]));
    assert_eq!(effects, [DriverEffect::Release(attempt(2, 0))]);
    script.report(WorkerReport::Committed(attempt(2, 0)));
    assert_eq!(
        script.step(DriverEvent::RoundsDone),
        [DriverEffect::VerifyOutputs]
    );
    assert_eq!(
        script.step(DriverEvent::OutputsVerified(vec![])),
        [DriverEffect::FinishOutputs]
    );
}

#[test]
fn a_commit_of_another_run_or_round_does_not_count() {
    let (mut script, _) = Script::new(1, &[]);
    let stale = Attempt {
        epoch: RunEpoch(2),
        ..attempt(0, 0)
    };
    assert!(script.report(WorkerReport::Committed(stale)).is_empty());
    let elsewhere = Attempt {
        round: RoundIdx(1),
        ..attempt(0, 0)
    };
    assert!(script.report(WorkerReport::Committed(elsewhere)).is_empty());
    assert_eq!(script.driver.tasks().n_committed(), 0);
}

#[test]
fn a_retry_waits_longer_each_time_and_ends_the_job_at_its_limit() {
    let (mut script, _) = Script::new(1, &[]);
    let failure = Failure::retry(Cause::Storage, "flaky");
    let mut waited = vec![];
    for number in 0..limits::ATTEMPTS_MAX_RETRY - 1 {
        let effects = script.report(WorkerReport::Failed(attempt(0, number), failure.clone()));
        let DriverEffect::WakeAt(at) = effects[0] else {
            panic!("{effects:?}")
        };
        assert_eq!(effects.len(), 1, "not released before its time");
        waited.push(at.0 - script.now.0);
        script.now = at;
        assert_eq!(
            script.step(DriverEvent::Tick),
            [DriverEffect::Release(attempt(0, number + 1))]
        );
    }
    assert_eq!(waited, [100, 200, 400, 800]);
    let last = attempt(0, limits::ATTEMPTS_MAX_RETRY - 1);
    script.report(WorkerReport::Failed(last, failure.clone()));
    let effects = script.report(WorkerReport::Drained);
    assert_eq!(effects, [DriverEffect::End(JobEnd::Failed(failure))]);
}

#[test]
fn a_fatal_failure_is_not_retried() {
    let (mut script, _) = Script::new(2, &[]);
    let failure = Failure::fatal(Cause::DiskFull, "full");
    let effects = script.report(WorkerReport::Failed(attempt(0, 0), failure.clone()));
    assert_eq!(effects, [DriverEffect::Send(WorkerIdx(0), ToWorker::Cancel)]);
    script.report(WorkerReport::GaveBack(attempt(1, 0)));
    assert_eq!(
        script.report(WorkerReport::Drained),
        [DriverEffect::End(JobEnd::Failed(failure))]
    );
}

#[test]
fn a_lost_workers_tasks_are_released_again() {
    let (mut script, _) = Script::new(2, &[]);
    script.report(WorkerReport::Started(attempt(0, 0)));
    assert!(
        script.step(DriverEvent::WorkerLost(WorkerIdx(0))).is_empty(),
        "nobody is there to take it"
    );
    assert_eq!(
        script.report(WorkerReport::Joined),
        [DriverEffect::Release(attempt(0, 1))]
    );
}

#[test]
fn a_stop_waits_for_the_workers_and_keeps_their_last_commit() {
    let (mut script, _) = Script::new(2, &[]);
    let effects = script.step(DriverEvent::StopRequested(StopCause::Interrupted));
    assert_eq!(effects, [DriverEffect::Send(WorkerIdx(0), ToWorker::Cancel)]);
    assert!(script.report(WorkerReport::Committed(attempt(0, 0))).is_empty());
    let effects = script.report(WorkerReport::Drained);
    assert_eq!(
        effects,
        [DriverEffect::End(JobEnd::Stopped(StopCause::Interrupted))]
    );
    assert_eq!(script.driver.tasks().n_committed(), 1);
}
