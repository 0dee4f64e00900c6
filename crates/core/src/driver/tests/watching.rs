//! What the driver notices, and what it does not take for a reason to act.

use super::*;

const W3: WorkerIdx = WorkerIdx(3);

#[test]
fn a_task_in_the_queue_waits_for_workers_that_are_busy() {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    let busy: &[_] = &[(attempt(0, 0), true)];
    let effects = script.wait(2 * limits::UNCLAIMED_MS, &[(W0, busy)]);
    assert!(releases(&effects).is_empty());
}

#[test]
fn a_task_in_the_queue_is_released_anew_not_before_its_time() {
    let mut script = Script::new();
    script.now = Millis(50_000);
    script.joins(W0);
    script.step(DriverEvent::Submitted(job_of(1)));
    let effects = script.wait(limits::UNCLAIMED_MS - 1, &[(W0, &[])]);
    assert!(releases(&effects).is_empty());
    let effects = script.wait(limits::WATCH_MS, &[(W0, &[])]);
    assert_eq!(releases(&effects), [shared(0, 1)]);
}

#[test]
fn a_job_whose_tasks_nobody_takes_stands_still() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    script.wait(limits::STALL_ALARM_MS, &[(W0, &[])]);
    assert_eq!(script.driver.stalled(JOB), Some(Stall::Silent));
}

#[test]
fn an_attempt_is_late_after_half_as_long_again_as_is_typical() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(2));
    let (slow, quick) = (attempt(0, 0), attempt(1, 0));
    let held: &[(WorkerIdx, &[_])] = &[(W0, &[(slow, true)]), (W1, &[(quick, true)])];
    script.wait(1_000, &[(W0, &[]), (W1, &[])]);
    script.says(W0, WorkerReport::Started(slow));
    script.says(W1, WorkerReport::Started(quick));
    script.wait(2_000, held);
    script.says(W1, WorkerReport::Committed(quick));
    let left: &[(WorkerIdx, &[_])] = &[(W0, &[(slow, true)]), (W1, &[])];
    assert!(releases(&script.wait(900, left)).is_empty());
    assert_eq!(releases(&script.wait(600, left)), [own(W1, 0, 1)]);
}

/// A job that did not say how long its tasks take, with infinity, made the driver overflow.
#[test]
fn r6_tasks_may_take_for_ever() {
    let mut start = job_of(1);
    start.needs.expected_ms = u64::MAX;
    let (mut script, _) = Script::with(&[W0, W1], start);
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    let effects = script.wait(20_000, &[(W0, &[(attempt(0, 0), true)]), (W1, &[])]);
    assert!(releases(&effects).is_empty(), "{effects:?}");
}

#[test]
fn one_task_of_twenty_is_backed_up_and_one_always() {
    for (n_tasks, n_backups) in [(2, 1), (39, 1), (40, 2)] {
        let start = JobStart {
            committed: (2..n_tasks).map(TaskIdx).collect(),
            ..job_of(n_tasks)
        };
        let (mut script, _) = Script::with(&[W0, W1, W2, W3], start);
        let (one, two) = (attempt(0, 0), attempt(1, 0));
        script.says(W0, WorkerReport::Started(one));
        script.says(W1, WorkerReport::Started(two));
        let held: &[(WorkerIdx, &[_])] = &[(W0, &[(one, true)]), (W1, &[(two, true)]), (W2, &[]), (W3, &[])];
        let effects = script.wait(5_000, held);
        assert_eq!(releases(&effects).len(), n_backups);
        assert_eq!(script.driver.n_backups(JOB), n_backups as u64);
    }
}

#[test]
fn whoever_comes_after_all_others_are_gone_gets_their_shares() {
    let (mut script, effects) = Script::with(&[W0], round_robin(5, 1));
    assert_eq!(releases(&effects).len(), 3);
    script.step(DriverEvent::WorkerLost(W0));
    let effects = script.joins(W1);
    assert!(releases(&effects).contains(&own(W1, 3, 0)), "{effects:?}");
}

#[test]
fn short_tasks_are_released_by_the_hundred() {
    let (mut script, effects) = Script::with(&[W0], job_of(1_000));
    assert_eq!(releases(&effects).len(), 3);
    let effects = script.commits_after(limits::SHORT_TASK_MS, W0, attempt(0, 0));
    let window = limits::RELEASE_WINDOW_PER_WORKER_SHORT as usize;
    assert_eq!(releases(&effects).len(), window - 2);
    // They are short no more, and none is released until few are left.
    for task in 1..=9 {
        script.commits_after(1_000, W0, attempt(task, 0));
    }
    let effects = script.commits_after(1_000, W0, attempt(10, 0));
    assert!(releases(&effects).is_empty());
}

#[test]
fn a_worker_that_is_much_slower_than_the_others_is_named_once() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(100));
    let mut named = vec![];
    for task in 0..6 {
        let worker = if task % 2 == 0 { W0 } else { W1 };
        script.says(worker, WorkerReport::Started(attempt(task, 0)));
        let duration = if worker == W1 { 4_000 } else { 1_000 };
        script.now = Millis(script.now.0 + duration);
        named.extend(alarms(
            &script.says(worker, WorkerReport::Committed(attempt(task, 0))),
        ));
    }
    assert_eq!(named, ["worker-slow"]);
}

#[test]
fn tasks_that_are_uneven_make_no_worker_slow() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(100));
    let mut named = vec![];
    for (task, duration) in [600, 700, 800, 2_000, 2_500, 700, 2_600, 600]
        .into_iter()
        .enumerate()
    {
        let (task, worker) = (task as u64, if task % 2 == 0 { W0 } else { W1 });
        script.says(worker, WorkerReport::Started(attempt(task, 0)));
        script.now = Millis(script.now.0 + duration);
        named.extend(alarms(
            &script.says(worker, WorkerReport::Committed(attempt(task, 0))),
        ));
    }
    assert_eq!(named, [""; 0]);
}
