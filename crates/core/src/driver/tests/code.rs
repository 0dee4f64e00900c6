//! Programs differ in the jobs that they know.

use super::*;

fn queues(effects: &[DriverEffect]) -> Vec<Queue> {
    let released = effects.iter().filter_map(|effect| match effect {
        DriverEffect::Release(_, queue) => Some(*queue),
        _ => None,
    });
    released.collect()
}

#[test]
fn workers_that_lack_the_code_are_left_alone() {
    let mut start = job_of(4);
    start.unable = BTreeSet::from([W0]);
    let (mut script, effects) = Script::with(&[W0, W1], start);
    assert_eq!(queues(&effects), [Queue::Worker(W1)]);
    // It is said of another one later: nobody is left.
    script.step(DriverEvent::LacksCode(JOB, W1));
    script.step(DriverEvent::WorkerLost(W1));
    let effects = script.wait(limits::STALL_ALARM_MS, &[(W0, &[])]);
    assert_eq!(alarms(&effects), ["job-stalled"]);
    assert_eq!(script.driver.stalled(JOB), Some(Stall::NobodyKnows));
    let joined = WorkerReport::Joined {
        memory_bytes: GIB * 4,
    };
    assert_eq!(queues(&script.says(W2, joined)), [Queue::Worker(W2)]);
}

/// Up to 130 short tasks lay in the queue of one worker, from which nobody can take them back, while another one was idle.
#[test]
fn r6_tasks_go_to_whoever_has_room_where_some_lack_the_code() {
    let mut start = job_of(200);
    start.unable = BTreeSet::from([W0]);
    let (mut script, effects) = Script::with(&[W0, W1, W2], start);
    assert_eq!(releases(&effects), [own(W1, 0, 0), own(W2, 1, 0)]);
    // W1 has a long task, and W2 short ones: it gets the next one as it begins the last.
    assert_eq!(
        script.says(W1, WorkerReport::Started(attempt(0, 0))),
        [own(W1, 2, 0)]
    );
    for task in [1].into_iter().chain(3..199) {
        let effects = script.says(W2, WorkerReport::Started(attempt(task, 0)));
        let next = if task == 1 { 3 } else { task + 1 };
        assert_eq!(effects, [own(W2, next, 0)]);
        assert!(
            script
                .says(W2, WorkerReport::Committed(attempt(task, 0)))
                .is_empty()
        );
    }
    assert!(script.commits(W2, attempt(199, 0)).is_empty());
    assert!(script.commits(W1, attempt(0, 0)).is_empty());
    let effects = script.commits(W1, attempt(2, 0));
    assert_eq!(effects, [DriverEffect::Advance(JOB, RoundIdx(0))]);
}

/// What had failed on the only worker that knows the job went into everybody's queue.
#[test]
fn r6_what_is_tried_again_goes_to_nobody_who_lacks_the_code() {
    let mut start = job_of(1);
    start.unable = BTreeSet::from([W0]);
    let (mut script, _) = Script::with(&[W0, W1], start);
    script.says(W1, WorkerReport::Started(attempt(0, 0)));
    script.fails(W1, attempt(0, 0), &Failure::retry(Cause::Storage, "flaky"));
    script.now = Millis(limits::BACKOFF_FIRST_MS);
    assert_eq!(script.step(DriverEvent::Tick), [own(W1, 0, 1)]);
}

#[test]
fn nothing_is_dealt_to_workers_that_lack_the_code() {
    let mut start = round_robin(4, 2);
    start.unable = BTreeSet::from([W0]);
    let (mut script, _) = Script::with(&[W0, W1], start);
    let mut dealt = queues(&script.wait(limits::DEAL_WAIT_MS, &[(W0, &[]), (W1, &[])]));
    script.step(DriverEvent::LacksCode(JOB, W2));
    dealt.extend(queues(&script.joins(W2)));
    dealt.extend(queues(&script.step(DriverEvent::WorkerLost(W1))));
    assert!(
        !dealt.is_empty() && dealt.iter().all(|queue| *queue == Queue::Worker(W1)),
        "{dealt:?}"
    );
}
