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
    assert_eq!(queues(&effects), [Queue::Worker(W1); 3]);
    // It is said of another one later: nobody is left.
    script.step(DriverEvent::LacksCode(JOB, W1));
    script.step(DriverEvent::WorkerLost(W1));
    let effects = script.wait(limits::STALL_ALARM_MS, &[(W0, &[])]);
    assert_eq!(alarms(&effects), ["job-stalled"]);
    assert_eq!(script.driver.stalled(JOB), Some(Stall::NobodyKnows));
    let joined = WorkerReport::Joined {
        memory_bytes: GIB * 4,
    };
    assert_eq!(queues(&script.says(W2, joined)), [Queue::Worker(W2); 3]);
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
