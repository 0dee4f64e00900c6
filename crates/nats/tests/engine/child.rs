//! A server that is run as a child ends with whoever runs it, and proves who it talks to.

use crate::harness::{SOON, found_server};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::ids::WorkerIdx;
use tilework_nats::connection::Secret;
use tilework_nats::{
    ChildServer, ConnectError, NatsDriverPort, NatsOptions, NatsWorkerPort, Role, ServerConfig,
};

/// Tells the helper below where to run its server.
const HELPER_FOLDER: &str = "TILEWORK_TEST_CHILD_FOLDER";
const POLL: Duration = Duration::from_millis(10);

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(POLL); // waits: another process
    }
}

#[test]
fn a_stopped_server_listens_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let config = ServerConfig::in_folder(folder.path());
    let server = ChildServer::start(&found_server().path, &config).unwrap();
    let port = server.port();
    assert!(listens(port));
    server.stop();
    assert!(!listens(port));
}

/// Not a test by itself: the process that the next test kills.
#[test]
fn helper_that_runs_a_server_until_it_is_killed() {
    let Some(folder) = std::env::var_os(HELPER_FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let server = ChildServer::start(&found_server().path, &ServerConfig::in_folder(folder)).unwrap();
    fs::write(folder.join("port.new"), server.port().to_string()).unwrap();
    fs::rename(folder.join("port.new"), folder.join("port")).unwrap();
    thread::sleep(2 * SOON); // waits: to be killed
}

#[test]
fn a_server_does_not_outlive_a_process_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::helper_that_runs_a_server_until_it_is_killed"])
        .env(HELPER_FOLDER, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let port = folder.path().join("port");
    wait_until("the helper starts a server", || port.exists());
    let port: u16 = fs::read_to_string(port).unwrap().parse().unwrap();
    assert!(listens(port));
    helper.kill().unwrap();
    helper.wait().unwrap();
    wait_until("the server ends with its process", || !listens(port));
}

#[test]
fn a_server_that_can_not_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        settings: "nonsense: {".to_string(),
        ..ServerConfig::in_folder(folder.path())
    };
    assert!(ChildServer::start(&found_server().path, &config).is_err());
}

#[test]
fn a_server_with_keys_lets_in_who_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let key = nkeys::KeyPair::new_user();
    let config = ServerConfig {
        settings: format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key()),
        ..ServerConfig::in_folder(folder.path())
    };
    let server = ChildServer::start(&found_server().path, &config).unwrap();
    let stranger = NatsOptions::single(server.url(), Role::Worker, "stranger");
    let refused = NatsWorkerPort::connect(&stranger, WorkerIdx(0));
    assert!(
        matches!(refused, Err(ConnectError::Refused { .. })),
        "{refused:?}"
    );
    let known = NatsOptions {
        nkey_seed: Some(Secret(key.seed().unwrap())),
        ..stranger
    };
    NatsDriverPort::connect(&known).expect("it has the key");
}
