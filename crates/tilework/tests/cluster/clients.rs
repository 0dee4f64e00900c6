//! Clients come and go; what they are told.

use crate::cost::Cost;
use crate::harness::{Cluster, MULTIPLY, SLOW, recovered, wait_for};
use crate::proxy::Proxy;
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};
use tilework::cluster::protocol::{AssignName, ProductWanted, Submit, Submitted, Wanted};
use tilework::cluster::record::unix_ms;
use tilework_nats::Role;
use tilework_runtime::StopSwitch;

#[test]
fn a_killed_clients_job_goes_on_and_the_same_command_attaches() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let line = format!("{MULTIPLY} data:/C.npy");
    let mut first = cluster.staying_client("first", &line);
    let mut job = cluster.running_job("C.npy");
    job.wait_for_commits(1);
    let hit = job.wait_for_begun(None);
    let killed = first.kill();
    cluster.assert_uncommitted(&job, hit);
    let commit = job.wait_for_commit(hit.task, None);
    let cost = Cost::of("client-killed", killed).recovered(commit.unix_ms, Duration::from_secs(5));
    let mut again = cluster.staying_client("again", &line);
    again.wait_until_said("the job runs already");
    let report = cluster.succeed(&line);
    assert_eq!(
        (report["status"].as_str(), report["id"].as_str()),
        (Some("done"), Some(&*job.id))
    );
    assert_eq!(again.end().code(), Some(0), "{}", again.said());
    assert_eq!(
        report["tasks_run"], report["tasks"],
        "nothing ran twice: {report}"
    );
    cluster.is_right(&job);
    cost.tell(&cluster, &mut job);
    // A finished one is not computed again.
    let refused = cluster.fail(&line, 2);
    assert!(refused["error"].as_str().unwrap().contains("C.npy"), "{refused}");
}

/// Found by chaos: who asked a driver in its last moment waited a minute for the answer, and was told that the server does not answer.
#[test]
fn what_was_asked_of_a_driver_that_hangs_is_asked_of_the_next_one() {
    let cluster = Cluster::start();
    let first = cluster.driver("d1");
    let _worker = cluster.worker("w1", SLOW);
    let _second = cluster.driver("d2");
    first.signal(Signal::STOP);
    let stopped = unix_ms();
    let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy"));
    let job = cluster.running_job("C.npy");
    recovered(
        "asked of a driver that hangs",
        stopped,
        unix_ms(),
        Duration::from_secs(25),
    );
    first.signal(Signal::CONT);
    assert_eq!(client.end().code(), Some(0), "{}", client.said());
    cluster.is_right(&job);
}

/// Found by chaos: who asked a driver whose network was frozen, and that drove again afterwards, waited a minute in vain.
#[test]
fn what_was_asked_of_a_driver_that_is_cut_off_is_asked_again_once_it_drives_again() {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.port());
    let join = cluster.join_through(Role::Driver, proxy.port());
    let joins = format!("--cluster {} --data-root data=data", join.display());
    let driver = cluster.driver_with("driver", &joins);
    let _worker = cluster.worker("w1", SLOW);
    proxy.freeze();
    let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy"));
    driver.wait_until_said("this driver leads no more");
    proxy.heal();
    let healed = unix_ms();
    let job = cluster.running_job("C.npy");
    recovered(
        "asked of a driver that was cut off",
        healed,
        unix_ms(),
        Duration::from_secs(25),
    );
    assert_eq!(client.end().code(), Some(0), "{}", client.said());
    cluster.is_right(&job);
}

/// A client asks again where no answer came: what was asked may have been done by then, and a sum must not be added twice.
#[test]
fn what_is_asked_again_after_its_end_is_not_done_again() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    cluster.succeed(&format!("{MULTIPLY} data:/C.npy"));
    let submit = Submit {
        token: Submit::new_token(),
        wanted: Wanted::Product(ProductWanted {
            a: "data:/A.npy".to_owned(),
            b: "data:/B.npy".to_owned(),
            transpose_a: false,
            transpose_b: false,
            symmetric: false,
            dtype: None,
            alpha: 1.0,
            add: Some(("data:/C.npy".to_owned(), 1.0)),
            algorithm: "classical".to_owned(),
        }),
        output: Some("data:/C.npy".to_owned()),
        assign: AssignName::Dynamic,
        memory_bytes: None,
        overwrite: true,
        restart: false,
        time_limit_ms: None,
    };
    let client = cluster.joined();
    let done = |submit: &Submit| {
        let submitted: Submitted = client
            .submit(submit, Duration::ZERO, &StopSwitch::default(), &|_| ())
            .unwrap();
        cluster.succeed(&format!("watch {}", submitted.job));
        (submitted, fs::read(cluster.data("C.npy")).unwrap())
    };
    let (first, sum) = done(&submit);
    let (again, unchanged) = done(&submit);
    assert_eq!((&again.job, again.was_running), (&first.job, true));
    assert!(unchanged == sum, "it was added twice");
    let (other, twice) = done(&Submit {
        token: Submit::new_token(),
        ..submit
    });
    assert_ne!(other.job, first.job);
    assert!(twice != sum, "somebody else's sum is another one");
}

#[test]
fn ctrl_c_leaves_and_says_how_to_come_back() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", SLOW);
    let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy"));
    let mut job = cluster.running_job("C.npy");
    let hit = job.wait_for_begun(None);
    client.signal(Signal::INT);
    cluster.assert_uncommitted(&job, hit);
    assert_eq!(client.end().code(), Some(130), "{}", client.said());
    for words in [
        format!("tilework watch {}", job.id),
        format!("tilework cancel {}", job.id),
    ] {
        assert!(client.said().contains(&words), "{}", client.said());
    }
    job.wait_for_commit(hit.task, None);
    cluster.is_right(&job);
}

#[test]
fn a_report_comes_as_soon_as_the_job_ends() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy"));
    let mut job = cluster.running_job("C.npy");
    let ended = wait_for("the output's name", || {
        cluster.data("C.npy").exists().then(unix_ms)
    });
    assert_eq!(client.end().code(), Some(0), "{}", client.said());
    recovered(
        "report after the output has its name",
        ended,
        unix_ms(),
        Duration::from_millis(900),
    );
    assert!(!job.events().is_empty());
}

#[test]
fn detached_jobs_and_workers_are_listed() {
    let cluster = Cluster::start();
    let driver = cluster.driver("driver");
    let worker = cluster.worker("w1", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(1);
    wait_for("a worker at work on the board", || {
        (cluster.state_of(worker.number())? == "working").then_some(())
    });
    let jobs = cluster.succeed("jobs");
    let shown = &jobs["jobs"][0];
    assert_eq!(shown["id"], job.id.as_str(), "{jobs}");
    assert_eq!(
        (shown["kind"].as_str(), shown["state"].as_str()),
        (Some("multiply"), Some("running"))
    );
    assert_eq!(
        (shown["output"].as_str(), shown["run"].as_u64()),
        (Some("data:/C.npy"), Some(1))
    );
    for field in [
        "tasks",
        "tasks_committed",
        "tasks_resumed",
        "retries",
        "backups",
        "submitted_unix_ms",
    ] {
        assert!(shown[field].is_u64(), "{field}: {shown}");
    }
    for field in ["waits_for", "ended_unix_ms", "error", "next"] {
        assert!(shown[field].is_null(), "{field}: {shown}");
    }
    let workers = cluster.succeed("workers");
    let shown = &workers["workers"][0];
    assert_eq!(shown["id"], worker.number(), "{workers}");
    assert_eq!(
        (shown["pid"].as_u64(), shown["threads"].as_u64()),
        (Some(worker.pid().into()), Some(1))
    );
    assert_eq!(
        (shown["memory_bytes"].as_u64(), shown["state"].as_str()),
        (Some(16 << 20), Some("working"))
    );
    assert_eq!(shown["data_roots"], serde_json::json!(["data"]));
    assert!(shown["host"].is_string() && shown["tasks_done"].is_u64());
    let report = cluster.is_right(&job);
    assert_eq!(report["workers"][0]["tasks"], report["tasks"]);
    let on_board = cluster.succeed("jobs")["jobs"][0].clone();
    assert_eq!(on_board["state"], "done", "{on_board}");
    assert_eq!(on_board["tasks_committed"], report["tasks"]);
    assert_eq!(
        on_board["by_worker"][worker.number().to_string()],
        report["tasks"]
    );
    drop(driver);
}

#[test]
fn who_finds_nobody_ends_with_6() {
    let mut cluster = Cluster::start();
    let line = format!("{MULTIPLY} data:/C.npy --wait 2s");
    let timed = |line: &str| {
        let asked = Instant::now();
        let told = cluster.fail(line, 6);
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(5), "{line}: {took:?}");
        assert!(told["next"].is_string(), "{told}");
        (told["error"].as_str().unwrap().to_owned(), took)
    };
    let (no_driver, took) = timed(&line);
    assert!(
        no_driver.contains("no driver") && took >= Duration::from_secs(2),
        "{no_driver}, {took:?}"
    );
    for line in ["jobs", "workers", "watch x", "cancel x"] {
        assert!(timed(line).0.contains("no driver"));
    }
    let driver = cluster.driver("driver");
    driver.wait_until_said("waits for the lease");
    wait_for("a board", || cluster.workers_on_board());
    let (no_worker, took) = timed(&line);
    assert!(
        no_worker.contains("no workers") && took >= Duration::from_secs(2),
        "{no_worker}, {took:?}"
    );
    assert!(!cluster.data("C.npy.tilework").exists());
    // A job that waits for its only worker.
    let mut worker = cluster.worker("w1", SLOW);
    let mut client = cluster.staying_client("client", &line);
    let mut job = cluster.running_job("C.npy");
    let hit = job.wait_for_begun(None);
    let killed = worker.kill();
    cluster.assert_uncommitted(&job, hit);
    assert_eq!(client.end().code(), Some(6), "{}", client.said());
    println!("no worker: left after {:.1} s", (unix_ms() - killed) as f64 / 1e3);
    let _worker = cluster.worker("w2", "");
    cluster.is_right(&job);
    drop(driver);
    cluster.kill_server();
    let asked = Instant::now();
    let told = cluster.fail(&line, 6);
    assert!(told["error"].as_str().unwrap().contains("connect"), "{told}");
    println!("no server: said after {:.1} s", asked.elapsed().as_secs_f64());
}

#[test]
fn a_job_without_workers_is_waited_for_no_longer_than_asked() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let mut worker = cluster.worker("w1", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_begun(None);
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().code(), Some(0), "{}", worker.said());
    let asked = Instant::now();
    let told = cluster.fail(&format!("watch {} --wait 2s", job.id), 6);
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(7),
        "{took:?}: {told}"
    );
    assert!(told["error"].as_str().unwrap().contains("no workers"), "{told}");
    let _next = cluster.worker("w2", "");
    cluster.is_right(&job);
}

#[test]
fn a_path_means_the_file_at_that_place_and_no_other_of_that_name() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    cluster.is_right(&job);
    for line in ["watch C.npy", "cancel C.npy", "logs ./C.npy"] {
        let told = cluster.fail(line, 2);
        assert!(told["error"].as_str().unwrap().contains("knows no job"), "{told}");
        assert!(told["next"].as_str().unwrap().contains("`data:/C.npy`"), "{told}");
    }
    let nothing_here = cluster.succeed("status C.npy");
    assert_eq!(
        (nothing_here["state"].as_str(), nothing_here["id"].as_str()),
        (Some("none"), None),
        "{nothing_here}"
    );
    // The root is here where it is at the driver.
    for named in [
        "data:/C.npy",
        "data:C.npy",
        "data/C.npy",
        "./data/../data/C.npy",
        &job.id[..6],
    ] {
        for line in ["status", "explain", "watch"] {
            let told = cluster.succeed(&format!("{line} {named}"));
            assert_eq!(told["id"], job.id.as_str(), "{line} {named}: {told}");
        }
    }
    // What stands here is not taken for a job whose id begins like that.
    let beginning = &job.id[..1];
    cluster
        .stage
        .succeed(&format!("multiply data/A.npy data/B.npy -o {beginning}"));
    let here = cluster.succeed(&format!("status {beginning}"));
    assert_eq!(here["output"], beginning, "{here}");
}
