//! A driver takes over what it can't open yet, or what somebody does not want any more.

use crate::cost::Cost;
use crate::harness::{Cluster, Job, MULTIPLY, SLOW, wait_for};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tilework::cluster::record::{JobRecord, JobStands, unix_ms};
use tilework_nats::{Bucket, ClusterFolder, Control, JoinFile, NatsOptions, Role};

/// As if the job's file system were away: its journal can't be seen.
struct Away {
    folder: PathBuf,
    hidden: PathBuf,
}

impl Away {
    fn hide(cluster: &Cluster, job: &Job) -> Away {
        let folder = cluster.data(&format!("{}.tilework", job.output));
        let hidden = cluster.data("hidden");
        fs::rename(&folder, &hidden).unwrap();
        Away { folder, hidden }
    }

    fn bring_back(self) {
        fs::rename(self.hidden, self.folder).unwrap();
    }
}

/// What the job waits for, with the driver that took it over.
fn waits(job: &Job) -> String {
    wait_for("what the job waits for", || {
        let waits = job.on_board()?.waits_for?;
        waits.contains("cannot use").then_some(waits)
    })
}

#[test]
fn a_job_whose_files_are_away_is_taken_over_when_they_are_back() {
    let cluster = Cluster::start();
    let mut first = cluster.driver("d1");
    let _worker = cluster.worker("w1", SLOW);
    let line = format!("{MULTIPLY} data:/C.npy");
    let mut job = cluster.submit(&line);
    job.wait_for_commits(2);
    let hit = job.wait_for_begun(None);
    let killed = first.kill();
    cluster.assert_uncommitted(&job, hit);
    let committed = cluster.committed(&job.output);
    let away = Away::hide(&cluster, &job);
    let _next = cluster.driver("d2");
    let why = waits(&job);
    let noticed = unix_ms();
    assert!(why.contains("C.npy.tilework"), "{why}");
    // Not another run to the same output.
    let refused = cluster.fail(&format!("{line} --wait 1s"), 6);
    let next = refused["next"].as_str().unwrap();
    assert!(
        next.contains("tilework watch") && next.contains("tilework cancel"),
        "{refused}"
    );
    away.bring_back();
    let back = unix_ms();
    let began = job.wait_after("began", back);
    let cost = Cost::of("store-away", killed).noticed(noticed);
    let cost = cost.recovered_after(back, began.unix_ms, Duration::from_secs(20));
    let report = cluster.is_right(&job);
    assert!(
        report["tasks_resumed"].as_u64() >= Some(committed.len() as u64),
        "{report}"
    );
    cost.tell(&cluster, &mut job);
}

#[test]
fn a_job_whose_files_are_away_can_be_cancelled() {
    let cluster = Cluster::start();
    let mut first = cluster.driver("d1");
    let _worker = cluster.worker("w1", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(2);
    first.kill();
    let away = Away::hide(&cluster, &job);
    let _next = cluster.driver("d2");
    waits(&job);
    let cancelled = cluster.succeed(&format!("cancel {}", job.id));
    assert_eq!(cancelled["state"], "cancelled");
    cluster.fail(&format!("watch {}", job.id), 7);
    away.bring_back();
    cluster.succeed("resume data:/C.npy");
    cluster.is_right(&job);
}

/// Its output took the place of one of its inputs, and the driver died before it could say so.
#[test]
fn a_job_that_is_complete_but_for_its_record_is_done() {
    let cluster = Cluster::start();
    let mut first = cluster.driver("d1");
    let _worker = cluster.worker("w1", "");
    cluster.succeed(&format!("{MULTIPLY} data:/C.npy"));
    let job = cluster.submit(&format!("{MULTIPLY} data:/C.npy --add data:/C.npy --overwrite"));
    assert_eq!(cluster.report(&job)["status"], "done");
    let added = fs::read(cluster.data("C.npy")).unwrap();
    first.kill();
    change_record(&cluster, &job, |record| {
        record.stands = JobStands::Running;
        record.ended_unix_ms = None;
        record.report = None;
    });
    let _next = cluster.driver("d2");
    assert_eq!(cluster.report(&job)["status"], "done");
    assert!(
        fs::read(cluster.data("C.npy")).unwrap() == added,
        "it was added once"
    );
}

/// What the driver would have written of a job, while none is there.
fn change_record(cluster: &Cluster, job: &Job, change: impl FnOnce(&mut JobRecord)) {
    let folder = ClusterFolder::open(&cluster.folder()).unwrap();
    let join = JoinFile::read(&folder.join(Role::Driver), Role::Driver).unwrap();
    let control = Control::connect(&NatsOptions::joining(&join, "test".to_owned())).unwrap();
    let entry = control.get(Bucket::Jobs, &job.id).unwrap().unwrap();
    let mut record = JobRecord::from_bytes(&job.id, &entry.value).unwrap();
    change(&mut record);
    control
        .set(Bucket::Jobs, &job.id, &record.to_bytes(), entry.revision)
        .unwrap();
}

#[test]
fn a_cancel_outlives_the_driver_that_heard_it() {
    let cluster = Cluster::start();
    let mut first = cluster.driver("d1");
    let _worker = cluster.worker("w1", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(1);
    let hit = job.wait_for_begun(None);
    first.kill();
    cluster.assert_uncommitted(&job, hit);
    // All that the driver did of the cancel before it died.
    change_record(&cluster, &job, |record| {
        assert_eq!((record.stands, record.cancel_asked), (JobStands::Running, false));
        record.cancel_asked = true;
    });
    let _next = cluster.driver("d2");
    let ended = cluster.fail(&format!("watch {}", job.id), 7);
    assert!(ended["next"].as_str().unwrap().contains("resume"), "{ended}");
    assert!(!cluster.data("C.npy").exists());
}

#[test]
fn who_asks_for_the_same_at_once_shares_one_job() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("d1");
    let _worker = cluster.worker("w1", "*:100ms");
    let line = format!("{MULTIPLY} data:/C.npy");
    let mut clients = ["one", "two", "three"].map(|name| cluster.staying_client(name, &line));
    let attached = clients.each_mut().map(|client| {
        assert_eq!(client.end().code(), Some(0), "{}", client.said());
        client.said().contains("the job runs already")
    });
    let n_attached = attached.into_iter().filter(|attached| *attached).count();
    assert_eq!(n_attached, 2);
    cluster.has_product_of("A.npy", "B.npy", "C.npy");
}
