//! Bad input: what happened, with the path and the next step, and the exit code 2.

use crate::vocabulary::Folder;
use std::fs;

#[test]
fn missing_unreadable_and_damaged_files_are_told_apart() {
    let folder = Folder::new();
    folder.done("generate normal 4x4 -o A.npy");
    let good = folder.bytes("A.npy");
    fs::write(folder.path("short.npy"), &good[..200]).unwrap();
    fs::write(folder.path("long.npy"), [&good[..], b"x"].concat()).unwrap();
    fs::write(folder.path("header.npy"), &good[..60]).unwrap();
    fs::write(folder.path("text.csv"), "1,2\n3\n").unwrap();
    fs::create_dir(folder.path("dir.npy")).unwrap();
    for (path, words) in [
        (
            "nothing.npy",
            &["`nothing.npy` does not exist", "next: check the path"][..],
        ),
        ("A", &["`A` does not exist", "did you mean `A.npy`?"]),
        (
            "short.npy",
            &["`short.npy` is 200 bytes long, but its header says 256"],
        ),
        ("long.npy", &["`long.npy` is 257 bytes long"]),
        ("header.npy", &["`header.npy` ends inside its npy header"]),
        ("text.csv", &["`text.csv` line 2 has 1 values"]),
        ("dir.npy", &["`dir.npy` is not a regular file"]),
    ] {
        folder.run(&format!("inspect {path}")).fails(2, words);
        folder.run(&format!("compare A.npy {path}")).fails(2, words);
    }
}

#[test]
fn values_that_make_no_sense_name_an_example() {
    let folder = Folder::new();
    for (line, example) in [
        ("generate normal 8192 -o A.npy", "8192x4096"),
        ("generate normal 2x-2 -o A.npy", "8192x4096"),
        ("multiply A B -o C --memory 0", "2GiB"),
        ("multiply A B -o C --memory lots", "2GiB"),
        ("multiply A B -o C --time-limit 55", "55m"),
        ("multiply A B -o C --threads 0", "1..=1024"),
        ("multiply A B -o C --dtype f16", "f64, f32"),
        ("multiply A B -o C --alpha nan", "0.5"),
        ("multiply A B -o C --alpha 1e999", "0.5"),
        ("multiply A B -o C --alpha 1e-999", "1e-30"),
        ("multiply A B -o C --beta inf --add D", "0.5"),
        ("verify A B C --alpha x", "0.5"),
        ("compare C D --tolerance -1", "1e-12"),
    ] {
        folder.run(line).fails(2, &[example]);
    }
    assert!(folder.names().is_empty());
}

#[test]
fn options_come_from_the_environment_and_the_command_line_wins() {
    let folder = Folder::new();
    let code = |line: &str, name: &str, value: &str| {
        let output = folder.command(line).env(name, value).output().unwrap();
        output.status.code().unwrap()
    };
    assert_eq!(code("generate uniform 2x2", "TILEWORK_OUTPUT", "A.npy"), 0);
    assert_eq!(
        code("generate uniform 2x2 -o A.npy", "TILEWORK_OVERWRITE", "1"),
        0
    );
    assert_eq!(
        code("generate uniform 2x2 -o A.npy", "TILEWORK_OVERWRITE", "0"),
        2
    );
    assert_eq!(code("generate uniform 2x2 -o B.npy", "TILEWORK_SEED", "x"), 2);
    assert_eq!(
        code("generate uniform 2x2 -o B.npy --seed 1", "TILEWORK_SEED", "2"),
        0
    );
    assert_eq!(folder.bytes("A.npy"), folder.bytes("B.npy"));
}

#[test]
fn a_log_file_is_written_or_refused() {
    let folder = Folder::new();
    folder.done("generate identity 2x2 -o A.npy --log-file log.txt");
    let log = String::from_utf8(folder.bytes("log.txt")).unwrap();
    assert!(log.contains("generate") && log.contains("done"), "{log}");
    folder
        .run("inspect A.npy --log-file missing/log.txt")
        .fails(2, &["cannot open the log file `missing/log.txt`"]);
}
