//! Workers that compute wrong results: none of them is committed, who lies is named and gets no more tasks, and where all lie the job fails.

use crate::cost::Cost;
use crate::harness::{Cluster, DATA, MULTIPLY, Process, of_kind, wait_for};
use std::fs;
use std::time::Duration;
use tilework::cluster::events::JobEvent;

/// A worker whose every result has a wrong row.
fn liar(cluster: &Cluster, name: &str) -> Process {
    let line = "worker --memory 16MiB --threads 1 --cluster c/worker.join --data-root data=data";
    let mut liar = cluster.wrapped(name, &["env", "TILEWORK_TEST_LIES=*:row:1:7"], line, "");
    liar.wait_for_number();
    liar
}

#[test]
fn a_worker_that_lies_is_quarantined_and_its_job_ends_right() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    // The liar is the fastest.
    let _honest = [cluster.worker("w1", "*:200ms"), cluster.worker("w2", "*:200ms")];
    let liar = liar(&cluster, "liar");
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let report = cluster.is_right(&job);
    let events = job.all_events().to_vec();
    let by_liar = |what: &str| {
        let events = of_kind(&events, what).filter(|event| event.worker == Some(liar.number()));
        events.cloned().collect::<Vec<_>>()
    };
    let lies = by_liar("failed");
    println!(
        "{} lies, {} results of the liar committed",
        lies.len(),
        by_liar("committed").len()
    );
    assert!(lies.len() >= 3, "it lied {} times", lies.len());
    for lie in &lies {
        assert!(lie.text.as_ref().unwrap().contains("failed its check"), "{lie:?}");
    }
    assert!(by_liar("committed").is_empty());
    let kind = |event: &&JobEvent| {
        event
            .alarm
            .as_ref()
            .is_some_and(|alarm| alarm.kind == "worker-quarantined")
    };
    let alarm = of_kind(&events, "alarm")
        .find(kind)
        .expect("an alarm tells of it");
    let words = format!("worker {} gets no more tasks", liar.number());
    assert!(alarm.text.as_ref().unwrap().contains(&words), "{alarm:?}");
    let later = by_liar("started")
        .iter()
        .filter(|event| event.unix_ms > alarm.unix_ms)
        .count();
    // One task may have been on its way to it.
    assert!(later <= 1, "it began {later} tasks after it was quarantined");
    let told = report["alarms"].to_string();
    assert!(
        told.contains(&words) && told.contains("attempt-corrupt"),
        "{report}"
    );
    let began = |lie: &JobEvent| {
        let attempts = by_liar("started").into_iter();
        let mut of_lie = attempts.filter(|start| (start.task, start.attempt) == (lie.task, lie.attempt));
        of_lie.next().expect("it was begun").unix_ms
    };
    let mended = job.wait_for_commit(lies[0].task.unwrap(), Some(liar.number()));
    let lost: Vec<u64> = lies.iter().map(|lie| lie.unix_ms - began(lie)).collect();
    Cost::of("result-wrong", began(&lies[0]))
        .noticed(lies[0].unix_ms)
        .recovered(mended.unix_ms, Duration::from_secs(10))
        .tell_lost(&lost);
    // Nor of the next job.
    let mut next = cluster.submit(&format!("{MULTIPLY} data:/D.npy"));
    cluster.is_right(&next);
    let mut started = of_kind(next.all_events(), "started");
    assert!(started.all(|event| event.worker != Some(liar.number())));
}

#[test]
fn where_all_workers_lie_the_job_fails_and_leaves_no_output() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let liars = [liar(&cluster, "w1"), liar(&cluster, "w2")];
    let failed = cluster.fail(&format!("{MULTIPLY} data:/C.npy"), 4);
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("failed its check"), "{failed}");
    // `... (task 3, on workers 0, 1)`
    let named = error.split(" on worker").nth(1).expect("it names who failed");
    let named = named.trim_start_matches('s').trim_end_matches(')').split(',');
    let named: Vec<u32> = named.map(|number| number.trim().parse().unwrap()).collect();
    let numbers = liars.each_ref().map(Process::number);
    assert!(named.iter().all(|number| numbers.contains(number)), "{failed}");
    assert!(failed["next"].as_str().unwrap().contains("resume"), "{failed}");
    assert!(!cluster.data("C.npy").exists());
    assert!(cluster.committed("C.npy").is_empty());
    // With an honest worker it goes on.
    drop(liars);
    let _honest = cluster.worker("w3", "");
    cluster.succeed("resume data:/C.npy");
    cluster.has_product_of("A.npy", "B.npy", "C.npy");
}

/// Its files are named by data roots, which are found by where the output is.
#[test]
fn what_a_cluster_computed_is_repaired_where_its_files_are() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    cluster.is_right(&job);
    let bytes = fs::read(cluster.data("C.npy")).unwrap();
    let at = bytes.len() - 1000;
    cluster
        .stage
        .patch(&format!("{DATA}/C.npy"), &[bytes[at] ^ 4], at as u64);
    let output = cluster.stage.run("verify data/C.npy");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let report = cluster.stage.succeed("repair data/C.npy");
    assert_eq!(
        report["tiles_repaired"].as_array().map(Vec::len),
        Some(1),
        "{report}"
    );
    assert!(fs::read(cluster.data("C.npy")).unwrap() == bytes);
    wait_for("the folder holds the journal alone", || {
        let names = fs::read_dir(cluster.data("C.npy.tilework")).unwrap();
        names
            .map(|entry| entry.unwrap().file_name())
            .eq(["journal"])
            .then_some(())
    });
}
