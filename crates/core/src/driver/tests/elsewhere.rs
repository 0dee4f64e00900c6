//! What fails on one machine is tried on others, and not on all of them in vain.

use super::*;
use alloc::collections::VecDeque;

const W3: WorkerIdx = WorkerIdx(3);

fn changed() -> Failure {
    Failure::fatal(Cause::InputChanged, "the input changed")
}

/// A worker has task 0 and fails at it; what follows once it is due.
fn fails_at_task_0(
    script: &mut Script,
    worker: WorkerIdx,
    number: u8,
    failure: &Failure,
) -> Vec<DriverEffect> {
    script.says(worker, WorkerReport::Started(attempt(0, number)));
    let mut effects = script.fails(worker, attempt(0, number), failure);
    script.now = Millis(script.now.0 + limits::BACKOFF_MAX_MS);
    effects.extend(script.step(DriverEvent::Tick));
    effects
}

/// How a stopping job ends once all workers have left it.
fn end(script: &mut Script, workers: &[WorkerIdx]) -> JobEnd {
    let effects = workers
        .iter()
        .flat_map(|worker| script.says(*worker, WorkerReport::Left(JOB)));
    match effects.last() {
        Some(DriverEffect::End(JOB, end)) => end,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_input_that_one_worker_finds_changed_is_looked_at_by_another() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(1));
    let effects = fails_at_task_0(&mut script, W0, 0, &changed());
    assert_eq!(alarms(&effects), ["task-retried"]);
    assert_eq!(releases(&effects), [own(W1, 0, 1)]);
    let effects = script.commits(W1, attempt(0, 1));
    assert_eq!(effects, [DriverEffect::Advance(JOB, RoundIdx(0))]);
}

#[test]
fn an_input_that_two_workers_find_changed_ends_the_job() {
    let (mut script, _) = Script::with(&[W0, W1, W2], job_of(1));
    fails_at_task_0(&mut script, W0, 0, &changed());
    let effects = fails_at_task_0(&mut script, W1, 1, &changed());
    assert!(effects.contains(&cancel(W2)), "{effects:?}");
    let text = "the input changed (found by workers 0, 1)";
    let failure = Failure::fatal(Cause::InputChanged, text);
    assert_eq!(end(&mut script, &[W0, W1, W2]), JobEnd::Failed(failure));
}

/// What a worker finds when it opens a cut file anew looks like another failure, so that no task need be found changed twice.
#[test]
fn two_workers_that_find_an_input_changed_need_not_find_it_with_the_same_task() {
    for has_committed_since in [false, true] {
        let (mut script, _) = Script::with(&[W0, W1, W2], job_of(9));
        fails_at_task_0(&mut script, W0, 0, &changed());
        if has_committed_since {
            script.commits(W0, attempt(2, 0));
        }
        script.fails(W1, attempt(1, 0), &changed());
        assert_eq!(script.driver.is_stopping(JOB), !has_committed_since);
        if !has_committed_since {
            let text = "the input changed (found by workers 0, 1)";
            let failure = Failure::fatal(Cause::InputChanged, text);
            assert_eq!(end(&mut script, &[W0, W1, W2]), JobEnd::Failed(failure));
        }
    }
}

/// A worker's next task finds the change while its last one, of the inputs as they were, is still being committed.
#[test]
fn what_was_begun_before_an_input_was_found_changed_does_not_take_that_back() {
    let (mut script, _) = Script::with(&[W0, W1, W2], job_of(9));
    script.says(W0, WorkerReport::Started(attempt(1, 0)));
    script.now = Millis(script.now.0 + 1);
    fails_at_task_0(&mut script, W0, 0, &changed());
    script.says(W0, WorkerReport::Committed(attempt(1, 0)));
    script.fails(W1, attempt(2, 0), &changed());
    assert!(script.driver.is_stopping(JOB));
}

#[test]
fn what_fails_in_passing_on_machines_is_not_counted_as_broken_there() {
    let passing = Failure::retry(Cause::Storage, "timed out");
    let broken = Failure::fatal(Cause::Storage, "input/output error");
    for workers in [&[W0, W1, W2, W3][..], &[W0, W1, W2]] {
        let (mut script, _) = Script::with(workers, job_of(1));
        fails_at_task_0(&mut script, W0, 0, &passing);
        fails_at_task_0(&mut script, W1, 1, &passing);
        let effects = fails_at_task_0(&mut script, W2, 2, &broken);
        assert_eq!(alarms(&effects), ["task-retried"]);
        // Elsewhere if there is somebody, or where it may have passed.
        let next = workers.get(3).copied().unwrap_or(W0);
        assert_eq!(releases(&effects), [own(next, 0, 3)]);
        let effects = script.commits(next, attempt(0, 3));
        assert_eq!(effects, [DriverEffect::Advance(JOB, RoundIdx(0))]);
    }
}

/// A job ended although a backup of the task that failed was doing well: where it had failed before, and had recovered.
#[test]
fn a_machines_fault_ends_no_job_while_the_task_runs_elsewhere() {
    let broken = Failure::fatal(Cause::Storage, "input/output error");
    for is_done in [true, false] {
        let (mut script, _) = Script::with(&[W0, W1], job_of(2));
        let effects = fails_at_task_0(&mut script, W0, 0, &broken);
        assert_eq!(releases(&effects), [own(W1, 0, 1)]);
        script.says(W1, WorkerReport::Started(attempt(0, 1)));
        script.says(W0, WorkerReport::Started(attempt(1, 0)));
        script.now = Millis(script.now.0 + 1_000);
        script.says(W0, WorkerReport::Committed(attempt(1, 0)));
        let busy: &[_] = &[(attempt(0, 1), true)];
        let effects = script.wait(5_000, &[(W0, &[]), (W1, busy)]);
        assert_eq!(releases(&effects), [own(W0, 0, 2)]);
        script.says(W0, WorkerReport::Started(attempt(0, 2)));
        script.fails(W1, attempt(0, 1), &broken);
        assert!(!script.driver.is_stopping(JOB));
        if is_done {
            let effects = script.says(W0, WorkerReport::Committed(attempt(0, 2)));
            assert!(
                effects.contains(&DriverEffect::Advance(JOB, RoundIdx(0))),
                "{effects:?}"
            );
        } else {
            script.fails(W0, attempt(0, 2), &broken);
            assert!(script.driver.is_stopping(JOB), "nobody is left to do it");
        }
    }
}

#[test]
fn the_only_worker_that_gets_tasks_is_believed_at_once() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    let small = WorkerReport::Joined { memory_bytes: 1 };
    script.says(W1, small);
    let effects = fails_at_task_0(&mut script, W0, 0, &changed());
    assert!(effects.contains(&cancel(W0)), "{effects:?}");
    let failure = Failure::fatal(Cause::InputChanged, "the input changed (found by worker 0)");
    assert_eq!(end(&mut script, &[W0, W1]), JobEnd::Failed(failure));
}

/// The shared queue is everybody's, and so a worker that is too small may take a task. It was believed as if it were the last one when those
/// who fit were away for a moment. The simulator's seed 6426 had its job failed three times.
#[test]
fn a_worker_that_does_not_fit_fails_no_job_while_nobody_is_there_who_does() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    let small = WorkerReport::Joined {
        memory_bytes: GIB / 2,
    };
    script.says(W1, small);
    script.says(W1, WorkerReport::Started(attempt(0, 0)));
    script.step(DriverEvent::WorkerLost(W0));
    let too_small = Failure::fatal(Cause::OutOfMemory, "too little memory");
    let effects = script.fails(W1, attempt(0, 0), &too_small);
    assert_eq!(alarms(&effects), ["task-retried"]);
    script.now = Millis(script.now.0 + limits::BACKOFF_MAX_MS);
    assert!(releases(&script.step(DriverEvent::Tick)).is_empty());
    assert_eq!(releases(&script.joins(W2)), [own(W2, 0, 1)]);
}

#[test]
fn workers_of_one_machine_are_all_believed_at_once() {
    for cause in [Cause::InputChanged, Cause::Storage, Cause::OutOfMemory] {
        let start = JobStart {
            one_machine: true,
            ..job_of(1)
        };
        let (mut script, _) = Script::with(&[W0, W1], start);
        let failure = Failure::fatal(cause, "no other attempt can mend it");
        fails_at_task_0(&mut script, W0, 0, &failure);
        assert_eq!(end(&mut script, &[W0, W1]), JobEnd::Failed(failure));
    }
}

#[test]
fn what_machines_have_in_common_ends_the_job_at_once() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(1));
    let failure = Failure::fatal(Cause::DiskFull, "all have it");
    let effects = fails_at_task_0(&mut script, W0, 0, &failure);
    assert!(alarms(&effects).is_empty(), "it is no task's fault");
    assert_eq!(end(&mut script, &[W0, W1]), JobEnd::Failed(failure));
}

/// Neither the job's error nor an alarm said which task it was.
#[test]
fn r6_what_a_tasks_own_code_says_can_not_be_mended_ends_the_job_with_the_tasks_number() {
    for one_machine in [false, true] {
        let start = JobStart {
            one_machine,
            ..job_of(1)
        };
        let (mut script, _) = Script::with(&[W0, W1], start);
        let failure = Failure::fatal(Cause::Job, "no such column");
        let effects = fails_at_task_0(&mut script, W1, 0, &failure);
        assert_eq!(alarms(&effects), ["poison-task"]);
        let text = "no such column (task 0, attempt 1, on worker 1)";
        let failure = Failure::fatal(Cause::Job, text);
        assert_eq!(end(&mut script, &[W0, W1]), JobEnd::Failed(failure));
    }
}

#[test]
fn an_output_that_cannot_be_written_from_three_machines_ends_the_job() {
    let broken = Failure::fatal(Cause::Storage, "input/output error");
    let (mut script, _) = Script::with(&[W0, W1, W2, W3], job_of(1));
    let workers = [W0, W1, W2];
    for (number, worker) in (0..).zip(workers) {
        assert!(!script.driver.is_stopping(JOB));
        let effects = fails_at_task_0(&mut script, worker, number, &broken);
        let next = [own(W1, 0, 1), own(W2, 0, 2)].into_iter().nth(number.into());
        assert_eq!(releases(&effects), next.into_iter().collect::<Vec<_>>());
    }
    let JobEnd::Failed(failure) = end(&mut script, &[W0, W1, W2, W3]) else {
        panic!("it failed")
    };
    assert_eq!(failure.cause, Cause::Storage);
    assert!(failure.text.contains("on workers 0, 1, 2"), "{}", failure.text);
}

#[test]
fn a_task_that_failed_everywhere_goes_where_that_is_longest_ago() {
    let flaky = Failure::retry(Cause::Storage, "flaky");
    let (mut script, _) = Script::with(&[W0, W1, W2], job_of(1));
    let mut went_to = vec![];
    let mut worker = W1;
    for number in 0..limits::ATTEMPTS_MAX_RETRY - 1 {
        let effects = fails_at_task_0(&mut script, worker, number, &flaky);
        let [DriverEffect::Release(_, Queue::Worker(next))] = releases(&effects)[..] else {
            panic!("{effects:?}")
        };
        went_to.push(next);
        worker = next;
    }
    assert_eq!(went_to, [W0, W2, W1, W0]);
}

/// Five failures of one task, each on another worker that lacked the files, failed a job that two workers could have done.
#[test]
fn r4_a_job_survives_that_most_workers_lack_its_files() {
    let missing = Failure::retry(Cause::Storage, "no such file");
    let lacks_files = |worker: WorkerIdx| worker.0 < 6;
    // Who fails is done at once and takes the next task first.
    let workers: Vec<WorkerIdx> = (0..8).map(WorkerIdx).collect();
    let (mut script, mut news) = Script::with(&workers, job_of(40));
    let mut queued: VecDeque<(JobAttempt, Queue)> = VecDeque::new();
    let mut n_failed = 0;
    while !news.contains(&DriverEffect::Advance(JOB, RoundIdx(0))) {
        assert!(!alarms(&news).contains(&"poison-task"), "{news:?}");
        queued.extend(news.drain(..).filter_map(|effect| match effect {
            DriverEffect::Release(attempt, queue) => Some((attempt, queue)),
            _ => None,
        }));
        for worker in &workers {
            script.joins(*worker);
            let mut queues = [Queue::Worker(*worker), Queue::Shared].into_iter();
            let next = queues.find_map(|queue| queued.iter().position(|(_, of)| *of == queue));
            let Some((attempt, _)) = next.and_then(|at| queued.remove(at)) else {
                continue;
            };
            if lacks_files(*worker) {
                script.says(*worker, WorkerReport::Started(attempt));
                news.extend(script.fails(*worker, attempt, &missing));
                n_failed += 1;
            } else {
                news.extend(script.commits(*worker, attempt));
            }
        }
        script.now = Millis(script.now.0 + limits::BACKOFF_FIRST_MS);
        news.extend(script.step(DriverEvent::Tick));
    }
    assert!(n_failed >= 6, "{n_failed} attempts failed");
}

/// It would be given back, go to the same worker again, and be recalled half a second later: until its attempts were used up.
#[test]
fn what_waits_for_a_worker_that_can_do_it_is_not_recalled_for_one_that_fails() {
    let missing = Failure::retry(Cause::Storage, "no such file");
    let start = JobStart {
        backups: false,
        ..job_of(3)
    };
    let (mut script, _) = Script::with(&[W0, W1], start);
    script.says(W1, WorkerReport::Started(attempt(1, 0)));
    let effects = fails_at_task_0(&mut script, W0, 0, &missing);
    assert_eq!(releases(&effects), [own(W1, 0, 1)]);
    script.says(W1, WorkerReport::Took(attempt(0, 1)));
    let busy: &[_] = &[(attempt(1, 0), true), (attempt(0, 1), false)];
    for can_do_others in [false, true] {
        if can_do_others {
            script.commits(W0, attempt(2, 0));
        }
        let effects = script.wait(limits::WATCH_MS, &[(W0, &[]), (W1, busy)]);
        assert!(effects.is_empty(), "{effects:?}");
    }
    // Somebody who has not tried it is another matter.
    script.joins(W2);
    let effects = script.wait(limits::WATCH_MS, &[(W0, &[]), (W1, busy), (W2, &[])]);
    assert_eq!(effects, [DriverEffect::Send(W1, ToWorker::Recall(attempt(0, 1)))]);
    let effects = script.says(W1, WorkerReport::GaveBack(attempt(0, 1)));
    assert_eq!(releases(&effects), [own(W2, 0, 2)]);
}

#[test]
fn a_task_that_was_given_back_goes_to_an_idle_worker_that_does_not_fail() {
    let missing = Failure::retry(Cause::Storage, "no such file");
    let (mut script, _) = Script::with(&[W0, W1, W2], job_of(3));
    script.says(W1, WorkerReport::Started(attempt(1, 0)));
    script.says(W1, WorkerReport::Took(attempt(2, 0)));
    fails_at_task_0(&mut script, W0, 0, &missing);
    script.commits(W2, attempt(0, 1));
    let effects = script.says(W1, WorkerReport::GaveBack(attempt(2, 0)));
    assert_eq!(releases(&effects), [own(W2, 2, 1)]);
}

#[test]
fn a_backup_runs_on_whoever_did_not_fail_unless_nobody_else_is_left() {
    let missing = Failure::retry(Cause::Storage, "no such file");
    for (all, backed_up_by) in [(&[W1, W2, W3][..], W2), (&[W1, W3], W3)] {
        let (mut script, _) = Script::with(all, job_of(2));
        let effects = fails_at_task_0(&mut script, W3, 0, &missing);
        assert_eq!(releases(&effects), [own(W1, 0, 1)]);
        script.says(W1, WorkerReport::Started(attempt(0, 1)));
        // It can do others, which took a second.
        script.says(W3, WorkerReport::Started(attempt(1, 0)));
        script.now = Millis(script.now.0 + 1_000);
        script.says(W3, WorkerReport::Committed(attempt(1, 0)));
        let busy: &[_] = &[(attempt(0, 1), true)];
        let held = |worker: &WorkerIdx| (*worker, if *worker == W1 { busy } else { &[] });
        let held: Vec<(WorkerIdx, &[_])> = all.iter().map(held).collect();
        assert_eq!(releases(&script.wait(5_000, &held)), [own(backed_up_by, 0, 2)]);
    }
}

#[test]
fn round_robin_gives_what_failed_to_another_worker() {
    let missing = Failure::retry(Cause::Storage, "no such file");
    let (mut script, _) = Script::with(&[W0, W1], round_robin(1, 2));
    let effects = fails_at_task_0(&mut script, W0, 0, &missing);
    assert_eq!(releases(&effects), [own(W1, 0, 1)]);
    // Both have failed: whose turn it is.
    let effects = fails_at_task_0(&mut script, W1, 1, &missing);
    assert_eq!(releases(&effects).len(), 1);
    // Who could do it is gone: the other one tries again.
    let (mut script, _) = Script::with(&[W0, W1], round_robin(1, 2));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    script.fails(W0, attempt(0, 0), &missing);
    script.step(DriverEvent::WorkerLost(W1));
    script.now = Millis(script.now.0 + limits::BACKOFF_MAX_MS);
    assert_eq!(releases(&script.step(DriverEvent::Tick)), [own(W0, 0, 1)]);
}
