//! A worker whose results are wrong again and again gets no more tasks.

use super::*;

#[test]
fn a_worker_whose_results_fail_gets_no_more_tasks_unless_it_is_the_last() {
    let wrong = Failure::corrupt("wrong");
    let (mut script, _) = Script::with(&[W0, W1], job_of(9));
    let mut effects = vec![];
    for task in 0..u64::from(limits::CORRUPT_PER_WORKER_MAX) {
        effects = script.fails(W0, attempt(task, 0), &wrong);
    }
    assert!(alarms(&effects).contains(&"worker-quarantined"));
    assert!(effects.contains(&DriverEffect::Send(W0, ToWorker::Drain)));
    let (mut script, _) = Script::with(&[W0], job_of(9));
    for task in 0..u64::from(limits::CORRUPT_PER_WORKER_MAX) {
        let effects = script.fails(W0, attempt(task, 0), &wrong);
        assert!(!alarms(&effects).contains(&"worker-quarantined"));
    }
}

/// Its share of a round-robin job stayed with it for ever, and the job stood still without a word: the simulator's seed 5442.
#[test]
fn a_quarantined_worker_that_did_not_hear_it_is_told_again_to_end() {
    let (mut script, _) = Script::with(&[W0, W1], job_of(9));
    for task in 0..u64::from(limits::CORRUPT_PER_WORKER_MAX) {
        assert!(!script.beats(W0, &[]).contains(&drain(W0)));
        script.fails(W0, attempt(task, 0), &Failure::corrupt("differs"));
    }
    assert!(script.beats(W0, &[]).contains(&drain(W0)));
    assert!(!script.beats(W1, &[]).contains(&drain(W1)));
    script.says(W0, WorkerReport::Drained);
    assert!(!script.beats(W1, &[]).contains(&drain(W1)));
}
