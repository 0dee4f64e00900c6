//! Which reports mean something, and which attempts are missed.

use super::*;

fn two_begun() -> Script {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    script.now = Millis(1_000);
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    script.says(W0, WorkerReport::Started(attempt(1, 0)));
    script
}

#[test]
fn only_what_a_heartbeat_leaves_out_is_missed() {
    let mut script = two_begun();
    let held: &[_] = &[(attempt(0, 0), true)];
    let effects = script.wait(2 * limits::HEARTBEAT_MS, &[(W0, held)]);
    assert_eq!(effects, [DriverEffect::ReadCommits(JOB, RoundIdx(0))]);
    let effects = script.step(DriverEvent::CommitsRead(JOB, vec![]));
    assert_eq!(effects, [shared(1, 1)]);
}

#[test]
fn a_heartbeat_that_was_sent_before_an_attempt_began_is_no_reason_to_miss_it() {
    let mut script = two_begun();
    let early = 2 * limits::HEARTBEAT_MS - limits::WATCH_MS;
    assert!(script.wait(early, &[(W0, &[])]).is_empty());
}

#[test]
fn a_commit_ends_the_back_off_of_its_own_task_only() {
    let mut script = two_begun();
    let failure = Failure::retry(Cause::Storage, "flaky");
    script.fails(W0, attempt(0, 0), &failure);
    script.fails(W0, attempt(1, 0), &failure);
    // The journal has a record whose writer was told that it failed.
    script.step(DriverEvent::CommitsRead(JOB, vec![TaskIdx(0)]));
    script.now = Millis(script.now.0 + limits::BACKOFF_FIRST_MS);
    assert_eq!(script.step(DriverEvent::Tick), [shared(1, 1)]);
}

#[test]
fn a_report_about_an_attempt_that_was_given_up_changes_nothing() {
    let mut script = two_begun();
    script.says(W0, WorkerReport::GaveBack(attempt(0, 0)));
    script.says(W0, WorkerReport::Started(attempt(0, 1)));
    assert!(script.says(W0, WorkerReport::GaveBack(attempt(0, 0))).is_empty());
    let failure = Failure::fatal(Cause::Job, "late");
    assert!(
        script
            .says(W0, WorkerReport::Failed(attempt(0, 0), failure))
            .is_empty()
    );
}

#[test]
fn what_lay_in_a_workers_own_queue_is_missed_once_it_was_begun() {
    let (mut script, _) = Script::with(&[W0], round_robin(1, 1));
    assert!(script.wait(2 * limits::HEARTBEAT_MS, &[(W0, &[])]).is_empty());
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    let effects = script.wait(2 * limits::HEARTBEAT_MS, &[(W0, &[])]);
    assert_eq!(effects, [DriverEffect::ReadCommits(JOB, RoundIdx(0))]);
}

#[test]
fn whatever_a_worker_says_it_is_there() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    for _ in 0..10 {
        let effects = script.wait(limits::HEARTBEAT_MS, &[]);
        assert!(alarms(&effects).is_empty());
        script.says(W0, WorkerReport::Started(attempt(0, 0)));
    }
}

#[test]
fn a_worker_that_gets_more_memory_gets_tasks_that_need_it() {
    let mut script = Script::new();
    script.says(
        W0,
        WorkerReport::Joined {
            memory_bytes: GIB / 2,
        },
    );
    let effects = script.step(DriverEvent::Submitted(job_of(1)));
    assert!(releases(&effects).is_empty());
    assert_eq!(script.beats(W0, &[]), [shared(0, 0)]);
}

#[test]
fn a_driver_that_takes_over_listens_before_it_releases() {
    let start = JobStart {
        took_over: true,
        ..job_of(1)
    };
    let (mut script, effects) = Script::with(&[W0], start);
    assert!(releases(&effects).is_empty());
    let early = limits::TAKE_OVER_LISTEN_MS - 1;
    assert!(releases(&script.wait(early, &[(W0, &[])])).is_empty());
    assert_eq!(releases(&script.wait(1, &[(W0, &[])])), [shared(0, 0)]);
}

#[test]
fn a_report_about_neither_attempt_leaves_both_alone() {
    let (mut script, slow, backup) = backed_up();
    script.says(W1, WorkerReport::GaveBack(attempt(0, 9)));
    assert!(script.beats(W0, &[(slow, true)]).is_empty());
    assert!(script.beats(W1, &[(backup, true)]).is_empty());
}

#[test]
fn a_task_that_had_not_begun_is_not_blamed_for_lost_workers() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    for number in 0..2 * limits::ATTEMPTS_MAX_LOST {
        script.says(W0, WorkerReport::Took(attempt(0, number)));
        let effects = script.step(DriverEvent::WorkerLost(W0));
        let lost = AlarmKind::WorkerLost {
            worker: W0,
            n_attempts: 1,
        };
        let is_it =
            |effect: &DriverEffect| matches!(effect, DriverEffect::Alarm(alarm) if alarm.kind == lost);
        assert!(effects.len() == 1 && is_it(&effects[0]), "{effects:?}");
        assert_eq!(script.joins(W0), [shared(0, number + 1)]);
    }
}
