//! `compare`: equal or not, by how much, and where.

use crate::vocabulary::Folder;

#[test]
fn equal_matrices_compare_equal_whatever_their_format() {
    let folder = Folder::new();
    folder.done("generate identity 2x2 -o I.npy --dtype f32");
    folder.text("I.csv", "1,0\n0,1\n");
    let answer = folder.done("compare I.npy I.csv");
    assert_eq!(answer.stdout, "equal: all 4 elements\n");
}

#[test]
fn the_largest_differences_are_told_with_their_places() {
    let folder = Folder::new();
    folder.text("c.txt", "1000 1 1\n1 1 0.001\n");
    folder.text("d.txt", "1001 1 1\n1 1 0.002\n");
    let answer = folder.run("compare c.txt d.txt");
    assert_eq!(answer.code, 5);
    assert_eq!(
        answer.stdout,
        "different: 2 of 6 elements\n\
         largest absolute difference: 1 at row 0, column 0\n\
         largest relative difference: 0.5 at row 1, column 2\n"
    );
    assert!(
        answer
            .stderr
            .contains("differ by 0.5 of the larger element, more than 0"),
        "{answer:?}"
    );
    let json = folder.run("compare c.txt d.txt --json --tolerance 0.1").json();
    assert_eq!(json["status"], "failed");
    assert_eq!(json["exit_code"], 5);
    assert_eq!(json["relative_max"], 0.5);
    assert_eq!(json["relative_at"], serde_json::json!([1, 2]));
    assert_eq!(json["absolute_at"], serde_json::json!([0, 0]));
}

#[test]
fn differences_within_the_tolerance_are_shown_and_pass() {
    let folder = Folder::new();
    folder.text("c.txt", "1 2\n");
    folder.text("d.txt", "1 2.0001\n");
    folder.done("compare c.txt d.txt --tolerance 1e-3");
    assert_eq!(folder.run("compare c.txt d.txt --tolerance 1e-6").code, 5);
}

#[test]
fn nan_equals_nan_and_differs_from_every_number() {
    let folder = Folder::new();
    folder.text("c.txt", "nan 1 inf\n");
    folder.text("d.txt", "nan nan inf\n");
    folder.done("compare c.txt c.txt");
    let answer = folder.run("compare c.txt d.txt --tolerance 1000 --json");
    assert_eq!(answer.code, 5);
    let json = answer.json();
    assert_eq!(
        (&json["nan_different"], &json["relative_max"]),
        (&1.into(), &"inf".into())
    );
}

#[test]
fn different_shapes_are_bad_input_and_both_are_said() {
    let folder = Folder::new();
    folder.done("generate normal 2x3 -o A.npy");
    folder.done("generate normal 3x2 -o B.npy");
    folder
        .run("compare A.npy B.npy")
        .fails(2, &["`A.npy` is 2 x 3", "`B.npy` is 3 x 2"]);
}
