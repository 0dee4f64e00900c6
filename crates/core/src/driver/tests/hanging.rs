//! Tasks that take their workers down, one after the other.

use super::*;

/// Each worker of a row begins the task; how many of them `takes_down` ended before the job did, and what it then said.
fn taken_down(
    mut takes_down: impl FnMut(&mut Script, WorkerIdx, JobAttempt) -> Vec<DriverEffect>,
) -> (u32, JobEnd) {
    let (mut script, _) = Script::with(&[W0], job_of(2));
    for number in 0..100 {
        let worker = WorkerIdx(u32::from(number));
        script.says(worker, WorkerReport::Started(attempt(0, number)));
        let mut effects = takes_down(&mut script, worker, attempt(0, number));
        effects.extend(script.step(DriverEvent::WorkerLost(worker)));
        let end = effects.iter().find_map(|effect| match effect {
            DriverEffect::End(JOB, end) => Some(end.clone()),
            _ => None,
        });
        if let Some(end) = end {
            assert!(alarms(&effects).contains(&"poison-task"), "{effects:?}");
            return (worker.0 + 1, end);
        }
        assert_eq!(script.driver.tasks(JOB).unwrap().n_committed(), 0);
        script.joins(WorkerIdx(worker.0 + 1));
    }
    panic!("the task takes down one worker after the other")
}

#[test]
fn a_task_that_ends_its_process_each_time_ends_the_job_with_its_number_and_that_of_the_workers() {
    let (n_workers, end) = taken_down(|_, _, _| vec![]);
    assert_eq!(n_workers, u32::from(limits::ATTEMPTS_MAX_LOST));
    let text = "task 0 was running on 3 workers when they were lost";
    assert_eq!(end, JobEnd::Failed(Failure::retry(Cause::WorkerLost, text)));
}

#[test]
fn a_task_that_hangs_on_each_worker_ends_the_job_with_its_deadline() {
    let hung = Failure::retry(Cause::Hung, "it took too long");
    let (n_workers, end) = taken_down(|script, worker, attempt| script.fails(worker, attempt, &hung));
    assert_eq!(n_workers, u32::from(limits::ATTEMPTS_MAX_LOST));
    let text = "task 0 was running on 3 workers when they were lost: it took too long";
    assert_eq!(end, JobEnd::Failed(Failure::retry(Cause::WorkerLost, text)));
}

#[test]
fn a_task_that_hangs_once_is_done_by_another_worker() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(1));
    script.says(W0, WorkerReport::Started(attempt(0, 0)));
    let effects = script.fails(
        W0,
        attempt(0, 0),
        &Failure::retry(Cause::Hung, "it took too long"),
    );
    assert_eq!(alarms(&effects), ["task-retried"]);
    assert_eq!(releases(&effects), [shared(0, 1)]);
    assert_eq!(script.driver.n_retries(JOB), 1);
    script.says(W0, WorkerReport::Drained);
    let effects = script.commits(W1, attempt(0, 1));
    assert_eq!(effects, [DriverEffect::Advance(JOB, RoundIdx(0))]);
}

/// All workers are threads of one process: the thread does not come back, and nobody starts another one.
#[test]
fn within_one_process_a_task_that_hangs_ends_the_run_at_once() {
    for is_interrupted in [false, true] {
        let start = JobStart {
            one_machine: true,
            ..job_of(2)
        };
        let (mut script, _) = Script::with(&[W0, W1], start);
        script.says(W0, WorkerReport::Started(attempt(0, 0)));
        script.says(W1, WorkerReport::Started(attempt(1, 0)));
        if is_interrupted {
            script.step(DriverEvent::StopRequested(JOB, StopCause::Interrupted));
        }
        let hung = Failure::retry(Cause::Hung, "it took too long");
        script.fails(W0, attempt(0, 0), &hung);
        script.says(W0, WorkerReport::Left(JOB));
        script.says(W0, WorkerReport::Drained);
        script.says(W1, WorkerReport::Committed(attempt(1, 0)));
        let effects = script.says(W1, WorkerReport::Left(JOB));
        assert_eq!(effects, [DriverEffect::End(JOB, JobEnd::Failed(hung))]);
    }
}

#[test]
fn a_task_that_always_passes_its_deadline_is_tried_as_often_as_any_that_fails() {
    let (mut script, _) = Script::with(&[W0], job_of(1));
    let late = Failure::retry(Cause::Deadline, "task 0 took longer than its deadline of 1 s");
    for number in 0..limits::ATTEMPTS_MAX_RETRY {
        assert!(!script.driver.is_stopping(JOB));
        script.says(W0, WorkerReport::Started(attempt(0, number)));
        script.fails(W0, attempt(0, number), &late);
        script.now = Millis(script.now.0 + limits::BACKOFF_MAX_MS);
        script.beats(W0, &[]);
    }
    let effects = script.says(W0, WorkerReport::Left(JOB));
    let text = "task 0 took longer than its deadline of 1 s (attempt 5, on worker 0)";
    let end = JobEnd::Failed(Failure::retry(Cause::Deadline, text));
    assert_eq!(effects, [DriverEffect::End(JOB, end)]);
}
