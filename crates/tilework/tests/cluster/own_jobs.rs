//! Jobs of a program's own: rounds survive workers and drivers, and who lacks the code does no harm.

use crate::harness::{Cluster, Job, begun, of_kind, recovered, wait_for};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rounds of four tasks each, of which each takes a while with [`SLOW`].
const KMEANS: &str = "run kmeans --set matrix=data/digits.npy --set k=10 --set tasks=4 --set rounds_max=6";
const SLOW: &str = "*:150ms";

/// With the matrix of digits in its data root.
fn cluster() -> Cluster {
    let cluster = Cluster::start().of_example("kmeans");
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits.npy");
    fs::copy(digits, cluster.data("digits.npy")).unwrap();
    cluster
}

/// Waits until the job is in that round or a later one.
fn wait_for_round(job: &Job, round: u32) {
    wait_for(&format!("round {round}"), || {
        (job.on_board()?.round >= round).then_some(())
    });
}

/// Whether the job is done with the bytes of one undisturbed process.
fn is_right(cluster: &Cluster, job: &Job) {
    is_as_alone(cluster, job, KMEANS);
}

fn is_as_alone(cluster: &Cluster, job: &Job, line: &str) {
    let report = cluster.report(job);
    assert_eq!(report["status"], "done");
    let alone = cluster.alone(&format!("{line} -o undisturbed.json --overwrite"));
    assert!(alone.status.success(), "{alone:?}");
    assert_eq!(
        fs::read_to_string(cluster.data(&job.output)).unwrap(),
        fs::read_to_string(cluster.stage.path("undisturbed.json")).unwrap()
    );
    assert!(!cluster.data(&format!("{}.partial", job.output)).exists());
}

#[test]
fn rounds_survive_a_worker_and_a_driver() {
    let cluster = cluster();
    let mut drivers = [cluster.driver("d1"), cluster.driver("d2")];
    let mut workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut job = cluster.submit(&format!("{KMEANS} -o data:/c.json"));
    wait_for_round(&job, 1);
    let hit = job.wait_for_begun(None);
    let victim = workers.iter_mut().find(|worker| worker.number() == hit.worker);
    let killed = victim.unwrap().kill();
    let commit = job.wait_for_commit(hit.task, Some(hit.worker));
    recovered(
        "worker killed in a round",
        killed,
        commit.unix_ms,
        Duration::from_secs(10),
    );
    let round = job.on_board().unwrap().round;
    let driving = cluster.driving_pid().unwrap();
    let driver = drivers.iter_mut().find(|driver| driver.pid() == driving);
    let killed = driver.unwrap().kill();
    let state = job.on_board().unwrap().state;
    assert_eq!(state, "running", "the driver was killed too late");
    let began = job.wait_after("began", killed);
    recovered(
        "driver killed in a round",
        killed,
        began.unix_ms,
        Duration::from_secs(10),
    );
    wait_for_round(&job, round);
    is_right(&cluster, &job);
}

/// Three rounds: about ten files of three sections each, of which each of three tasks reads one from each, and leaves a file; a last task reads these.
#[test]
fn files_of_tasks_go_from_worker_to_worker() {
    const SLOWER: &str = "*:400ms";
    const WORDS: &str = "run word-count --set folder=data/text --set split_bytes=40000 --set reducers=3";
    let cluster = Cluster::start().of_example("word_count");
    fs::create_dir(cluster.data("text")).unwrap();
    for doc in [
        "journal-format.md",
        "operations.md",
        "numerics.md",
        "messages.md",
        "testing.md",
    ] {
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(doc);
        let text = fs::read(text).unwrap().repeat(10);
        fs::write(cluster.data("text").join(doc), text).unwrap();
    }
    let _driver = cluster.driver("driver");
    let mut workers = [cluster.worker("w1", SLOWER), cluster.worker("w2", SLOWER)];
    let refused = cluster.fail(&format!("{WORDS} -o data:/text/words.txt"), 2);
    assert!(
        refused["error"].as_str().unwrap().contains("which is an input"),
        "{refused}"
    );
    assert!(!cluster.data("text/words.txt.tilework").exists());
    let mut job = cluster.submit(&format!("{WORDS} -o data:/words.txt"));
    let reducing = cluster.data("words.txt.tilework/round-000001");
    wait_for("the second round", || reducing.exists().then_some(()));
    workers[1].kill();
    assert!(!cluster.data("words.txt").exists(), "killed too late");
    is_as_alone(&cluster, &job, WORDS);
    let of_both: BTreeSet<_> = of_kind(job.all_events(), "started")
        .map(|event| event.worker)
        .collect();
    assert_eq!(of_both.len(), 2, "one worker had it all");
    assert!(!cluster.data("words.txt.tilework/outputs").exists());
}

#[test]
fn what_is_cancelled_is_resumed_in_its_round() {
    let cluster = cluster();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", SLOW);
    let mut job = cluster.submit(&format!("{KMEANS} -o data:/c.json"));
    wait_for_round(&job, 2);
    assert!(!begun(job.events()).is_empty());
    cluster.succeed(&format!("cancel {}", job.id));
    let other = cluster.fail(&format!("{} -o data:/c.json", KMEANS.replace("k=10", "k=9")), 2);
    assert!(
        other["error"].as_str().unwrap().contains("its spec was"),
        "{other}"
    );
    let resumed = cluster.submit("resume data:/c.json");
    assert_eq!(resumed.id, job.id);
    let round = wait_for("the second run", || {
        let shown = resumed.on_board()?;
        (shown.run == 2).then_some(shown.round)
    });
    assert!(round >= 2, "it began again: round {round}");
    is_right(&cluster, &resumed);
    // Of all its rounds, of which the last one has four tasks.
    let report = cluster.report(&resumed);
    let busy: f64 = (report["workers"].as_array().unwrap().iter())
        .map(|worker| worker["seconds_busy"].as_f64().unwrap())
        .sum();
    assert!(busy > 2.0 * 4.0 * 0.15, "{report}");
    assert_eq!(report["tasks_checked"], 0, "{report}");
}

#[test]
fn who_lacks_the_code_leaves_the_tasks_alone() {
    let cluster = cluster();
    let _driver = cluster.driver("driver");
    let cluster = cluster.of_tilework();
    let ignorant = cluster.worker("w1", "");
    let cluster = cluster.of_example("kmeans");
    let mut job = cluster.submit(&format!("{KMEANS} -o data:/c.json"));
    let account = cluster.succeed(&format!("explain {}", job.id));
    let waits_for = account["waits_for"][0].as_str().unwrap();
    assert!(
        waits_for.contains("no worker's program has `kmeans` of version 1"),
        "{account}"
    );
    let _knowing = cluster.worker("w2", "");
    is_right(&cluster, &job);
    let by_it = job
        .all_events()
        .iter()
        .filter(|event| event.worker == Some(ignorant.number()));
    assert_eq!(by_it.count(), 0, "it was given a task");
}

#[test]
fn a_driver_that_lacks_the_code_and_paths_out_of_reach_are_refused() {
    let cluster = cluster();
    let cluster = cluster.of_tilework();
    let mut driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let cluster = cluster.of_example("kmeans");
    let refused = cluster.fail(&format!("{KMEANS} -o data:/c.json"), 2);
    let error = refused["error"].as_str().unwrap();
    assert!(
        error.contains("the driver's program knows no job `kmeans`"),
        "{refused}"
    );
    driver.kill();
    let _driver = cluster.driver("knowing");
    for (line, complaint) in [
        (
            KMEANS.replace("data/digits.npy", "/etc/passwd"),
            "is in no data root",
        ),
        (KMEANS.replace("data/digits.npy", "data/none.npy"), "none.npy"),
        (
            KMEANS.replace("k=10", "k=0"),
            "`kmeans` refuses its spec: k must be",
        ),
        (KMEANS.replace("k=10", "l=10"), "missing field `k`"),
    ] {
        let refused = cluster.fail(&format!("{line} -o data:/c.json"), 2);
        assert!(
            refused["error"].as_str().unwrap().contains(complaint),
            "{line}: {refused}"
        );
    }
    assert!(!cluster.data("c.json.tilework").exists());
}

#[test]
fn a_driver_outlives_what_panics_in_it() {
    let cluster = cluster().of_example("misbehaves");
    let mut driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let misbehaves =
        |deed: &str| format!("run misbehaves --set deed={deed} --set folder=. -o data:/{deed}.json");
    for (deed, reason) in [
        ("StartPanics", "`start` of `misbehaves` panicked"),
        ("AdvancePanics", "`advance` of `misbehaves` panicked"),
        ("StateIsTooLarge", "the state of round 1"),
        ("Refuses", "the task refuses (task 2, attempt 1, on worker"),
    ] {
        let failed = cluster.fail(&misbehaves(deed), 4);
        assert!(
            failed["error"].as_str().unwrap().contains(reason),
            "{deed}: {failed}"
        );
    }
    assert!(driver.is_alive());
}

/// Nobody can end a thread that is inside a job's own code: it is named, other jobs go on, and the driver ends when it is told to.
#[test]
fn a_job_whose_advance_hangs_is_named_and_keeps_no_driver_from_its_end() {
    let cluster = cluster().of_example("misbehaves");
    let mut driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let misbehaves = |deed: &str| {
        let place = cluster.data("");
        let place = place.display();
        format!("run misbehaves --set deed={deed} --set folder={place} -o data:/{deed}.json")
    };
    let job = cluster.submit(&misbehaves("AdvanceHangs"));
    let waits = wait_for("what it waits for", || job.on_board()?.waits_for);
    let named = "the end of round 0";
    assert!(waits.contains(named) && waits.contains("`advance`"), "{waits}");
    let explained = cluster.succeed("explain data:/AdvanceHangs.json");
    assert!(
        explained["waits_for"][0].as_str().unwrap().contains(named),
        "{explained}"
    );
    cluster.succeed(&misbehaves("FailsOnce"));
    let told = Instant::now();
    driver.signal(Signal::TERM);
    let ended = driver.end();
    println!("the driver ended with {ended} after {:?}", told.elapsed());
    assert!(ended.success());
    assert!(!cluster.data("AdvanceHangs.json").exists());
}

/// A task that ends its process, or hangs, costs its worker; another one does it.
#[test]
fn a_task_that_costs_its_worker_is_done_by_another() {
    for deed in ["ExitsOnce", "HangsOnce"] {
        let cluster = cluster().of_example("misbehaves");
        let _driver = cluster.driver("driver");
        let mut workers = [cluster.worker("w1", ""), cluster.worker("w2", "")];
        let place = cluster.data("");
        let place = place.display();
        let mut job = cluster.submit(&format!(
            "run misbehaves --set deed={deed} --set folder={place} -o data:/c.json"
        ));
        let report = cluster.report(&job);
        assert_eq!(fs::read_to_string(cluster.data("c.json")).unwrap(), "5\n");
        assert_eq!(
            (&report["tasks_run"], &report["tasks_checked"]),
            (&5.into(), &5.into()),
            "{report}"
        );
        assert!(
            report["checked"].is_null() && report["residual_max"].is_null(),
            "{report}"
        );
        let commit = job.wait_for_commit(2, None);
        let hit = workers
            .iter_mut()
            .find(|worker| commit.worker != Some(worker.number()));
        let ended = hit.unwrap().end();
        println!("{deed}: {ended}, {} s", report["seconds"]);
    }
}
