//! `gram` end to end: the bytes of `multiply`, whatever it may use and however often it is killed, and damage found in both
//! halves.

mod common;

use common::Stage;
use serde_json::Value;
use std::fs;

/// Bytes before the first element of our outputs.
const HEADER_LEN: u64 = 128;
/// So little memory that there are dozens of tasks, with several strips in both directions.
const MEMORY: &str = "--memory 16MiB";

fn stage(extents: &str, options: &str) -> Stage {
    Stage::with_inputs(extents, "1x1", options)
}

impl Stage {
    /// A'·A, or A·A' with `--rows`, by `multiply`.
    fn general(&self, options: &str) -> Vec<u8> {
        let transpose = if options.contains("--rows") { "-b" } else { "-a" };
        let options = options.replace("--rows", "");
        self.succeed(
            format!("multiply A.npy A.npy --transpose{transpose} -o C.npy --overwrite {options}").trim_end(),
        );
        self.read("C.npy")
    }

    fn gram(&self, options: &str) -> (Vec<u8>, Value) {
        let report = self.succeed(format!("gram A.npy -o G.npy --overwrite {options}").trim_end());
        assert_eq!(report["job"], "gram");
        (self.read("G.npy"), report)
    }
}

#[test]
fn the_bytes_are_those_of_multiply() {
    for (extents, dtype) in [("700x1300", "f64"), ("1301x701", "f32")] {
        let stage = stage(extents, &format!("--dtype {dtype}"));
        for side in ["", "--rows"] {
            let expected = stage.general(side);
            let mut n_tasks = Vec::new();
            for options in [
                "",
                MEMORY,
                "--threads 1",
                "--memory 20MiB --threads 3",
                "--memory 48MiB --workers 3",
            ] {
                let (bytes, report) = stage.gram(format!("{side} {options}").trim());
                assert!(bytes == expected, "other bytes with {side} {options}");
                n_tasks.push(report["tasks"].as_u64().unwrap());
            }
            n_tasks.sort_unstable();
            n_tasks.dedup();
            assert!(
                n_tasks.len() > 1,
                "tilings with {n_tasks:?} tasks are too much alike for this test"
            );
        }
    }
}

#[test]
fn integers_are_converted_and_small_results_printed() {
    let stage = Stage::empty();
    stage.write("a.txt", b"1 2\n3 4\n5 6\n");
    let output = stage.run("gram a.txt -o -");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "35 44\n44 56\n");
    let output = stage.run("gram a.txt -o - --rows");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "5 11 17\n11 25 39\n17 39 61\n"
    );
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    let header = format!(
        "{:117}\n",
        "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }"
    );
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend([1i32, 2, 3, 4, 5, 6].iter().flat_map(|value| value.to_le_bytes()));
    stage.write("I.npy", &bytes);
    let output = stage.run("gram I.npy -o -");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("`I.npy` holds") && text.contains("tilework gram I.npy -o G.npy --dtype f64"),
        "{text}"
    );
    let output = stage.run("gram I.npy -o - --dtype f64");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "5 11 17\n11 25 39\n17 39 61\n"
    );
}

#[test]
fn the_plan_says_what_the_run_then_does() {
    let stage = stage("900x1500", "");
    for options in ["", "--rows", MEMORY, "--rows --memory 20MiB"] {
        let plan = stage.succeed(format!("plan gram A.npy {options}").trim_end());
        let (_, report) = stage.gram(options);
        for name in [
            "job",
            "m",
            "n",
            "k",
            "tasks",
            "bytes_written",
            "bytes_bound",
            "memory_planned_bytes",
        ] {
            assert_eq!(plan[name], report[name], "{name} with {options}");
        }
        // The identity of the input is taken from samples of it.
        let (planned, read) = (
            plan["bytes_read"].as_u64().unwrap(),
            report["bytes_read"].as_u64().unwrap(),
        );
        assert!(
            (planned..planned + (4 << 20)).contains(&read),
            "{planned} planned, {read} read with {options}"
        );
        let (n, k) = (report["n"].as_f64().unwrap(), report["k"].as_f64().unwrap());
        let flops = report["gflops"].as_f64().unwrap() * 1e9 * report["seconds"].as_f64().unwrap();
        assert!(
            (flops / (n * (n + 1.0) * k) - 1.0).abs() < 1e-9,
            "only useful flops count"
        );
    }
}

#[test]
fn kills_and_resumes_do_not_change_the_bytes() {
    let stage = stage("1000x2400", "");
    let expected = stage.general("");
    for (output, resume) in [
        ("G.npy", "gram A.npy -o G.npy --memory 16MiB"),
        ("H.npy", "resume H.npy --memory 64MiB --threads 3"),
    ] {
        let line = format!("gram A.npy -o {output} {MEMORY}");
        for kill in 1..=3 {
            let mut running = stage.start(&line);
            stage.wait_for_commits(output, 3 * kill, &mut running);
            assert!(running.kill());
        }
        let status = stage.succeed(&format!("status {output}"));
        assert_eq!(
            (status["job"].as_str(), status["state"].as_str()),
            (Some("gram"), Some("unfinished"))
        );
        assert_eq!(status["inputs"].as_array().map(Vec::len), Some(1));
        let report = stage.succeed(resume);
        assert_eq!(report["tasks"], status["tasks"]);
        assert!(report["tasks_resumed"].as_u64() >= Some(9), "{report}");
        assert!(
            report["tasks_run"].as_u64() >= Some(1),
            "nothing was left to resume: {report}"
        );
        assert!(stage.read(output) == expected, "other bytes after `{resume}`");
        assert_eq!(stage.succeed(&format!("verify {output}"))["tiles_bad"], 0);
        assert_eq!(stage.succeed(&format!("explain {output}"))["job"], "gram");
    }
}

#[test]
fn an_unfinished_one_is_not_taken_for_another_job() {
    let stage = stage("1000x2400", "");
    let mut running = stage.start(&format!("gram A.npy -o G.npy {MEMORY}"));
    stage.wait_for_commits("G.npy", 1, &mut running);
    assert!(running.kill());
    for (line, words) in [
        ("gram A.npy -o G.npy --rows", "--rows was false, now true"),
        (
            "multiply A.npy A.npy --transpose-a -o G.npy",
            "the kind of job was gram, now multiply",
        ),
    ] {
        let output = stage.run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_bit_that_flips_at_rest_is_found_in_either_half() {
    let stage = stage("400x900", "");
    let (bytes, report) = stage.gram(MEMORY);
    let (n, n_tasks) = (900, report["tasks"].as_u64().unwrap());
    assert!(n_tasks > 4);
    for (row, col) in [
        (0, 899),
        (899, 0),
        (450, 451),
        (451, 450),
        (100, 700),
        (700, 100),
        (300, 300),
    ] {
        let offset = HEADER_LEN + 8 * (row * n + col);
        // The lowest bit of one element, far below what rounding allows: only a comparison of bytes can see it.
        stage.patch("G.npy", &[bytes[offset as usize] ^ 1], offset);
        let output = stage.run("verify G.npy --json");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(5), "({row}, {col}): {json}");
        assert_eq!(
            (&json["tiles_bad"], &json["tiles_checked"]),
            (&1.into(), &n_tasks.into())
        );
        assert!(
            json["next"].as_str().unwrap().contains("tilework repair G.npy"),
            "{json}"
        );
        stage.patch("G.npy", &[bytes[offset as usize]], offset);
    }
    stage.succeed("verify G.npy");
    stage.succeed("verify A.npy A.npy G.npy --transpose-a");
    fs::remove_file(stage.path("A.npy")).unwrap();
    assert!(
        stage.succeed("verify G.npy")["notes"][0]
            .as_str()
            .unwrap()
            .contains("only the bytes of C were checked")
    );
}
