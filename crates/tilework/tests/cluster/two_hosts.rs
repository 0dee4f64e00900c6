//! Two hosts on one machine: network namespaces that a cable joins, with other mounts in each. The cable is unplugged and plugged in again.
//!
//! The test runs itself again in namespaces of its own, where it may make interfaces and mounts without rights on this machine.

use crate::common::Running;
use crate::harness::{Cluster, MULTIPLY, Process, SLOW, of_kind, recovered, wait_for};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tilework::cluster::record::unix_ms;

const NAME: &str = "two_hosts::a_worker_on_another_host_goes_on_when_its_cable_is_back";
/// Set for the test that runs in namespaces of its own.
const INSIDE: &str = "TILEWORK_TEST_TWO_HOSTS";
/// The host of server, driver and one worker.
const HEAD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The other worker's.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The two ends of the cable.
const HEAD_END: &str = "head";
const FAR_END: &str = "far";
/// Longer than a worker may be silent.
const UNPLUGGED: Duration = Duration::from_millis(7500);

/// A host with a network of its own, which exists as long as a process keeps it.
struct FarHost {
    keeper: Child,
}

impl FarHost {
    /// Joined to this host by a cable.
    fn joined() -> FarHost {
        let keeper = Command::new("unshare")
            .args(["-n", "cat"])
            .stdin(Stdio::piped())
            .spawn();
        let far = FarHost {
            keeper: keeper.unwrap(),
        };
        wait_for("the far host", || {
            (network_of(far.pid()) != network_of("self")).then_some(())
        });
        set_up(&[], &["up", "lo"]);
        set_up(&[], &["pair", HEAD_END, FAR_END, &far.pid()]);
        set_up(&[], &["address", HEAD_END, &HEAD.to_string()]);
        set_up(&[], &["up", HEAD_END]);
        far.set_up(&["address", FAR_END, &FAR.to_string()]);
        far.set_up(&["up", FAR_END]);
        far
    }

    fn pid(&self) -> String {
        self.keeper.id().to_string()
    }

    fn set_up(&self, what: &[&str]) {
        set_up(&["nsenter", "-n", "-t", &self.pid()], what);
    }

    /// A worker here, where the data root is mounted elsewhere and its place on the other host is empty.
    fn worker(&self, cluster: &Cluster) -> Process {
        let script = "mount --bind data elsewhere && mount -t tmpfs none data && exec \"$0\" \"$@\"";
        let pid = self.pid();
        let wrapper = ["nsenter", "-n", "-t", &pid, "unshare", "-m", "sh", "-c", script];
        let line = "worker --memory 16MiB --threads 1 --cluster c/worker.join --data-root data=elsewhere";
        let mut worker = cluster.wrapped("far", &wrapper, line, SLOW);
        worker.wait_for_number();
        worker
    }
}

impl Drop for FarHost {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn network_of(pid: impl AsRef<str>) -> PathBuf {
    fs::read_link(Path::new("/proc").join(pid.as_ref()).join("ns/net")).unwrap()
}

/// Sets up an interface, on the host that `wrapper` enters.
fn set_up(wrapper: &[&str], what: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/veth.py");
    let words = [wrapper, &["python3", script], what].concat();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{what:?}: {output:?}");
}

/// In namespaces where this user may do everything.
fn in_own_namespaces() -> Command {
    let mut command = Command::new("unshare");
    command.args(["-r", "-n", "-m"]);
    command
}

/// Why there can be no two hosts here, if there can't.
fn missing() -> Option<String> {
    let script = "mount -t tmpfs none /mnt && unshare -n true && nsenter --version && python3 --version";
    let tried = in_own_namespaces().args(["sh", "-c", script]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

#[test]
fn a_worker_on_another_host_goes_on_when_its_cable_is_back() {
    if std::env::var_os(INSIDE).is_some() {
        return cable_is_unplugged();
    }
    if let Some(why) = missing() {
        println!("SKIPPED, no network namespaces here: {why}");
        return;
    }
    let mut inside = in_own_namespaces();
    inside
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1");
    let output = Running::start(inside).end();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}",
        output.status
    );
}

fn cable_is_unplugged() {
    let far = FarHost::joined();
    let cluster = Cluster::listening_on(HEAD);
    fs::create_dir(cluster.stage.path("elsewhere")).unwrap();
    let _driver = cluster.driver("driver");
    let _near = cluster.worker("near", SLOW);
    let worker = far.worker(&cluster);
    assert_ne!(network_of(worker.pid().to_string()), network_of("self"));
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for("a commit of the far worker", |events| {
        let mut commits = of_kind(events, "committed");
        commits
            .find(|event| event.worker == Some(worker.number()))
            .cloned()
    });
    let hit = job.wait_for_begun(Some(worker.number()));
    far.set_up(&["down", FAR_END]);
    let unplugged = unix_ms();
    cluster.assert_uncommitted(&job, hit);
    // Without a connection it finishes what it has: the journal knows, or another commits it again.
    let commit = job.wait_for_commit(hit.task, Some(hit.worker));
    recovered(
        "cable unplugged",
        unplugged,
        commit.unix_ms,
        Duration::from_secs(10),
    );
    wait_for("the worker counts as lost", || {
        (cluster.state_of(hit.worker)? == "lost").then_some(())
    });
    let so_far = Duration::from_millis(unix_ms() - unplugged);
    thread::sleep(UNPLUGGED.saturating_sub(so_far)); // waits: the cable is out for longer than a worker may be silent
    far.set_up(&["up", FAR_END]);
    let back = unix_ms();
    println!("the cable was out for {:.1} s", (back - unplugged) as f64 / 1e3);
    let mut next = cluster.submit(&format!("{MULTIPLY} data:/D.npy"));
    let by_it = next.wait_for("a task of the far worker", |events| {
        let mut commits = of_kind(events, "committed");
        commits
            .find(|event| event.worker == Some(worker.number()))
            .cloned()
    });
    recovered("cable plugged in", back, by_it.unix_ms, Duration::from_secs(15));
    cluster.is_right(&job);
    cluster.is_right(&next);
}
