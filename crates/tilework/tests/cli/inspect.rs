//! `inspect`: what a file is, a corner of it, and how it was made.

use crate::vocabulary::Folder;
use std::fs;

#[test]
fn a_corner_is_aligned_and_marked_where_the_matrix_goes_on() {
    let folder = Folder::new();
    folder.text("a.csv", &"1,-2.5,3,4,5,6\n10,20,30,40,50,60\n".repeat(4));
    let answer = folder.done("inspect a.csv");
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "a.csv: 8 x 6, f64, row-major, little-endian, text, 132 B"
    );
    assert_eq!(lines[1], "   1  -2.5   3   4   5  ...");
    assert_eq!(lines[2], "  10    20  30  40  50  ...");
    assert_eq!((lines.len(), lines[6]), (7, "  ..."));
}

#[test]
fn fortran_order_and_big_endian_are_told_and_read() {
    let folder = Folder::new();
    let mut bytes = b"\x93NUMPY\x01\x00\x3a\x00".to_vec();
    let dictionary = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3)}";
    bytes.extend(format!("{dictionary:<57}\n").as_bytes());
    (1..=6_i16).for_each(|value| bytes.extend(value.to_be_bytes()));
    fs::write(folder.path("F.npy"), bytes).unwrap();
    let json = folder.done("inspect F.npy --json").json();
    assert_eq!(
        (&json["dtype"], &json["order"]),
        (&"int16".into(), &"column-major".into())
    );
    assert_eq!(json["byte_order"], "big-endian");
    assert_eq!(
        json["corner"],
        serde_json::json!([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]])
    );
}

#[test]
fn a_scan_ranges_over_finite_elements_and_counts_the_others() {
    let folder = Folder::new();
    folder.text("a.txt", "1 nan -7\ninf -inf nan\n");
    let json = folder.done("inspect a.txt --scan --json").json();
    assert_eq!(
        json["scan"],
        serde_json::json!({ "min": -7.0, "max": 1.0, "nan": 2, "inf": 2 })
    );
    assert_eq!(json["corner"][0], serde_json::json!([1.0, "nan", -7.0]));
    let answer = folder.done("inspect a.txt --scan");
    assert!(
        answer
            .stdout
            .ends_with("smallest -7, largest 1, 2 NaN, 2 infinite\n"),
        "{answer:?}"
    );
}

#[test]
fn our_outputs_tell_how_they_were_made() {
    let folder = Folder::new();
    folder.done("generate integers 4x4 -o A.npy");
    folder.done("multiply A.npy A.npy -o C.npy");
    let made_by = &folder.done("inspect C.npy --json").json()["made_by"];
    assert_eq!(
        (&made_by["job"], &made_by["tasks"], &made_by["runs"]),
        (&"multiply".into(), &1.into(), &1.into())
    );
    assert!(made_by["inputs"][0].as_str().unwrap().ends_with("A.npy"));
    assert!(made_by["residual_max"].as_f64() <= made_by["residual_bound"].as_f64());
    assert!(
        folder
            .done("inspect C.npy")
            .stdout
            .contains("made by multiply of ")
    );
    assert!(folder.done("inspect A.npy --json").json()["made_by"].is_null());
}
