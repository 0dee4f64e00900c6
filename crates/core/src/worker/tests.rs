//! The worker machine against a scripted engine.

use super::*;
use crate::ids::{Attempt, AttemptNo, RoundIdx, TaskIdx};
use alloc::vec;

mod deadlines;

const JOB: JobId = JobId([7; 16]);

fn attempt(task: u64) -> JobAttempt {
    of_run(1, task)
}

fn of_run(epoch: u32, task: u64) -> JobAttempt {
    JobAttempt {
        job: JOB,
        attempt: Attempt {
            epoch: RunEpoch(epoch),
            round: RoundIdx(0),
            task: TaskIdx(task),
            attempt: AttemptNo(0),
        },
    }
}

fn step_at(worker: &mut Worker, now: u64, event: WorkerEvent) -> Vec<WorkerEffect> {
    let mut effects = Vec::new();
    worker.on_event(Millis(now), event, &mut effects);
    worker.check_invariants();
    effects.retain(|effect| !matches!(effect, WorkerEffect::WakeAt(_)));
    effects
}

fn step(worker: &mut Worker, event: WorkerEvent) -> Vec<WorkerEffect> {
    step_at(worker, 0, event)
}

fn says(report: WorkerReport) -> WorkerEffect {
    WorkerEffect::Send(ToDriver {
        worker: WorkerIdx(0),
        body: report,
    })
}

fn connected(looks_ahead: bool) -> Worker {
    let mut worker = Worker::new(WorkerStart {
        worker: WorkerIdx(0),
        memory_bytes: 100,
        looks_ahead,
    });
    let effects = step(&mut worker, WorkerEvent::Connected);
    assert_eq!(
        effects,
        [
            says(WorkerReport::Joined { memory_bytes: 100 }),
            WorkerEffect::Fetch
        ]
    );
    worker
}

#[test]
fn a_task_is_acknowledged_only_after_output_and_record_are_durable() {
    let mut worker = connected(false);
    let a = attempt(0);
    assert_eq!(
        step(&mut worker, WorkerEvent::Assigned(a)),
        [says(WorkerReport::Started(a)), WorkerEffect::Run(a)]
    );
    assert_eq!(
        step(&mut worker, WorkerEvent::RunEnded(a, Ok(()))),
        [WorkerEffect::WriteOutput(a), WorkerEffect::Fetch]
    );
    assert_eq!(
        step(&mut worker, WorkerEvent::OutputDurable(a, Ok(()))),
        [WorkerEffect::AppendCommit(a)]
    );
    assert_eq!(
        step(&mut worker, WorkerEvent::CommitDurable(a, Ok(()))),
        [WorkerEffect::Ack(a), says(WorkerReport::Committed(a))]
    );
}

#[test]
fn what_fails_on_its_way_is_reported_and_the_queue_keeps_nothing_of_it() {
    let mut worker = connected(false);
    let a = attempt(0);
    let failure = Failure::retry(Cause::Storage, "flaky");
    let failed = |event: fn(JobAttempt, Result<(), Failure>) -> WorkerEvent| event(a, Err(failure.clone()));
    let steps = [
        failed(WorkerEvent::RunEnded),
        failed(WorkerEvent::OutputDurable),
        failed(WorkerEvent::CommitDurable),
    ];
    for (n_before, fails) in steps.into_iter().enumerate() {
        step(&mut worker, WorkerEvent::Assigned(a));
        let before = [
            WorkerEvent::RunEnded(a, Ok(())),
            WorkerEvent::OutputDurable(a, Ok(())),
        ];
        for event in before.into_iter().take(n_before) {
            step(&mut worker, event);
        }
        let effects = step(&mut worker, fails);
        let report = says(WorkerReport::Failed(a, failure.clone()));
        assert_eq!(effects[..2], [WorkerEffect::Ack(a), report]);
    }
}

#[test]
fn repeated_events_do_nothing_twice() {
    let mut worker = connected(false);
    let a = attempt(0);
    step(&mut worker, WorkerEvent::Assigned(a));
    assert!(step(&mut worker, WorkerEvent::Assigned(a)).is_empty());
    for event in [
        WorkerEvent::RunEnded(a, Ok(())),
        WorkerEvent::OutputDurable(a, Ok(())),
        WorkerEvent::CommitDurable(a, Ok(())),
    ] {
        assert!(!step(&mut worker, event.clone()).is_empty());
        assert!(step(&mut worker, event).is_empty());
    }
}

#[test]
fn a_task_of_an_earlier_run_is_not_executed() {
    let mut worker = connected(false);
    step(&mut worker, WorkerEvent::Assigned(of_run(2, 0)));
    step(&mut worker, WorkerEvent::RunEnded(of_run(2, 0), Ok(())));
    let stale = of_run(1, 1);
    assert_eq!(
        step(&mut worker, WorkerEvent::Assigned(stale)),
        [WorkerEffect::Ack(stale), WorkerEffect::Fetch]
    );
}

#[test]
fn cancelling_gives_the_running_task_back_and_commits_the_computed_one() {
    let mut worker = connected(false);
    let (a, b) = (attempt(0), attempt(1));
    step(&mut worker, WorkerEvent::Assigned(a));
    step(&mut worker, WorkerEvent::RunEnded(a, Ok(())));
    step(&mut worker, WorkerEvent::Assigned(b));
    let cancel = WorkerEvent::Received(ToWorker::CancelJob {
        job: JOB,
        epoch: RunEpoch(1),
    });
    assert_eq!(step(&mut worker, cancel), [WorkerEffect::CancelRun(b)]);
    let effects = step(&mut worker, WorkerEvent::RunEnded(b, Err(Failure::cancelled())));
    assert_eq!(
        effects[..2],
        [WorkerEffect::Ack(b), says(WorkerReport::GaveBack(b))]
    );
    step(&mut worker, WorkerEvent::OutputDurable(a, Ok(())));
    let effects = step(&mut worker, WorkerEvent::CommitDurable(a, Ok(())));
    assert!(effects.contains(&says(WorkerReport::Left(JOB))), "{effects:?}");
    let effects = step(&mut worker, WorkerEvent::Assigned(attempt(2)));
    assert_eq!(
        effects[..2],
        [
            WorkerEffect::Ack(attempt(2)),
            says(WorkerReport::GaveBack(attempt(2)))
        ]
    );
}

#[test]
fn a_cancel_of_an_earlier_run_is_too_late() {
    let mut worker = connected(false);
    step(&mut worker, WorkerEvent::Assigned(of_run(2, 0)));
    let cancel = WorkerEvent::Received(ToWorker::CancelJob {
        job: JOB,
        epoch: RunEpoch(1),
    });
    assert!(step(&mut worker, cancel).is_empty());
}

#[test]
fn uncommitted_outputs_are_bounded() {
    for looks_ahead in [false, true] {
        let mut worker = connected(looks_ahead);
        let mut n_runs = 0;
        for task in 0..4 {
            let effects = step(&mut worker, WorkerEvent::Assigned(attempt(task)));
            n_runs += effects
                .iter()
                .filter(|effect| matches!(effect, WorkerEffect::Run(_)))
                .count();
            step(&mut worker, WorkerEvent::RunEnded(attempt(task), Ok(())));
        }
        assert_eq!(n_runs, 2);
    }
}

/// Short tasks go on while their records wait for a sync, and share it.
#[test]
fn records_that_wait_for_their_sync_hold_nobody_up_until_they_are_many() {
    let mut worker = connected(false);
    for task in 0..UNSYNCED_MAX as u64 {
        step(&mut worker, WorkerEvent::Assigned(attempt(task)));
        step(&mut worker, WorkerEvent::RunEnded(attempt(task), Ok(())));
        let effects = step(&mut worker, WorkerEvent::OutputDurable(attempt(task), Ok(())));
        assert!(effects.contains(&WorkerEffect::AppendCommit(attempt(task))));
    }
    let next = attempt(UNSYNCED_MAX as u64);
    assert!(step(&mut worker, WorkerEvent::Assigned(next)).is_empty());
    let effects = step(&mut worker, WorkerEvent::CommitDurable(attempt(0), Ok(())));
    assert!(effects.contains(&WorkerEffect::Run(next)), "{effects:?}");
}

#[test]
fn with_look_ahead_one_more_task_is_taken_and_prepared_while_one_runs() {
    let mut worker = connected(true);
    let (a, b) = (attempt(0), attempt(1));
    let effects = step(&mut worker, WorkerEvent::Assigned(a));
    assert_eq!(
        effects,
        [
            says(WorkerReport::Started(a)),
            WorkerEffect::Run(a),
            WorkerEffect::Fetch
        ]
    );
    assert_eq!(
        step(&mut worker, WorkerEvent::Assigned(b)),
        [says(WorkerReport::Took(b)), WorkerEffect::Prepare(b)]
    );
    let effects = step(&mut worker, WorkerEvent::RunEnded(a, Ok(())));
    assert!(effects.contains(&WorkerEffect::Run(b)));
}

#[test]
fn a_recalled_task_is_given_back_unless_it_runs() {
    let mut worker = connected(true);
    let (a, b) = (attempt(0), attempt(1));
    step(&mut worker, WorkerEvent::Assigned(a));
    step(&mut worker, WorkerEvent::Assigned(b));
    assert!(step(&mut worker, WorkerEvent::Received(ToWorker::Recall(a))).is_empty());
    let effects = step(&mut worker, WorkerEvent::Received(ToWorker::Recall(b)));
    assert_eq!(
        effects,
        [
            WorkerEffect::Ack(b),
            says(WorkerReport::GaveBack(b)),
            WorkerEffect::Fetch
        ]
    );
}

#[test]
fn a_draining_worker_finishes_what_runs_and_gives_back_the_rest() {
    let mut worker = connected(true);
    let (a, b) = (attempt(0), attempt(1));
    step(&mut worker, WorkerEvent::Assigned(a));
    step(&mut worker, WorkerEvent::Assigned(b));
    let effects = step(&mut worker, WorkerEvent::Received(ToWorker::Drain));
    assert_eq!(effects, [WorkerEffect::Ack(b), says(WorkerReport::GaveBack(b))]);
    step(&mut worker, WorkerEvent::RunEnded(a, Ok(())));
    step(&mut worker, WorkerEvent::OutputDurable(a, Ok(())));
    let effects = step(&mut worker, WorkerEvent::CommitDurable(a, Ok(())));
    assert_eq!(
        effects,
        [
            WorkerEffect::Ack(a),
            says(WorkerReport::Committed(a)),
            says(WorkerReport::Drained),
            WorkerEffect::End
        ]
    );
    assert!(worker.has_ended());
}

#[test]
fn heartbeats_say_what_is_held_and_renew_it() {
    let mut worker = connected(true);
    let (a, b) = (attempt(0), attempt(1));
    step(&mut worker, WorkerEvent::Assigned(a));
    step(&mut worker, WorkerEvent::Assigned(b));
    assert!(step_at(&mut worker, HEARTBEAT_MS - 1, WorkerEvent::Tick).is_empty());
    let holding = vec![
        Holding {
            attempt: a,
            started: true,
        },
        Holding {
            attempt: b,
            started: false,
        },
    ];
    assert_eq!(
        step_at(&mut worker, HEARTBEAT_MS, WorkerEvent::Tick),
        [
            WorkerEffect::Renew(a),
            WorkerEffect::Renew(b),
            says(WorkerReport::Heartbeat {
                memory_bytes: 100,
                holding
            })
        ]
    );
    assert!(step_at(&mut worker, HEARTBEAT_MS, WorkerEvent::Tick).is_empty());
}

#[test]
fn a_worker_that_reconnects_joins_again_and_says_what_it_holds() {
    let mut worker = connected(false);
    let a = attempt(0);
    step(&mut worker, WorkerEvent::Assigned(a));
    let effects = step_at(&mut worker, 500, WorkerEvent::Connected);
    assert_eq!(effects[0], says(WorkerReport::Joined { memory_bytes: 100 }));
    let tells = |effect: &WorkerEffect| {
        matches!(effect, WorkerEffect::Send(message)
            if matches!(&message.body, WorkerReport::Heartbeat { holding, .. } if holding[0].attempt == a))
    };
    assert!(effects.iter().any(tells), "{effects:?}");
}

#[test]
fn a_worker_without_look_ahead_takes_nothing_while_its_outputs_wait() {
    let mut worker = connected(false);
    for task in 0..UNCOMMITTED_MAX as u64 {
        let is_last = task + 1 == UNCOMMITTED_MAX as u64;
        step(&mut worker, WorkerEvent::Assigned(attempt(task)));
        let effects = step(&mut worker, WorkerEvent::RunEnded(attempt(task), Ok(())));
        assert_eq!(effects.contains(&WorkerEffect::Fetch), !is_last);
    }
}

#[test]
fn heartbeats_go_on() {
    let mut worker = connected(false);
    for beat in 1..5 {
        let at = beat * HEARTBEAT_MS;
        assert!(step_at(&mut worker, at - 1, WorkerEvent::Tick).is_empty());
        assert_eq!(step_at(&mut worker, at, WorkerEvent::Tick).len(), 1);
    }
}
