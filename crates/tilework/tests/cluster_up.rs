//! `cluster up` with a real nats-server: what it starts ends with it, however it ends.

mod common;

use common::{PATIENCE, Running, Stage};
use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tilework::commands::cluster::process::Launch;
use tilework::commands::cluster::supervisor::{Member, Members, Supervisor};
use tilework::output::Output;
use tilework_nats::ClusterFolder;
use tilework_nats::server::Places;

/// Tells the helper below where its cluster is.
const HELPER_FOLDER: &str = "TILEWORK_TEST_CLUSTER_FOLDER";

/// The server that `cargo xtask nats-server` found or installed.
fn server() -> PathBuf {
    let mut places = Places::from_env();
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/nats-server");
    places.also.push(tools.join("bin/nats-server"));
    let found = places.find().unwrap_or_else(|error| {
        panic!("{error}, or let `cargo xtask nats-server` install one for the tests")
    });
    found.path
}

/// A folder with a cluster `c` in it, at a port that was free.
fn stage() -> Stage {
    let stage = Stage::empty();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    stage.succeed(&format!("cluster init c --listen 127.0.0.1:{port}"));
    stage
}

fn with_server(stage: &Stage, line: &str) -> Command {
    let mut command = stage.command(line);
    command.env("TILEWORK_NATS_SERVER", server());
    command
}

/// The processes whose parent is `pid`, and theirs: servers, watchers, drivers, workers.
fn descendants(pid: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let children: Vec<u32> = pids
        .filter(|child| stat(*child).is_some_and(|(_, parent)| parent == pid))
        .collect();
    children
        .iter()
        .flat_map(|child| [vec![*child], descendants(*child)].concat())
        .collect()
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// Nobody may have asked yet how it ended.
fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == "Z")
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(5)); // waits: another process
    }
}

/// The server has said at which port it listens.
fn listens(cluster: &Path) -> bool {
    let names = fs::read_dir(cluster.join("ports"));
    names.is_ok_and(|mut names| names.next().is_some())
}

#[test]
fn an_up_that_is_killed_leaves_no_process_and_the_next_one_starts() {
    let stage = stage();
    let cluster = stage.path("c");
    for _ in 0..2 {
        let mut up = Running::start(with_server(&stage, "cluster up c --memory 64MiB"));
        up.wait_until("the server listens", || {
            listens(&cluster) && cluster.join("logs/worker-1.log").exists()
        });
        let pids = descendants(up.pid());
        assert!(pids.len() >= 2, "{pids:?}");
        assert!(up.kill());
        wait_until("somebody is left", || pids.iter().all(|pid| has_ended(*pid)));
        assert_eq!(stage.succeed("cluster status c")["running"], false);
        fs::remove_dir_all(cluster.join("ports")).unwrap();
        fs::remove_file(cluster.join("logs/worker-1.log")).unwrap();
    }
}

#[test]
fn down_stops_what_up_started_and_leaves_no_process() {
    let stage = stage();
    let cluster = stage.path("c");
    let mut up = Running::start(with_server(&stage, "cluster up c --memory 64MiB"));
    let pid = up.pid();
    up.wait_until("the server listens", || listens(&cluster));
    let status = stage.succeed("cluster status c");
    assert_eq!((&status["running"], &status["pid"]), (&true.into(), &pid.into()));
    let pids = descendants(pid);
    let down = stage.succeed("cluster down c --purge");
    assert_eq!(
        (&down["was_running"], &down["pid"], &down["purged"]),
        (&true.into(), &pid.into(), &true.into())
    );
    up.end();
    assert!(pids.iter().all(|pid| has_ended(*pid)), "somebody is left");
    assert!(!cluster.join("up.lock").exists());
    assert!(fs::read_dir(cluster.join("data")).unwrap().next().is_none());
}

#[test]
fn a_cluster_that_runs_passes_the_doctor_and_explains_its_jobs() {
    let stage = stage();
    stage.succeed("generate normal 200x100 -o A.npy");
    stage.succeed("generate normal 100x300 -o B.npy --seed 2");
    let up = Running::start(with_server(&stage, "cluster up c --workers 2 --memory 64MiB"));
    wait_until("the cluster is fit for work", || {
        let doctor = stage.run("doctor --cluster c/client.join");
        let found = String::from_utf8_lossy(&doctor.stdout);
        doctor.status.success() && found.contains("workers         2 of tilework")
    });
    for (role, n_checks) in [("driver", 12), ("worker", 9), ("client", 12), ("viewer", 12)] {
        let examined = stage.succeed(&format!("doctor --cluster c/{role}.join"));
        assert_eq!(
            (&examined["status"], &examined["role"]),
            (&"done".into(), &role.into())
        );
        let checks = examined["checks"].as_array().unwrap();
        assert_eq!(checks.len(), n_checks, "{checks:?}");
        assert!(checks.iter().all(|check| check["ok"] == true), "{checks:?}");
    }
    let report = stage.succeed("multiply A.npy B.npy -o C.npy --cluster c/client.join");
    let id = report["id"].as_str().unwrap();
    let of_client = [id, &id[..8], "C.npy", "data:/C.npy"].map(|named| (named, "client"));
    for (named, role) in of_client.into_iter().chain([(id, "viewer")]) {
        let told = stage.succeed(&format!("explain {named} --cluster c/{role}.join"));
        assert_eq!((&told["id"], &told["state"]), (&id.into(), &"done".into()));
        assert!(
            told["next"].as_str().unwrap().starts_with("tilework verify /"),
            "{told}"
        );
    }
    let of_workers = stage.succeed(&format!("explain {id} --cluster c/client.join"))["workers"].clone();
    let n_tasks = of_workers.as_array().unwrap().iter();
    let n_tasks: u64 = n_tasks.map(|worker| worker["tasks"].as_u64().unwrap()).sum();
    assert_eq!(n_tasks, report["tasks"].as_u64().unwrap());
    // What the cluster does not know is looked for beside its output.
    let unknown = stage.succeed("explain D.npy --cluster c/client.join");
    assert_eq!((&unknown["state"], &unknown["id"]), (&"none".into(), &().into()));
    stage.succeed("cluster down c");
    up.end();
    let doctor = stage.run("doctor --cluster c/client.join");
    assert_eq!(doctor.status.code(), Some(6), "{doctor:?}");
}

/// What a newcomer does: a cluster in the background, a product, a worker killed on the way; then the whole cluster.
#[test]
fn a_killed_worker_changes_no_byte_and_a_killed_cluster_leaves_no_process() {
    let stage = stage();
    stage.succeed("generate normal 1200x300 -o A.npy");
    stage.succeed("generate normal 300x1200 -o B.npy --seed 2");
    let mut up = with_server(&stage, "cluster up c --workers 2 --memory 16MiB --detach --json");
    // In debug builds: long enough to be hit.
    let up = up.env("TILEWORK_TEST_SLOW", "*:300ms").output().unwrap();
    assert!(up.status.success(), "{up:?}");
    let status = stage.succeed("cluster status c");
    let keeper = status["pid"].as_u64().unwrap() as u32;
    let pids = descendants(keeper);
    let workers = stage.succeed("workers --cluster c/client.join");
    let workers = workers["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2, "{workers:?}");
    let victim = workers[0]["pid"].as_u64().unwrap() as u32;
    assert!(pids.contains(&victim), "{victim} is none of {pids:?}");

    let mut multiply = stage.start("multiply A.npy B.npy -o C.npy --cluster c/client.join --json");
    stage.wait_for_commits("C.npy", 1, &mut multiply);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(victim as i32).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    let before = stage.n_committed("C.npy");
    let report: serde_json::Value = serde_json::from_slice(&multiply.end().stdout).unwrap();
    assert_eq!(report["status"], "done", "{report}");
    assert!(
        before < report["tasks"].as_u64().unwrap(),
        "it was killed on the way"
    );
    stage.succeed("multiply A.npy B.npy -o D.npy");
    assert!(
        stage.read("C.npy") == stage.read("D.npy"),
        "other bytes than without faults"
    );
    stage.succeed("verify C.npy");
    // It was started again.
    wait_until("there are two workers again", || {
        let workers = stage.succeed("workers --cluster c/client.join");
        let there = workers["workers"].as_array().unwrap().iter();
        there.filter(|worker| worker["state"] != "lost").count() == 2
    });

    let pids = descendants(keeper);
    assert!(pids.len() >= 5, "server, watcher, driver, workers: {pids:?}");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(keeper as i32).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    wait_until("somebody is left", || pids.iter().all(|pid| has_ended(*pid)));
}

/// Not a test by itself: the process that the next test kills.
#[test]
fn helper_that_keeps_a_cluster_until_it_is_killed() {
    let Some(folder) = std::env::var_os(HELPER_FOLDER) else {
        return;
    };
    let cluster = ClusterFolder::open(Path::new(&folder)).unwrap();
    let member = |name: &str, launch: Launch| Member {
        name: name.to_owned(),
        log: cluster.path().join(name),
        launch,
    };
    // Ends only when its input closes: a driver and a worker that do nothing.
    let program = |name: &str| {
        let launch = Launch::Program {
            program: PathBuf::from("/bin/sh"),
            args: ["-c", "trap '' HUP TERM; cat >/dev/null"]
                .map(Into::into)
                .to_vec(),
            log: cluster.path().join(name),
        };
        member(name, launch)
    };
    let members = Members {
        server: member(
            "nats-server",
            Launch::Server {
                program: server(),
                cluster: cluster.clone(),
            },
        ),
        driver: program("driver"),
        workers: vec![program("worker-1"), program("worker-2")],
    };
    let output = Output::new(false, true, 0, Instant::now());
    let mut supervisor = Supervisor::start(members, &output).unwrap();
    fs::write(cluster.path().join("started"), "").unwrap();
    let until = Instant::now() + 2 * PATIENCE;
    while Instant::now() < until {
        supervisor.tend();
        thread::sleep(Duration::from_millis(10)); // waits: to be killed
    }
}

#[test]
fn whoever_is_kept_running_ends_with_a_keeper_that_is_killed() {
    let stage = stage();
    let cluster = stage.path("c");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "helper_that_keeps_a_cluster_until_it_is_killed"])
        .env(HELPER_FOLDER, &cluster);
    let mut keeper = Running::start(command);
    keeper.wait_until("all are started", || cluster.join("started").exists());
    // Server, watcher, driver and two workers, the shells' children besides.
    let pids = descendants(keeper.pid());
    assert!(pids.len() >= 5, "{pids:?}");
    assert!(pids.iter().all(|pid| !has_ended(*pid)), "{pids:?}");
    keeper.signal(Signal::KILL);
    keeper.end();
    wait_until("somebody is left", || pids.iter().all(|pid| has_ended(*pid)));
}
