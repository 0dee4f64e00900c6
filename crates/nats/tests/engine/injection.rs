//! The server answers a request with its own rights, wherever the request says that the answer goes: nobody may have it do so what
//! he may not do himself.

use crate::cluster::{Cluster, Intruder};
use crate::harness::{SOON, attempt};
use async_nats::jetstream;
use std::thread;
use std::time::Duration;
use tilework_core::driver::Queue;
use tilework_core::worker::WorkerEvent;
use tilework_nats::Role;
use tilework_nats::streams::{TASK_STREAM, pull_subject};
use tilework_runtime::engine::{DriverPort, WorkerPort};

/// A pull that finds nothing is answered without a body, which is all that these commands want to read. In one account with the
/// driver a worker got rid of the task stream like that.
#[test]
fn an_answer_is_no_command_to_the_server() {
    let cluster = Cluster::start();
    let (mut driver, mut worker) = (cluster.driver(), cluster.worker());
    let intruder = Intruder::with(&cluster.join(Role::Worker));
    let owner = Intruder::with(&cluster.join(Role::Driver));
    driver.release(attempt(1), Queue::Shared);
    worker.fetch();
    let held = WorkerEvent::Assigned(attempt(1));
    assert_eq!(worker.next(SOON), Some(held));
    for command in [
        "$JS.ACK.TW_TASKS.q-shared.1.1.1.0.0",
        "$JS.API.CONSUMER.DELETE.TW_TASKS.q-shared",
        "$JS.API.STREAM.PURGE.TW_TASKS",
        "$JS.API.STREAM.DELETE.TW_TASKS",
    ] {
        let pull = pull_subject(Queue::Shared);
        let no_wait = r#"{"batch":1,"no_wait":true}"#;
        let asking = intruder.client.publish_with_reply(pull, command, no_wait.into());
        intruder.runtime.block_on(asking).unwrap();
        assert_eq!(intruder.may_publish(&["tw.ping"]), ["tw.ping"], "it was heard");
        thread::sleep(Duration::from_millis(300)); // waits: for what must not happen
        let counts = owner.runtime.block_on(async {
            let jetstream = jetstream::new(owner.client.clone());
            let stream = jetstream.get_stream(TASK_STREAM).await.expect(command);
            let state = &stream.cached_info().state;
            (state.messages, state.consumer_count)
        });
        assert_eq!(counts, (1, 1), "{command}");
    }
}
