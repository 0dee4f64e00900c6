//! The examples: each against an independent result, and killed in each of its rounds. The one with task files has tests of its own (word_count.rs).

mod common;

use common::example::{Program, beside_examples, digits};
use common::peak_bytes;
use serde_json::Value;
use std::fs;
use std::io::{BufWriter, Write};
use tilework::{Files, Matrix};

#[test]
fn hello_greets_in_order_and_tells_what_is_wrong_with_a_spec() {
    let program = Program::of_example("hello");
    let done = program.succeed(r#"run hello --set names=["Ada","Alan"]"#);
    assert_eq!(
        (&done["tasks_run"], &done["tasks_checked"], &done["output"]),
        (&2.into(), &0.into(), &"hello.json".into())
    );
    assert_eq!(
        program.report("hello.json"),
        serde_json::json!(["Hello, Ada!", "Hello, Alan!"])
    );
    // A finished one is kept.
    let refused = program.refuse(r#"run hello --set names=["Grace"]"#);
    assert!(refused["next"].as_str().unwrap().contains("--overwrite"));
    program.succeed(r#"run hello --set names=["Grace"] --overwrite"#);
    assert_eq!(program.report("hello.json"), serde_json::json!(["Hello, Grace!"]));
    for (line, complaint) in [
        ("run hello -o x", "missing field `names`"),
        ("run hello -o x --set names=[] --set who=1", "unknown field `who`"),
        ("run hello -o x --set names=[]", "has no tasks"),
        ("run hello -o none/x --set names=[1]", "invalid type"),
        ("run helo", "no job `helo`"),
        ("run hello --set names", "no value"),
        ("run hello --spec none.json", "none.json"),
    ] {
        let refused = program.refuse(line);
        assert!(
            refused["error"].as_str().unwrap().contains(complaint),
            "{line}: {refused}"
        );
        assert!(refused["next"].is_string(), "{line}: {refused}");
    }
    assert!(!program.path("x").exists() && !program.path("x.tilework").exists());
    let kinds = program.succeed("kinds");
    assert_eq!(kinds["kinds"][0]["fields"]["names"], "list of text");
    // So many that it is not over before it is killed, however busy the machine.
    let names = serde_json::json!(["Ada", "Alan", "Grace", "Edsger"].repeat(8)).to_string();
    program.survives_kills_in(0..1, &format!("run hello --set names={names}"));
}

#[test]
fn pi_is_the_same_whoever_throws() {
    let program = Program::of_example("pi");
    fs::write(
        program.path("spec.json"),
        r#"{"samples": 1000003, "tasks": 7, "seed": 3}"#,
    )
    .unwrap();
    program.succeed("run pi --spec spec.json -o one.json --threads 1");
    let two = program.succeed("run pi --spec spec.json -o two.json --threads 2 --assign round-robin");
    assert_eq!(two["tasks_by_worker"], serde_json::json!([4, 3]));
    assert_eq!(program.read("one.json"), program.read("two.json"));
    let pi = program.report("one.json")["pi"].as_f64().unwrap();
    // Four standard deviations of so many darts.
    assert!((pi - std::f64::consts::PI).abs() < 4.0 * 1.65e-3, "{pi}");
    program.succeed("run pi --spec spec.json --set seed=4 -o other.json");
    assert_ne!(program.report("one.json"), program.report("other.json"));
    program.survives_kills_in(0..1, "run pi --spec spec.json");
}

/// Lloyd's algorithm over the whole matrix at once.
fn lloyd(matrix: &Matrix, k: usize) -> (u64, Vec<u64>) {
    let n_cols = matrix.n_cols() as usize;
    let all = matrix.rows(0..matrix.n_rows()).unwrap();
    let rows: Vec<&[f64]> = all.chunks_exact(n_cols).collect();
    let mut centres: Vec<Vec<f64>> = (0..k).map(|i| rows[i * rows.len() / k].to_vec()).collect();
    for round in 1.. {
        let nearest = |row: &[f64]| {
            let squared =
                |centre: &[f64]| -> f64 { centre.iter().zip(row).map(|(c, x)| (c - x).powi(2)).sum() };
            (0..k)
                .min_by(|i, j| squared(&centres[*i]).total_cmp(&squared(&centres[*j])))
                .unwrap()
        };
        let of: Vec<usize> = rows.iter().map(|row| nearest(row)).collect();
        let mean = |i: usize| -> Vec<f64> {
            let mine: Vec<&&[f64]> = rows
                .iter()
                .zip(&of)
                .filter(|(_, of)| **of == i)
                .map(|(row, _)| row)
                .collect();
            (0..n_cols)
                .map(|col| mine.iter().map(|row| row[col]).sum::<f64>() / mine.len() as f64)
                .collect()
        };
        let next: Vec<Vec<f64>> = (0..k).map(mean).collect();
        if next == centres {
            let count = |i| of.iter().filter(|of| **of == i).count() as u64;
            return (round, (0..k).map(count).collect());
        }
        centres = next;
    }
    unreachable!()
}

const KMEANS: &str = "--set k=10 --set tasks=3";

#[test]
fn kmeans_finds_what_lloyd_finds() {
    let program = Program::of_example("kmeans");
    program.succeed(&format!("run kmeans --set matrix={} {KMEANS}", digits()));
    let found = program.report("kmeans.json");
    let (rounds, counts) = lloyd(&Files::of_this_machine().matrix(digits()).unwrap(), 10);
    assert_eq!(
        (&found["rounds"], &found["counts"]),
        (&rounds.into(), &counts.into())
    );
    let rounds = 0..rounds as u32;
    program.survives_kills_in(rounds, &format!("run kmeans --set matrix={} {KMEANS}", digits()));
}

#[test]
fn an_unfinished_job_goes_on_with_its_own_spec_and_inputs_only() {
    let program = Program::of_example("kmeans");
    fs::copy(digits(), program.path("digits.npy")).unwrap();
    let line = |output: &str| format!("run kmeans --set matrix=digits.npy {KMEANS} -o {output}");
    let whole = program.succeed(&line("undisturbed.json"));
    program.kill_in_round(&line("k.json"), "k.json", 6);
    // `resume` knows products only, and says whose job this is; `status` and `explain` know any job.
    let refused = program.refuse("resume k.json");
    assert!(
        refused["error"].as_str().unwrap().contains("unfinished `kmeans`"),
        "{refused}"
    );
    assert_eq!(program.succeed("status k.json")["state"], "unfinished");
    program.succeed("explain k.json");
    // Another spec, and other inputs, are another job.
    let other = program.refuse(&line("k.json").replace("tasks=3", "tasks=4"));
    assert!(
        other["error"].as_str().unwrap().contains("its spec was"),
        "{other}"
    );
    let mut bytes = program.read("digits.npy");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(program.path("digits.npy"), &bytes).unwrap();
    let changed = program.refuse(&line("k.json"));
    assert!(
        changed["error"].as_str().unwrap().contains("digits.npy"),
        "{changed}"
    );
    bytes[last] ^= 1;
    fs::write(program.path("digits.npy"), &bytes).unwrap();
    let rest = program.succeed(&line("k.json"));
    let run = |report: &Value| report["tasks_run"].as_u64().unwrap();
    assert!(
        run(&rest) <= run(&whole) - 6 * 3,
        "six rounds were complete: {rest}, {whole}"
    );
    assert_eq!(program.read("k.json"), program.read("undisturbed.json"));
    // The kill was told of, if a task had begun.
    let mut kept = program.kept("k.json");
    kept.retain(|name| name != "alarms.jsonl");
    assert_eq!(kept, ["journal"]);
}

/// What scikit-learn 1.9.1 finds with the same loss, `LogisticRegression(C=1 / (1500 * 0.01), tol=1e-10, max_iter=100000)` on the same
/// rows divided by 16: how many of the other rows it gets right, and its loss there (examples/README.md).
const SKLEARN: (u64, f64) = (263, 0.583_391_695);

#[test]
fn logistic_regression_learns_what_scikit_learn_learns() {
    let program = Program::of_example("logistic_regression");
    let (spec, labels) = (
        beside_examples("logistic_regression.json"),
        beside_examples("digits_labels.npy"),
    );
    let line = format!(
        "run logistic-regression --spec {spec} --set matrix={} --set labels={labels}",
        digits()
    );
    program.succeed(&line);
    let found = program.report("logistic-regression.json");
    assert_eq!(found["correct"], SKLEARN.0);
    let loss = found["loss"].as_f64().unwrap();
    assert!((loss - SKLEARN.1).abs() < 1e-3, "{loss}");
    // Rounds of learning and the one that tests.
    program.survives_kills_in(0..6, &format!("{line} --set rounds=5"));
    let refused = program.refuse(&format!("{line} -o x --set train_rows=1797"));
    assert!(
        refused["error"].as_str().unwrap().contains("less than 1797"),
        "{refused}"
    );
    let refused = program.refuse(&format!("{line} -o x --set labels={}", digits()));
    assert!(
        refused["error"].as_str().unwrap().contains("1 column"),
        "{refused}"
    );
}

const EIGENVALUE: f64 = 100.0;

/// Writes H·D·H of the Householder reflection H = I - 2·v·vᵀ and a diagonal D: its eigenvalues are those of D, [`EIGENVALUE`] and
/// others that are no larger than 1, and its eigenvectors the columns of H. The one of the largest eigenvalue.
fn write_symmetric(program: &Program, name: &str, n: usize) -> Vec<f64> {
    let d = |i: usize| {
        if i == 0 {
            EIGENVALUE
        } else {
            (i % 7) as f64 / 6.0 - 0.5
        }
    };
    let squares: f64 = (0..n).map(|i| ((i % 5 + 1) * (i % 5 + 1)) as f64).sum();
    let v = |i: usize| (i % 5 + 1) as f64 / squares.sqrt();
    let vdv: f64 = (0..n).map(|i| v(i) * d(i) * v(i)).sum();
    let mut file = BufWriter::new(fs::File::create(program.path(name)).unwrap());
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({n}, {n}), }}");
    file.write_all(b"\x93NUMPY\x01\x00\x76\x00").unwrap();
    writeln!(file, "{header:<117}").unwrap();
    for i in 0..n {
        for j in 0..n {
            let diagonal = if i == j { d(i) } else { 0.0 };
            let element = diagonal + v(i) * v(j) * (4.0 * vdv - 2.0 * (d(i) + d(j)));
            file.write_all(&element.to_le_bytes()).unwrap();
        }
    }
    file.into_inner().unwrap().sync_all().unwrap();
    (0..n)
        .map(|i| f64::from(u8::from(i == 0)) - 2.0 * v(0) * v(i))
        .collect()
}

#[test]
fn power_iteration_finds_the_eigenvalue_of_a_matrix_that_is_larger_than_its_memory() {
    const N: usize = 4000;
    let program = Program::of_example("power_iteration");
    let eigenvector = write_symmetric(&program, "s.npy", N);
    let line = "run power-iteration --set matrix=s.npy --set tasks=8 --memory 64MiB";
    let running = program.start(&format!("{line} --json"));
    let mut peak = 0;
    let output = running.end_watched(|pid| peak = peak.max(peak_bytes(pid).unwrap_or(0)));
    assert!(output.status.success(), "{output:?}");
    assert!((1..64 << 20).contains(&peak), "{peak} bytes");
    assert!(peak < (N * N * 8) as u64 / 2, "{peak} bytes");
    let found = program.report("power-iteration.json");
    let value = found["eigenvalue"].as_f64().unwrap();
    assert!((value - EIGENVALUE).abs() < 1e-6, "{value}");
    let vector = found["eigenvector"].as_array().unwrap().iter();
    let cosine: f64 = vector
        .zip(&eigenvector)
        .map(|(x, y)| x.as_f64().unwrap() * y)
        .sum();
    assert!(cosine.abs() > 1.0 - 1e-9, "{cosine}");
    let rounds = found["rounds"].as_u64().unwrap() as u32;
    assert!((2..20).contains(&rounds), "{rounds}");
    program.survives_kills_in(0..rounds, line);
}

/// Rows of the image, by the definition: z² + c from 0 stays within 2 for so many steps.
fn escape_shade(c: (f64, f64), iterations: u32) -> u8 {
    let mut z = (0.0f64, 0.0f64);
    for n in 0..iterations {
        if z.0 * z.0 + z.1 * z.1 > 4.0 {
            return (255.0 * (f64::from(n) / f64::from(iterations)).powf(0.25)) as u8;
        }
        z = (z.0 * z.0 - z.1 * z.1 + c.0, 2.0 * z.0 * z.1 + c.1);
    }
    0
}

#[test]
fn mandelbrot_draws_the_set() {
    const SIZE: (u32, u32) = (96, 70);
    let program = Program::of_example("mandelbrot");
    let line = "run mandelbrot --set width=96 --set height=70 --set iterations=300";
    program.survives_kills_in(0..1, line);
    let mut decoder = png::Decoder::new(std::io::Cursor::new(program.read("whole")))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
    let info = decoder.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height), SIZE);
    let at = |row: u32, col: u32| {
        let re = -2.25 + 3.0 * (f64::from(col) + 0.5) / f64::from(SIZE.0);
        let im = 1.0 - 2.0 * (f64::from(row) + 0.5) / f64::from(SIZE.1);
        (re, im)
    };
    let expected: Vec<u8> = (0..SIZE.1)
        .flat_map(|row| (0..SIZE.0).map(move |col| (row, col)))
        .map(|(row, col)| escape_shade(at(row, col), 300))
        .collect();
    // Points whose path is chaotic may leave a step sooner or later by one rounding.
    let differ = pixels
        .iter()
        .zip(&expected)
        .filter(|(one, two)| one.abs_diff(**two) > 1)
        .count();
    assert!(differ * 1000 < expected.len(), "{differ} of {}", expected.len());
    let n_black = pixels.iter().filter(|pixel| **pixel == 0).count() as f64;
    // The area of the set is 1.5066 (Förstemann 2012), of 6 in the window.
    let area = 6.0 * n_black / expected.len() as f64;
    assert!((area - 1.5066).abs() < 0.05, "{area}");
}

#[test]
fn column_stats_are_what_the_definitions_say() {
    let program = Program::of_example("column_stats");
    let line = format!(
        "run column-stats --set matrix={} --set rows_per_task=250",
        digits()
    );
    program.survives_kills_in(0..2, &line);
    let found = program.report("whole");
    let matrix = Files::of_this_machine().matrix(digits()).unwrap();
    let (n_rows, n_cols) = (matrix.n_rows() as usize, matrix.n_cols() as usize);
    let values = matrix.rows(0..matrix.n_rows()).unwrap();
    for col in 0..n_cols {
        let column: Vec<f64> = values.iter().copied().skip(col).step_by(n_cols).collect();
        let mean = column.iter().sum::<f64>() / n_rows as f64;
        let squares: f64 = column.iter().map(|x| x * x).sum();
        // By the other formula for it: these are small integers.
        let deviation = ((squares - n_rows as f64 * mean * mean) / (n_rows as f64 - 1.0)).sqrt();
        let at = |name: &str| found[name][col].as_f64().unwrap();
        assert!((at("means") - mean).abs() < 1e-12, "{col}");
        let difference = (at("standard_deviations") - deviation).abs();
        assert!(difference < 1e-6 || deviation.is_nan(), "{col}: {difference}");
    }
    let refused = program.refuse("run column-stats --set matrix=none.npy");
    assert!(
        refused["error"].as_str().unwrap().contains("none.npy"),
        "{refused}"
    );
}
