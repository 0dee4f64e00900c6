//! What jobs read and write: inputs that change, roots that differ, disks that fill, paths that lead out.

use crate::cost::Cost;
use crate::harness::{Cluster, DATA, MULTIPLY, SLOW, of_kind, wait_for};
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tilework::cluster::events::JobEvent;
use tilework::cluster::record::unix_ms;

/// What happens to an input while a job reads it.
#[derive(Debug, Clone, Copy)]
enum Change {
    Cut,
    Replaced,
    Removed,
}

#[test]
fn an_input_that_changes_ends_the_job_with_2_and_it_goes_on_with_the_input_as_it_was() {
    for change in [Change::Cut, Change::Replaced, Change::Removed] {
        let cluster = Cluster::start();
        let _driver = cluster.driver("driver");
        let _workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
        let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy --json"));
        let mut job = cluster.running_job("C.npy");
        job.wait_for_commits(1);
        let hit = job.wait_for_begun(None);
        let (a, held) = (cluster.data("A.npy"), cluster.data("held.npy"));
        match change {
            Change::Cut => {
                fs::copy(&a, &held).unwrap();
                let file = fs::OpenOptions::new().write(true).open(&a);
                file.unwrap().set_len(100_000).unwrap();
            }
            Change::Replaced => {
                cluster
                    .stage
                    .succeed("generate normal 1200x300 -o data/other.npy --seed 9");
                fs::rename(&a, &held).unwrap();
                fs::rename(cluster.data("other.npy"), &a).unwrap();
            }
            Change::Removed => fs::rename(&a, &held).unwrap(),
        }
        let changed = unix_ms();
        cluster.assert_uncommitted(&job, hit);
        assert_eq!(
            client.end().code(),
            Some(2),
            "{} {}",
            client.said(),
            client.printed()
        );
        let noticed = unix_ms();
        let told: serde_json::Value = serde_json::from_str(&client.printed()).unwrap();
        println!("{change:?}: {}", told["error"]);
        assert!(told["error"].as_str().unwrap().contains("A.npy"), "{told}");
        assert!(told["next"].as_str().unwrap().contains("resume"), "{told}");
        assert!(!cluster.data("C.npy").exists());
        fs::rename(&held, &a).unwrap();
        let back = unix_ms();
        let report = cluster.succeed("resume data:/C.npy");
        assert!(report["tasks_resumed"].as_u64() >= Some(1), "{report}");
        let commit = job.wait_after("committed", back);
        cluster.is_right(&job);
        Cost::of("input-changed", changed)
            .noticed(noticed)
            .recovered_after(back, commit.unix_ms, Duration::from_secs(10))
            .tell(&cluster, &mut job);
    }
}

/// Its length and the sample by which a job knows its inputs stay as they were: a worker that opened the job anew went on with the
/// new elements, beside tiles of the old ones.
#[test]
fn an_input_that_is_patched_in_place_ends_the_job_with_2() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    // The first one fails, and is given other tasks, long before the second one can find the same.
    let (first, _second) = (cluster.worker("w1", SLOW), cluster.worker("w2", "*:3000ms"));
    let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy --json"));
    let mut job = cluster.running_job("C.npy");
    job.wait_for_commits(1);
    let hit = job.wait_for_begun(None);
    let file = fs::OpenOptions::new().write(true).open(cluster.data("A.npy"));
    // Between the first two of 256 blocks of 4 KiB in 2.9 MB.
    file.unwrap().write_all_at(&[7; 8], 128 + 6_000).unwrap();
    cluster.assert_uncommitted(&job, hit);
    assert_eq!(
        client.end().code(),
        Some(2),
        "{} {}",
        client.said(),
        client.printed()
    );
    let told: serde_json::Value = serde_json::from_str(&client.printed()).unwrap();
    println!("input patched: {}", told["error"]);
    assert!(told["error"].as_str().unwrap().contains("A.npy"), "{told}");
    assert!(!cluster.data("C.npy").exists());
    let by_first: Vec<_> = job
        .events()
        .iter()
        .filter(|event| event.worker == Some(first.number()))
        .collect();
    let failed = by_first.iter().position(|event| event.what == "failed");
    let since = &by_first[failed.expect("it found the change")..];
    println!("after it found the change: {} events", since.len());
    assert!(since.iter().all(|event| event.what != "committed"), "{since:?}");
}

#[test]
fn a_bit_that_flips_in_a_committed_tile_is_found_before_the_output_has_its_name() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(2);
    job.wait_for_begun(None);
    // Nothing is written yet but committed tiles.
    let partial = cluster.data("C.npy.partial");
    let written = fs::read(&partial).unwrap();
    let at = (128..written.len()).find(|at| written[*at] != 0).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&partial).unwrap();
    file.write_all_at(&[written[at] ^ 4], at as u64).unwrap();
    let flipped = unix_ms();
    let report = cluster.is_right(&job);
    let events = job.all_events();
    let committed_twice = of_kind(events, "committed").find_map(|second| {
        let mut commits = of_kind(events, "committed").filter(|event| event.task == second.task);
        let first = commits.next()?;
        (first.unix_ms < second.unix_ms).then_some((first, second))
    });
    let (first, second) = committed_twice.unwrap_or_else(|| panic!("no tile was done again: {report}"));
    let times = |commit: &JobEvent| {
        let starts = of_kind(events, "started").filter(|event| event.unix_ms <= commit.unix_ms);
        let of_task = starts.filter(|event| event.task == commit.task);
        (of_task.last().unwrap().unix_ms, commit.unix_ms)
    };
    let (lost, again) = (times(first), times(second));
    Cost::of("bit-flipped", flipped)
        .noticed(again.0)
        .recovered_after(again.0, again.1, Duration::from_secs(5))
        .tell_lost(&[lost.1 - lost.0]);
}

#[test]
fn a_worker_that_lacks_the_files_costs_retries_only() {
    let cluster = Cluster::start();
    fs::create_dir(cluster.stage.path("empty")).unwrap();
    let _driver = cluster.driver("driver");
    let lacking = cluster.worker_with("lacking", "", "--cluster c/worker.join --data-root data=empty");
    let _other = cluster.worker("other", "*:200ms");
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let failed = job.wait_for("a failure of the lacking worker", |events| {
        let mut failed = of_kind(events, "failed");
        failed
            .find(|event| event.worker == Some(lacking.number()))
            .cloned()
    });
    println!("lacking worker: {}", failed.text.unwrap());
    let report = cluster.is_right(&job);
    assert!(report["retries"].as_u64().unwrap() >= 1, "{report}");
    assert!(
        fs::read_dir(cluster.stage.path("empty"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn roots_may_be_elsewhere_on_each_machine() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _first = cluster.worker("w1", "*:100ms");
    fs::create_dir(cluster.stage.path("elsewhere")).unwrap();
    // In a file system of its own, where the other's place is empty.
    let script = "mount --bind data elsewhere && mount -t tmpfs none data && exec \"$0\" \"$@\"";
    let line = "worker --memory 16MiB --threads 1 --cluster c/worker.join --data-root data=";
    let mut second = if may_mount() {
        let wrapper = ["unshare", "-rm", "sh", "-c", script];
        cluster.wrapped("w2", &wrapper, &format!("{line}elsewhere"), "*:100ms")
    } else {
        println!("no mounts here: the second place is a link");
        symlink(cluster.stage.path(DATA), cluster.stage.path("link")).unwrap();
        cluster.worker_with("w2", "*:100ms", "--cluster c/worker.join --data-root data=link")
    };
    second.wait_for_number();
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let report = cluster.is_right(&job);
    let n_by_second =
        of_kind(job.all_events(), "committed").filter(|event| event.worker == Some(second.number()));
    assert!(n_by_second.count() > 0, "{report}");
    assert_eq!(report["retries"], 0, "{report}");
}

#[test]
fn paths_that_lead_out_are_refused() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let secret = cluster.stage.path("secret.npy");
    fs::copy(cluster.data("A.npy"), &secret).unwrap();
    symlink("../secret.npy", cluster.data("link.npy")).unwrap();
    symlink(cluster.stage.folder(), cluster.data("out")).unwrap();
    let outside = secret.to_str().unwrap();
    for path in [
        "/etc/passwd",
        "data:/../secret.npy",
        "data:/link.npy",
        "data:/out/secret.npy",
        "other:/A.npy",
        outside,
    ] {
        let told = cluster.fail(&format!("multiply {path} data:/B.npy -o data:/C.npy"), 2);
        println!("{path}: {}", told["error"]);
    }
    for output in ["/etc/C.npy", "data:/../C.npy", "data:/out/C.npy"] {
        cluster.fail(&format!("{MULTIPLY} {output}"), 2);
    }
    assert!(!cluster.stage.path("C.npy").exists() && !cluster.stage.path("C.npy.tilework").exists());
    assert!(!cluster.data("C.npy.tilework").exists());
    assert_eq!(cluster.succeed("jobs")["jobs"], serde_json::json!([]));
}

/// A file system of few bytes, in a namespace that this process keeps.
struct SmallDisk {
    keeper: Child,
}

impl SmallDisk {
    /// Over the cluster's data root, with what is in it.
    fn over_data(cluster: &Cluster, mib: u32) -> SmallDisk {
        let script = format!(
            "cp -r data held && mount -t tmpfs -o size={mib}m none data && cp held/* data/ && touch data/ready && cat >/dev/null"
        );
        let keeper = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .current_dir(cluster.stage.folder())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let disk = SmallDisk { keeper };
        wait_for("the small disk", || {
            disk.path(cluster, "ready").exists().then_some(())
        });
        disk
    }

    /// A file in it, as this process sees it.
    fn path(&self, cluster: &Cluster, name: &str) -> std::path::PathBuf {
        let inner = cluster.data(name);
        std::path::PathBuf::from(format!("/proc/{}/root{}", self.keeper.id(), inner.display()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[test]
fn a_disk_that_fills_up_stops_the_job_which_can_be_resumed() {
    if !may_mount() {
        println!("skipped: no mounts here");
        return;
    }
    let cluster = Cluster::start();
    let disk = SmallDisk::over_data(&cluster, 40);
    let keeper = disk.keeper.id().to_string();
    let wrapper = [
        "nsenter",
        "--preserve-credentials",
        "-U",
        "-m",
        "-w",
        "-t",
        &keeper,
    ];
    let started = |name: &str, line: &str| {
        let slow = if line.starts_with("worker") { SLOW } else { "" };
        cluster.wrapped(name, &wrapper, &format!("{line} --data-root data=data"), slow)
    };
    let _driver = started("driver", "driver --cluster c/driver.join");
    let worker = |name: &str| {
        let mut worker = started(name, "worker --memory 16MiB --threads 1 --cluster c/worker.join");
        worker.wait_for_number();
        worker
    };
    let mut first = worker("w1");
    let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy --json"));
    let mut job = cluster.running_job("C.npy");
    job.wait_for_commits(1);
    let hit = job.wait_for_begun(None);
    let filler = disk.path(&cluster, "filler");
    let error = fill(&filler);
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    // What is begun has its place on the disk; a worker that comes later finds none for its journal.
    first.kill();
    let full = unix_ms();
    let _second = worker("w2");
    let failed = job.wait_for("the task fails", |events| {
        let mut failed = of_kind(events, "failed");
        failed.find(|event| event.task == Some(hit.task)).cloned()
    });
    assert_eq!(
        client.end().code(),
        Some(3),
        "{} {}",
        client.said(),
        client.printed()
    );
    let told: serde_json::Value = serde_json::from_str(&client.printed()).unwrap();
    println!("disk full: {told}");
    assert!(
        told["next"].as_str().unwrap().contains("tilework resume"),
        "{told}"
    );
    fs::remove_file(&filler).unwrap();
    let room = unix_ms();
    let report = cluster.succeed("resume data:/C.npy");
    assert!(report["tasks_resumed"].as_u64().unwrap() >= 1, "{report}");
    let commit = job.wait_after("committed", room);
    let cost = Cost::of("disk-full", full)
        .noticed(failed.unix_ms)
        .recovered_after(room, commit.unix_ms, Duration::from_secs(20));
    fs::copy(disk.path(&cluster, "C.npy"), cluster.data("C.npy")).unwrap();
    fs::create_dir(cluster.data("C.npy.tilework")).unwrap();
    fs::copy(
        disk.path(&cluster, "C.npy.tilework/journal"),
        cluster.data("C.npy.tilework/journal"),
    )
    .unwrap();
    cost.tell(&cluster, &mut job);
    cluster.has_product_of("A.npy", "B.npy", "C.npy");
}

/// Writes until nothing more fits.
fn fill(path: &std::path::Path) -> std::io::Error {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.write_all(&block) {
            Ok(()) => {}
            Err(error) if block.len() == 1 => return error,
            Err(_) => block.truncate(block.len() / 2),
        }
    }
}

/// Whether this process may have mounts of its own.
fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}
