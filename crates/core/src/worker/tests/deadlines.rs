//! Attempts that take too long, and those that don't stop then.

use super::*;

const DEADLINE_MS: u64 = 1_500;

/// A worker that runs a task of a round with this deadline since the time 0.
fn running(looks_ahead: bool, task: JobAttempt, deadline_ms: Option<u64>) -> Worker {
    let mut worker = connected(looks_ahead);
    step(&mut worker, WorkerEvent::Assigned(task));
    step(&mut worker, WorkerEvent::Begun(task, Millis(0), deadline_ms));
    worker
}

/// What it does but for its heartbeat.
fn tick(worker: &mut Worker, now: u64) -> Vec<WorkerEffect> {
    let is_beat = |effect: &WorkerEffect| {
        matches!(effect, WorkerEffect::Renew(_))
            || matches!(effect, WorkerEffect::Send(message) if matches!(message.body, WorkerReport::Heartbeat { .. }))
    };
    let mut effects = step_at(worker, now, WorkerEvent::Tick);
    effects.retain(|effect| !is_beat(effect));
    effects
}

fn failed(effects: &[WorkerEffect]) -> Option<(JobAttempt, Failure)> {
    effects.iter().find_map(|effect| match effect {
        WorkerEffect::Send(ToDriver {
            body: WorkerReport::Failed(attempt, failure),
            ..
        }) => Some((*attempt, failure.clone())),
        _ => None,
    })
}

fn cancelled(attempt: JobAttempt) -> WorkerEvent {
    WorkerEvent::RunEnded(attempt, Err(Failure::cancelled()))
}

#[test]
fn a_task_that_passes_its_deadline_is_told_to_stop_and_has_failed() {
    let a = attempt(0);
    let mut worker = running(false, a, Some(DEADLINE_MS));
    assert!(tick(&mut worker, DEADLINE_MS - 1).is_empty());
    assert_eq!(tick(&mut worker, DEADLINE_MS), [WorkerEffect::CancelRun(a)]);
    assert!(tick(&mut worker, DEADLINE_MS + 1).is_empty(), "it is told once");
    let effects = step_at(&mut worker, DEADLINE_MS + 2, cancelled(a));
    let text = "task 0 took longer than its deadline of 1.5 s";
    let failure = Failure::retry(Cause::Deadline, text);
    assert_eq!(failed(&effects), Some((a, failure)));
    assert_eq!(
        effects.last(),
        Some(&WorkerEffect::Fetch),
        "and the worker goes on"
    );
}

#[test]
fn the_worker_wakes_up_for_a_deadline_and_for_the_end_of_its_grace() {
    let a = attempt(0);
    let mut worker = running(false, a, Some(DEADLINE_MS));
    let mut wake_after = |now: u64| {
        let mut effects = Vec::new();
        worker.on_event(Millis(now), WorkerEvent::Tick, &mut effects);
        match effects.last() {
            Some(WorkerEffect::WakeAt(at)) => at.0,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wake_after(1), DEADLINE_MS);
    wake_after(DEADLINE_MS);
    assert_eq!(wake_after(6_100), DEADLINE_MS + HANG_GRACE_MS);
}

#[test]
fn a_task_that_ends_within_its_grace_counts() {
    let a = attempt(0);
    let mut worker = running(false, a, Some(DEADLINE_MS));
    tick(&mut worker, DEADLINE_MS);
    let effects = step_at(
        &mut worker,
        DEADLINE_MS + HANG_GRACE_MS - 1,
        WorkerEvent::RunEnded(a, Ok(())),
    );
    assert!(effects.contains(&WorkerEffect::WriteOutput(a)), "{effects:?}");
}

/// What is computed is committed first, what was taken ahead goes back, and then the worker ends: its thread does not come back.
#[test]
fn a_task_that_does_not_stop_costs_the_worker_and_nothing_else() {
    let mut worker = connected(true);
    let (done, hangs, ahead) = (attempt(0), attempt(1), attempt(2));
    step(&mut worker, WorkerEvent::Assigned(done));
    step(
        &mut worker,
        WorkerEvent::Begun(done, Millis(0), Some(DEADLINE_MS)),
    );
    step(&mut worker, WorkerEvent::Assigned(hangs));
    step(&mut worker, WorkerEvent::RunEnded(done, Ok(())));
    step(
        &mut worker,
        WorkerEvent::Begun(hangs, Millis(0), Some(DEADLINE_MS)),
    );
    step(&mut worker, WorkerEvent::Assigned(ahead));
    assert_eq!(tick(&mut worker, DEADLINE_MS), [WorkerEffect::CancelRun(hangs)]);
    let over = DEADLINE_MS + HANG_GRACE_MS;
    assert!(tick(&mut worker, over - 1).is_empty());
    let effects = tick(&mut worker, over);
    assert_eq!(effects[0], WorkerEffect::GiveUpRun(hangs));
    let (attempt, failure) = failed(&effects).unwrap();
    assert_eq!((attempt, failure.cause), (hangs, Cause::Hung));
    assert!(
        effects.contains(&says(WorkerReport::GaveBack(ahead))),
        "{effects:?}"
    );
    // Its thread may come back after all, but nobody waits for it.
    assert!(step_at(&mut worker, over, WorkerEvent::RunEnded(hangs, Ok(()))).is_empty());
    step_at(&mut worker, over, WorkerEvent::OutputDurable(done, Ok(())));
    let effects = step_at(&mut worker, over, WorkerEvent::CommitDurable(done, Ok(())));
    assert_eq!(
        effects,
        [
            WorkerEffect::Ack(done),
            says(WorkerReport::Committed(done)),
            says(WorkerReport::Drained),
            WorkerEffect::End
        ]
    );
}

/// A cancelled job's task is not to blame for the time that it took; but if it does not stop, nobody waits for it for ever.
#[test]
fn the_task_of_a_cancelled_job_has_not_failed_unless_it_hangs() {
    let a = attempt(0);
    let cancel = ToWorker::CancelJob {
        job: JOB,
        epoch: RunEpoch(1),
    };
    for hangs in [false, true] {
        let mut worker = running(false, a, Some(DEADLINE_MS));
        tick(&mut worker, DEADLINE_MS);
        step_at(&mut worker, DEADLINE_MS + 1, WorkerEvent::Received(cancel));
        let effects = if hangs {
            tick(&mut worker, DEADLINE_MS + HANG_GRACE_MS)
        } else {
            step_at(&mut worker, DEADLINE_MS + 2, cancelled(a))
        };
        assert_eq!(failed(&effects).is_some(), hangs);
        assert!(effects.contains(&says(WorkerReport::Left(JOB))), "{effects:?}");
        assert_eq!(worker.has_ended(), hangs);
    }
}

/// A disk that stood still, or inputs that took long to open, made a task late that had not begun.
#[test]
fn a_deadline_counts_from_the_begin_of_the_computation() {
    let mut worker = connected(false);
    let (a, b) = (attempt(0), attempt(1));
    step(&mut worker, WorkerEvent::Assigned(a));
    step_at(&mut worker, 800, WorkerEvent::Tick);
    // It is heard of a moment later.
    step_at(
        &mut worker,
        900,
        WorkerEvent::Begun(a, Millis(800), Some(DEADLINE_MS)),
    );
    assert!(tick(&mut worker, 800 + DEADLINE_MS - 1).is_empty());
    assert_eq!(tick(&mut worker, 800 + DEADLINE_MS), [WorkerEffect::CancelRun(a)]);
    step_at(&mut worker, 2_400, cancelled(a));
    step_at(&mut worker, 2_400, WorkerEvent::Assigned(b));
    assert!(tick(&mut worker, 1_000_000).is_empty(), "it waits to begin");
    step_at(
        &mut worker,
        1_000_000,
        WorkerEvent::Begun(b, Millis(1_000_000), None),
    );
    assert!(
        tick(&mut worker, 9_000_000).is_empty(),
        "it may take as long as it takes"
    );
}

#[test]
fn a_deadline_that_passed_before_it_was_heard_of_is_heeded_at_once() {
    let a = attempt(0);
    let mut worker = connected(false);
    step(&mut worker, WorkerEvent::Assigned(a));
    let begun = WorkerEvent::Begun(a, Millis(100), Some(DEADLINE_MS));
    let effects = step_at(&mut worker, 100 + DEADLINE_MS, begun);
    assert!(effects.contains(&WorkerEffect::CancelRun(a)), "{effects:?}");
}
