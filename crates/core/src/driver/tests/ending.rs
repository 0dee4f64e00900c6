//! How a job is stopped, and when a stop is too late.

use super::*;

#[test]
fn a_stop_waits_for_the_workers_and_keeps_their_last_commit() {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    let stop = DriverEvent::StopRequested(JOB, StopCause::Interrupted);
    assert_eq!(script.step(stop), [cancel(W0)]);
    assert!(
        script
            .commits(W0, attempt(0, 0))
            .iter()
            .all(|effect| *effect == cancel(W0))
    );
    assert_eq!(script.driver.tasks(JOB).map(TaskTable::n_committed), Some(1));
    let effects = script.says(W0, WorkerReport::Left(JOB));
    let end = JobEnd::Stopped(StopCause::Interrupted);
    assert_eq!(effects, [DriverEffect::End(JOB, end)]);
}

#[test]
fn the_first_cause_to_stop_is_the_one_that_is_told() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    assert!(!script.driver.is_stopping(JOB));
    script.step(DriverEvent::StopRequested(JOB, StopCause::Interrupted));
    assert!(script.driver.is_stopping(JOB));
    script.step(DriverEvent::StopRequested(JOB, StopCause::TimeLimit));
    let end = JobEnd::Stopped(StopCause::Interrupted);
    let effects = script.says(W0, WorkerReport::Left(JOB));
    assert_eq!(effects, [DriverEffect::End(JOB, end)]);
}

#[test]
fn a_stop_that_comes_while_the_outputs_take_their_names_is_too_late() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    script.commits(W0, attempt(0, 0));
    assert_eq!(
        script.step(DriverEvent::RoundsDone(JOB)),
        [DriverEffect::FinishOutputs(JOB)]
    );
    let stop = DriverEvent::StopRequested(JOB, StopCause::Interrupted);
    assert!(script.step(stop).is_empty());
    assert_eq!(
        script.step(DriverEvent::OutputsFinished(JOB)),
        [DriverEffect::End(JOB, JobEnd::Done)]
    );
}

#[test]
fn a_cancel_that_got_lost_is_said_again() {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    script.step(DriverEvent::StopRequested(JOB, StopCause::Interrupted));
    assert!(script.beats(W0, &[(attempt(0, 0), true)]).contains(&cancel(W0)));
}

#[test]
fn a_job_ends_at_its_deadline() {
    let start = JobStart {
        deadline: Some(Millis(1_000)),
        ..job_of(2)
    };
    let (mut script, _) = Script::with(&[W0], start);
    assert!(!script.wait(500, &[]).contains(&cancel(W0)));
    assert!(script.wait(500, &[]).contains(&cancel(W0)));
}

/// The wake-up was asked for at the deadline itself, which had passed: the driver's loop ran as fast as it could until the outputs had their
/// names. The simulator's seed 720 stood still in time.
#[test]
fn a_deadline_that_passes_while_the_driver_takes_a_step_is_not_looked_at_without_pause() {
    let start = JobStart {
        deadline: Some(Millis(1_000)),
        resumed: true,
        ..job_of(1)
    };
    let (mut script, _) = Script::with(&[W0], start);
    let wakes = |script: &mut Script, event| {
        let mut effects = Vec::new();
        script.driver.on_event(script.now, event, &mut effects);
        let wake = |effect: &DriverEffect| match effect {
            DriverEffect::WakeAt(at) => Some(*at),
            _ => None,
        };
        effects.iter().find_map(wake)
    };
    script.now = Millis(900);
    script.commits(W0, attempt(0, 0));
    assert_eq!(script.driver.state(JOB), "Advancing");
    assert_eq!(
        wakes(&mut script, DriverEvent::RoundsDone(JOB)),
        Some(Millis(1_400))
    );
    script.step(DriverEvent::OutputsVerified(JOB, vec![]));
    assert_eq!(script.driver.state(JOB), "Finishing");
    script.now = Millis(2_000);
    assert_eq!(wakes(&mut script, DriverEvent::Tick), None);
    let effects = script.step(DriverEvent::OutputsFinished(JOB));
    assert_eq!(effects, [DriverEffect::End(JOB, JobEnd::Done)]);
}

#[test]
fn a_job_past_its_deadline_is_stopped_while_its_outputs_are_read_back() {
    let start = JobStart {
        deadline: Some(Millis(1_000)),
        resumed: true,
        ..job_of(1)
    };
    let (mut script, _) = Script::with(&[W0], start);
    script.commits(W0, attempt(0, 0));
    script.step(DriverEvent::RoundsDone(JOB));
    assert_eq!(script.driver.state(JOB), "Verifying");
    assert!(script.wait(1_500, &[]).contains(&cancel(W0)));
}

#[test]
fn a_job_that_ended_is_forgotten_and_can_be_submitted_again() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    script.step(DriverEvent::StopRequested(JOB, StopCause::Interrupted));
    script.says(W0, WorkerReport::Left(JOB));
    assert!(script.driver.tasks(JOB).is_none());
    let effects = script.step(DriverEvent::Submitted(job_of(1)));
    assert_eq!(releases(&effects), [shared(0, 0)]);
}

#[test]
fn what_begins_while_the_job_stops_is_cancelled() {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    script.step(DriverEvent::StopRequested(JOB, StopCause::Interrupted));
    assert_eq!(
        script.says(W0, WorkerReport::Started(attempt(1, 0))),
        [cancel(W0)]
    );
}

#[test]
fn a_failure_is_told_whether_it_came_before_or_after_a_stop() {
    let failure = Failure::fatal(Cause::DiskFull, "impossible");
    let stop = || DriverEvent::StopRequested(JOB, StopCause::Interrupted);
    for comes_first in [true, false] {
        let (mut script, _) = Script::with(&[W0], job_of(1));
        script.says(W0, WorkerReport::Started(attempt(0, 0)));
        if !comes_first {
            script.step(stop());
        }
        script.fails(W0, attempt(0, 0), &failure);
        if comes_first {
            assert!(script.step(stop()).is_empty());
        }
        let effects = script.says(W0, WorkerReport::Left(JOB));
        let end = JobEnd::Failed(failure.clone());
        assert_eq!(effects, [DriverEffect::End(JOB, end)]);
    }
}

#[test]
fn outputs_that_stay_damaged_end_the_job() {
    let start = JobStart {
        resumed: true,
        ..job_of(1)
    };
    let (mut script, _) = Script::with(&[W0], start);
    for pass in 1..=limits::VERIFY_PASSES_MAX {
        script.commits(W0, attempt(0, pass as u8 - 1));
        let effects = script.step(DriverEvent::RoundsDone(JOB));
        assert_eq!(effects, [DriverEffect::VerifyOutputs(JOB)]);
        assert_eq!(u64::from(pass), 1 + script.driver.n_retries(JOB));
        let effects = script.step(DriverEvent::OutputsVerified(JOB, vec![TaskIdx(0)]));
        let is_last = pass == limits::VERIFY_PASSES_MAX;
        assert_eq!(effects == [cancel(W0)], is_last, "{effects:?}");
    }
}

#[test]
fn the_first_failure_is_the_one_that_is_told() {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    let first = Failure::fatal(Cause::DiskFull, "first");
    script.fails(W0, attempt(0, 0), &first);
    script.fails(W0, attempt(1, 0), &Failure::fatal(Cause::Job, "second"));
    let effects = script.says(W0, WorkerReport::Left(JOB));
    assert_eq!(effects, [DriverEffect::End(JOB, JobEnd::Failed(first))]);
}

#[test]
fn outputs_that_cannot_take_their_names_end_the_job() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    script.commits(W0, attempt(0, 0));
    script.step(DriverEvent::RoundsDone(JOB));
    let failure = Failure::fatal(Cause::Storage, "no such folder");
    script.step(DriverEvent::StepFailed(JOB, failure.clone()));
    let effects = script.says(W0, WorkerReport::Left(JOB));
    assert_eq!(effects, [DriverEffect::End(JOB, JobEnd::Failed(failure))]);
}

/// Dealt tasks came back without end where workers held the run for cancelled: the simulator's seed 30864.
#[test]
fn a_dealt_task_that_comes_back_as_often_as_is_allowed_ends_the_job() {
    let (mut script, _) = Script::with(&[W0, W1], round_robin(1, 2));
    let mut number = 0;
    while !script.driver.is_stopping(JOB) {
        assert!(number <= limits::ATTEMPTS_MAX);
        script.says(W0, WorkerReport::GaveBack(attempt(0, number)));
        number += 1;
    }
    assert_eq!(number, limits::ATTEMPTS_MAX);
    script.says(W0, WorkerReport::Left(JOB));
    let effects = script.says(W1, WorkerReport::Left(JOB));
    assert!(
        matches!(effects[..], [DriverEffect::End(JOB, JobEnd::Failed(_))]),
        "{effects:?}"
    );
}
