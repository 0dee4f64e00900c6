//! `clean`, `status` and `explain`: what stands beside an output, and what may go.

use crate::vocabulary::Folder;
use std::fs;
use tilework_store::disk::RealDisk;
use tilework_store::lock::{Lock, Owner};

#[test]
fn leftovers_are_listed_first_and_removed_with_yes() {
    let folder = Folder::new();
    folder.unfinished("C.npy");
    let answer = folder.done("clean C.npy");
    assert!(answer.stdout.contains("would remove C.npy.partial"), "{answer:?}");
    assert!(
        answer
            .stdout
            .ends_with("to remove them: tilework clean C.npy --yes\n"),
        "{answer:?}"
    );
    assert!(folder.exists("C.npy.partial") && folder.exists("C.npy.tilework"));
    let json = folder.done("clean C.npy --yes --json").json();
    assert_eq!(json["removed"], true);
    assert_eq!(
        json["leftovers"],
        serde_json::json!(["C.npy.partial", "C.npy.tilework"])
    );
    assert_eq!(folder.names(), ["A.npy", "B.npy"]);
}

#[test]
fn a_finished_output_stays_and_its_journal_goes_only_by_its_own_name() {
    let folder = Folder::new();
    folder.done("generate integers 4x4 -o A.npy");
    folder.done("multiply A.npy A.npy -o C.npy");
    for line in ["clean C.npy --yes", "clean . --yes", "clean C.npy.partial --yes"] {
        assert!(folder.done(line).stdout.starts_with("nothing to clean"), "{line}");
        assert!(folder.exists("C.npy.tilework"), "{line}");
    }
    folder.done("clean C.npy.tilework/ --yes");
    assert_eq!(folder.names(), ["A.npy", "C.npy"]);
}

#[test]
fn a_directory_is_cleaned_of_our_leftovers_only() {
    let folder = Folder::new();
    folder.unfinished("C.npy");
    folder.text("download.partial", "of another program");
    folder.done("clean . --yes");
    assert_eq!(folder.names(), ["A.npy", "B.npy", "download.partial"]);
}

#[test]
fn a_partial_file_without_our_folder_is_not_ours() {
    let folder = Folder::new();
    folder.text("download.partial", "of another program");
    for path in ["download.partial", "download"] {
        folder
            .run(&format!("clean {path} --yes"))
            .fails(2, &["may be another program's", "rm download.partial"]);
    }
    folder
        .run("clean nothing")
        .fails(2, &["there is nothing at `nothing`"]);
    assert_eq!(folder.names(), ["download.partial"]);
}

#[test]
fn a_foreign_file_in_the_folder_is_kept_and_named() {
    let folder = Folder::new();
    let files = folder.unfinished("C.npy");
    fs::write(files.folder().join("notes.txt"), "mine").unwrap();
    folder.run("clean C.npy --yes").fails(2, &["`notes.txt`", "kept"]);
    assert!(folder.exists("C.npy.tilework/notes.txt"));
}

#[test]
fn a_running_job_is_not_cleaned_and_status_names_its_process() {
    let folder = Folder::new();
    let files = folder.unfinished("C.npy");
    let lock = Lock::acquire(&RealDisk, &files.lock(), &Owner::current()).unwrap();
    let pid = format!("process {}", std::process::id());
    folder
        .run("clean C.npy --yes")
        .fails(2, &["is being computed by", &pid]);
    folder
        .run("clean C.npy")
        .fails(2, &["is being computed by", &pid]);
    let json = folder.done("status C.npy --json").json();
    assert_eq!(
        (&json["state"], &json["pid"]),
        (&"running".into(), &std::process::id().into())
    );
    assert!(
        folder
            .done("explain C.npy")
            .stdout
            .contains("next: tilework status C.npy")
    );
    drop(lock);
    assert_eq!(folder.done("status C.npy --json").json()["state"], "unfinished");
}

#[test]
fn status_tells_tasks_and_runs_of_an_unfinished_output() {
    let folder = Folder::new();
    folder.unfinished("C.npy");
    let answer = folder.done("status C.npy");
    assert_eq!(
        answer.stdout,
        "C.npy: unfinished: 1 of 4 tasks committed (25 %), 1 run so far\n"
    );
    let json = folder.done("status C.npy --json").json();
    assert_eq!((&json["tasks"], &json["tasks_committed"]), (&4.into(), &1.into()));
    assert_eq!(folder.done("status other.npy --json").json()["state"], "none");
    assert_eq!(
        folder.done("status A.npy").stdout,
        "A.npy: a file without a job\n"
    );
}

#[test]
fn explain_gives_the_command_that_goes_on() {
    let folder = Folder::new();
    folder.unfinished("C.npy");
    let answer = folder.done("explain C.npy");
    assert!(
        answer
            .stdout
            .contains("run 1 started 2025-06-15T15:06:40Z as process 4711"),
        "{answer:?}"
    );
    assert!(
        answer.stdout.ends_with("next: tilework resume C.npy\n"),
        "{answer:?}"
    );
    let nothing = folder.done("explain D.npy --json").json();
    assert_eq!(
        (&nothing["state"], &nothing["next"]),
        (&"none".into(), &"tilework multiply A.npy B.npy -o D.npy".into())
    );
}

#[test]
fn explain_names_changed_inputs_and_damage() {
    let folder = Folder::new();
    let files = folder.unfinished("C.npy");
    folder.done("generate integers 6x6 -o B.npy --seed 3 --overwrite");
    let segment = files.segment(tilework_core::ids::RunEpoch(1));
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(segment, &bytes).unwrap();
    let json = folder.done("explain C.npy --json").json();
    assert!(
        json["inputs_changed"][0]
            .as_str()
            .unwrap()
            .contains("B.npy` has changed"),
        "{json}"
    );
    assert!(json["damaged_bytes"].as_u64() > Some(0), "{json}");
    assert_eq!(json["tasks_committed"], 0);
    assert!(
        json["next"].as_str().unwrap().contains("put the input back"),
        "{json}"
    );
}
