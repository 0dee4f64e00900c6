//! `generate`: the same bytes every time, and nothing under the final name until it is complete.

use crate::vocabulary::{Folder, assert_empty};
use std::fs;
use tilework_store::disk::RealDisk;
use tilework_store::lock::{Lock, Owner};

#[test]
fn the_same_arguments_give_the_same_bytes_and_another_seed_gives_others() {
    let folder = Folder::new();
    for kind in ["normal", "uniform", "integers"] {
        // Over a thousand columns and several blocks, so that the threads race.
        folder.done(&format!("generate {kind} 300x1111 -o one.npy --overwrite"));
        folder.done(&format!("generate {kind} 300x1111 -o two.npy --overwrite"));
        folder.done(&format!(
            "generate {kind} 300x1111 -o three.npy --seed 2 --overwrite"
        ));
        assert_eq!(folder.bytes("one.npy"), folder.bytes("two.npy"), "{kind}");
        assert_ne!(folder.bytes("one.npy"), folder.bytes("three.npy"), "{kind}");
    }
}

#[test]
fn only_the_matrix_is_left() {
    let folder = Folder::new();
    let answer = folder.done("generate identity 3x4 -o I.npy --dtype f32");
    assert_eq!(folder.names(), ["I.npy"]);
    assert_eq!(answer.stdout, "");
    assert!(
        answer.stderr.starts_with("wrote I.npy: 3 x 4, f32, 176 B"),
        "{answer:?}"
    );
    let (header, elements) = (128, folder.bytes("I.npy"));
    let ones = elements[header..]
        .chunks(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    assert_eq!(
        ones.collect::<Vec<_>>(),
        [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    );
}

#[test]
fn f32_and_f64_hold_the_same_normal_numbers() {
    let folder = Folder::new();
    folder.done("generate normal 40x40 -o wide.npy");
    folder.done("generate normal 40x40 -o narrow.npy --dtype f32");
    folder.done("compare wide.npy narrow.npy --tolerance 6e-8");
}

#[test]
fn an_existing_file_is_kept_unless_overwriting_is_asked_for() {
    let folder = Folder::new();
    folder.text("A.npy", "precious");
    let answer = folder.run("generate normal 2x2 -o A.npy");
    answer.fails(2, &["`A.npy` exists", "--overwrite"]);
    assert_eq!(folder.bytes("A.npy"), b"precious");
    folder.done("generate normal 2x2 -o A.npy --overwrite");
    assert_eq!(folder.bytes("A.npy").len(), 128 + 32);
}

#[test]
fn a_replaced_output_loses_its_journal_which_speaks_of_another_file() {
    let folder = Folder::new();
    folder.done("generate integers 4x4 -o A.npy");
    folder.done("multiply A.npy A.npy -o C.npy");
    assert!(folder.exists("C.npy.tilework"));
    folder.done("generate identity 4x4 -o C.npy --overwrite");
    assert_eq!(folder.names(), ["A.npy", "C.npy"]);
}

#[test]
fn an_unfinished_output_is_not_overwritten() {
    let folder = Folder::new();
    let files = folder.unfinished("C.npy");
    let partial = fs::read(files.partial()).unwrap();
    folder
        .run("generate normal 6x6 -o C.npy --overwrite")
        .fails(2, &["unfinished", "tilework resume C.npy"]);
    assert_eq!(fs::read(files.partial()).unwrap(), partial);
}

#[test]
fn two_writers_of_one_file_exclude_each_other() {
    let folder = Folder::new();
    fs::create_dir(folder.path("A.npy.tilework")).unwrap();
    let lock = Lock::acquire(&RealDisk, &folder.path("A.npy.tilework/lock"), &Owner::current()).unwrap();
    let pid = format!("process {}", std::process::id());
    folder
        .run("generate normal 6x6 -o A.npy")
        .fails(2, &["`A.npy` is being computed by", &pid]);
    drop(lock);
    // What a killed `generate` leaves does not stop the next one.
    folder.done("generate normal 6x6 -o A.npy");
    assert_eq!(folder.names(), ["A.npy"]);
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is_created() {
    let folder = Folder::new();
    let there = folder.path("there");
    fs::create_dir(&there).unwrap();
    folder
        .run("generate normal 2x2 -o missing/A.npy")
        .fails(2, &["`missing` does not exist", "mkdir -p missing"]);
    folder
        .run("generate normal 2x2 -o there")
        .fails(2, &["not a regular file"]);
    folder
        .run("generate normal 100000000x1000000 -o there/A.npy")
        .fails(3, &["no room", "free"]);
    folder
        .run("generate normal 10000000000x10000000000 -o there/A.npy")
        .fails(2, &["too large for any file"]);
    assert_empty(&there);
}

#[test]
fn matrices_without_elements_are_matrices() {
    let folder = Folder::new();
    folder.done("generate normal 0x5 -o A.npy");
    folder.done("generate normal 5x0 -o B.npy");
    assert_eq!(folder.done("inspect A.npy --json").json()["cols"], 5);
    folder.done("compare A.npy A.npy");
}
