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

/// Its share waits for its end, and goes to the others then.
#[test]
fn a_quarantined_worker_is_sent_no_more_of_its_share() {
    let (mut script, dealt) = Script::with(&[W0, W1], round_robin(40, 2));
    let mut to_w0: Vec<JobAttempt> = released_to(W0, &dealt);
    for _ in 0..limits::CORRUPT_PER_WORKER_MAX {
        let of_share = to_w0.remove(0);
        let effects = script.fails(W0, of_share, &Failure::corrupt("differs"));
        to_w0.extend(released_to(W0, &effects));
    }
    let n_waiting = to_w0.len();
    for of_share in to_w0 {
        let effects = script.says(W0, WorkerReport::GaveBack(of_share));
        assert_eq!(released_to(W0, &effects), []);
    }
    let effects = script.beats(W0, &[]);
    assert_eq!(released_to(W0, &effects), []);
    assert!(n_waiting > 0, "it had room for more");
    script.says(W0, WorkerReport::Drained);
    let (mut done, mut to_w1) = (BTreeSet::new(), released_to(W1, &dealt));
    while done.len() < 40 {
        let effects = match to_w1.pop() {
            Some(next) => {
                done.insert(next.attempt.task);
                script.commits(W1, next)
            }
            // What failed waits for a moment.
            None => script.wait(limits::BACKOFF_MAX_MS, &[(W1, &[])]),
        };
        to_w1.extend(released_to(W1, &effects));
    }
}

fn released_to(worker: WorkerIdx, effects: &[DriverEffect]) -> Vec<JobAttempt> {
    let released = effects.iter().filter_map(|effect| match effect {
        DriverEffect::Release(attempt, Queue::Worker(of)) if *of == worker => Some(*attempt),
        _ => None,
    });
    released.collect()
}
