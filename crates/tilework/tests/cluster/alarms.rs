//! What a cluster's driver posts.

use crate::harness::{Cluster, MULTIPLY, SLOW, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Takes whatever is posted to its address.
fn receiver() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, posted) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            if sender.send(body(connection.unwrap())).is_err() {
                return;
            }
        }
    });
    (address, posted)
}

fn body(mut connection: TcpStream) -> Value {
    let mut reader = BufReader::new(&connection);
    let mut n_bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end().to_lowercase().as_str() {
            "" => break,
            line => {
                if let Some(length) = line.strip_prefix("content-length: ") {
                    n_bytes = length.parse().unwrap();
                }
            }
        }
    }
    let mut body = vec![0; n_bytes];
    reader.read_exact(&mut body).unwrap();
    connection
        .write_all(b"HTTP/1.1 204 Thanks\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_driver_posts_the_alarms_of_all_jobs() {
    let cluster = Cluster::start();
    let (address, posted) = receiver();
    let webhook = format!("TILEWORK_ALERT_WEBHOOK={address}");
    let line = "driver --cluster c/driver.join --data-root data=data";
    let _driver = cluster.wrapped("driver", &["env", &webhook, "NO_PROXY=127.0.0.1"], line, "");
    let mut worker = cluster.worker("w1", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let hit = job.wait_for_begun(None);
    worker.kill();
    cluster.assert_uncommitted(&job, hit);
    let mut seen = Vec::new();
    let mut arrives = |kind: &str, output: Value| {
        wait_for(kind, || {
            seen.extend(posted.try_iter());
            let of_kind = |post: &&Value| post["alarm"]["kind"] == kind;
            let post: &Value = seen.iter().find(of_kind)?;
            assert_eq!(post["output"], output, "{post}");
            Some(())
        });
    };
    arrives("worker-lost", Value::Null);
    arrives("job-stalled", "data:/C.npy".into());
    let _next = cluster.worker("w2", "");
    cluster.is_right(&job);
}
