//! A product's bytes depend on its inputs alone: not on threads, memory, workers, tiles, instruction set or a resume; and
//! `verify` finds any others.

mod common;

use common::{Running, Stage};
use serde_json::Value;
use std::fs;
use tilework_core::ids::TaskIdx;
use tilework_core::record::Record;
use tilework_linalg::multiply::tile_crc;
use tilework_linalg::tiles::Grid;
use tilework_store::disk::RealDisk;
use tilework_store::element_type::Dtype;
use tilework_store::journal::frame;
use tilework_store::npy::output::NpyOutput;

/// Bytes before the first element of our outputs.
const HEADER_LEN: u64 = 128;

/// A folder with A and B.
fn stage(a: &str, b: &str, dtype: &str) -> Stage {
    Stage::with_inputs(a, b, &format!("--dtype {dtype}"))
}

impl Stage {
    /// Runs a `verify` that fails, and says so in `words`.
    fn find_wrong(&self, line: &str, words: &[&str]) -> Value {
        let output = self.run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{line}: {text}");
        for word in words.iter().chain(&["\n  next: "]) {
            assert!(text.contains(word), "{line}: no `{word}` in: {text}");
        }
        let output = self.run(&format!("{line} --json"));
        assert_eq!(output.status.code(), Some(5));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&json["status"], &json["exit_code"]),
            (&"failed".into(), &5.into())
        );
        json
    }

    /// A·B with `options`: its bytes and its number of tasks.
    fn product(&self, options: &str) -> (Vec<u8>, u64) {
        let line = format!("multiply A.npy B.npy -o C.npy --overwrite {options}");
        let report = self.succeed(line.trim_end());
        (
            fs::read(self.path("C.npy")).unwrap(),
            report["tasks"].as_u64().unwrap(),
        )
    }

    /// Starts the product `output`, which nobody began before, and kills it once it has committed a task.
    fn begin(&self, output: &str, options: &str) {
        let mut running = self.start(&format!("multiply A.npy B.npy -o {output} {options}"));
        self.wait_for_commits(output, 1, &mut running);
    }
}

/// Compares the product of every line of options with the first one's; at least `n_grids` different tilings took part.
fn check_options(stage: &Stage, lines: &[&str], n_grids: usize) {
    let (first, n_tasks) = stage.product(lines[0]);
    let mut grids = vec![n_tasks];
    for options in &lines[1..] {
        let (bytes, n_tasks) = stage.product(options);
        assert!(
            bytes == first,
            "other bytes with `{options}` than with `{}`",
            lines[0]
        );
        grids.push(n_tasks);
    }
    grids.sort_unstable();
    grids.dedup();
    assert!(
        grids.len() >= n_grids,
        "tilings with {grids:?} tasks are too much alike for this test"
    );
}

#[test]
fn threads_memory_and_workers_do_not_change_f64() {
    let stage = stage("3000x301", "301x2900", "f64");
    let lines = [
        "--threads 1",
        "--threads 2",
        "--threads 3",
        "--memory 32MiB --threads 1",
        "--memory 32MiB --threads 2",
        "--memory 32MiB --threads 3",
        "--memory 64MiB --threads 2",
        "--memory 64MiB --threads 3",
        "--workers 3",
        "--memory 64MiB --workers 3",
    ];
    check_options(&stage, &lines, 3);
}

#[test]
fn threads_memory_and_workers_do_not_change_f32() {
    let stage = stage("4000x301", "301x3800", "f32");
    let lines = [
        "--threads 1",
        "--memory 32MiB --threads 3",
        "--memory 64MiB",
        "--memory 48MiB --workers 3 --threads 3",
    ];
    check_options(&stage, &lines, 3);
}

#[test]
fn memory_does_not_change_transposed_products() {
    let stage = stage("701x1900", "2100x701", "f64");
    let lines = ["", "--memory 20MiB --threads 1", "--memory 64MiB --workers 3"];
    let lines = lines.map(|options| {
        format!("--transpose-a --transpose-b {options}")
            .trim_end()
            .to_owned()
    });
    check_options(&stage, &lines.each_ref().map(String::as_str), 2);
}

#[test]
fn resources_do_not_change_what_is_added() {
    let stage = stage("3000x301", "301x2900", "f64");
    stage.succeed("generate normal 3000x2900 -o D.npy --seed 3");
    let lines = [
        "",
        "--memory 32MiB --threads 1",
        "--memory 64MiB --threads 3",
        "--memory 64MiB --workers 3",
    ];
    let lines = lines.map(|options| {
        let line = format!("--alpha 0.3 --beta -1.7 --add D.npy {options}");
        line.trim_end().to_owned()
    });
    check_options(&stage, &lines.each_ref().map(String::as_str), 3);
}

#[test]
fn a_resume_with_other_resources_does_not_change_them() {
    let stage = stage("1900x803", "803x2100", "f64");
    let (whole, _) = stage.product("--threads 2");
    let begin = "--memory 17MiB --threads 2";
    let resumes = [
        "multiply A.npy B.npy -o R0.npy --memory 40MiB --threads 1",
        "resume R1.npy",
        "resume R2.npy --memory 64MiB --threads 3",
        "resume R3.npy --memory 80MiB --workers 3",
    ];
    for (at, resume) in resumes.into_iter().enumerate() {
        let output = format!("R{at}.npy");
        stage.begin(&output, begin);
        let report = stage.succeed(resume);
        assert!(report["tasks_resumed"].as_u64() >= Some(1), "{resume}: {report}");
        assert!(
            report["tasks_run"].as_u64() >= Some(1),
            "{resume}: nothing was left to resume: {report}"
        );
        assert!(
            fs::read(stage.path(&output)).unwrap() == whole,
            "other bytes after `{resume}`"
        );
    }
}

/// Multiplies the elements in the first `n_rows` rows of an f64 file by `factor`.
fn scale_rows(stage: &Stage, name: &str, (n_rows, n_cols): (usize, usize), factor: f64) {
    let mut bytes = stage.read(name);
    let rows = &mut bytes[HEADER_LEN as usize..][..8 * n_rows * n_cols];
    for element in rows.as_chunks_mut::<8>().0 {
        *element = (f64::from_le_bytes(*element) * factor).to_le_bytes();
    }
    stage.write(name, &bytes);
}

/// Strassen's algorithm adds rows of both halves of a tile to each other, so the small ones lose what the classical bound promises:
/// `verify` called such a product wrong, every byte of which was what had been committed.
#[test]
fn r1_a_strassen_product_of_badly_scaled_rows_is_verified_by_its_own_bound() {
    let stage = stage("700x600", "600x700", "f64");
    scale_rows(&stage, "A.npy", (350, 600), 1e12);
    let product = stage.succeed("multiply A.npy B.npy -o C.npy --algorithm strassen --memory 24MiB");
    assert!(product["tasks"].as_u64() > Some(1), "{product}");
    let report = stage.succeed("verify C.npy");
    assert_eq!(report["tiles_bad"], 0);
    assert!(
        report["notes"][0].as_str().unwrap().contains("Strassen's"),
        "the test's rows are outside the classical bound: {report}"
    );
    // Whoever does not know what computed it can only hold it to the classical bound.
    stage.find_wrong("verify A.npy B.npy C.npy", &["C·x differs from A·(B·x)"]);

    let offset = HEADER_LEN + 8 * (400 * 700 + 5);
    let element = f64::from_le_bytes(stage.read("C.npy")[offset as usize..][..8].try_into().unwrap());
    stage.patch("C.npy", &(element + 1e6).to_le_bytes(), offset);
    let json = stage.find_wrong("verify C.npy", &["C·x differs from A·(B·x) in 1 rows: 400"]);
    assert!(
        json["residual_max"].as_f64() > json["residual_bound"].as_f64(),
        "{json}"
    );
}

#[test]
fn the_report_says_which_tiles_fell_back_to_the_classical_algorithm() {
    let stage = stage("700x600", "600x700", "f64");
    let line = "multiply A.npy B.npy -o C.npy --overwrite --memory 24MiB";
    let facts = |report: &Value| (report["algorithm"].clone(), report["tiles_fallen_back"].clone());
    assert_eq!(facts(&stage.succeed(line)), ("classical".into(), 0.into()));
    let strassen = format!("{line} --algorithm strassen");
    assert_eq!(facts(&stage.succeed(&strassen)), ("strassen".into(), 0.into()));
    let text = |line: &str| String::from_utf8(stage.run(line).stderr).unwrap();
    assert!(!text(&strassen).contains("classically"));

    // The last column of B is in one strip of columns only.
    stage.patch("B.npy", &f64::INFINITY.to_le_bytes(), HEADER_LEN + 8 * 699);
    let report = stage.succeed(&strassen);
    let (n_tiles, fallen_back) = (
        report["tasks"].as_u64().unwrap(),
        report["tiles_fallen_back"].as_u64().unwrap(),
    );
    assert!(fallen_back > 0 && fallen_back < n_tiles, "{report}");
    let text = text(&strassen);
    let words = format!("{fallen_back} of {n_tiles} tiles classically");
    assert!(text.contains(&words), "{text}");
    stage.succeed("verify C.npy");
}

#[test]
fn a_strassen_product_is_resumed_on_its_grid_with_its_algorithm() {
    let stage = stage("1900x1203", "1203x2100", "f64");
    let begin = "--memory 24MiB --threads 2 --algorithm strassen";
    let (whole, _) = stage.product(begin);
    let (classical, _) = stage.product("--memory 24MiB --threads 2");
    assert!(whole != classical, "the two algorithms round differently");
    let resumes = [
        "multiply A.npy B.npy -o R0.npy --memory 60MiB --threads 1 --algorithm strassen",
        "multiply A.npy B.npy -o R1.npy --memory 30MiB --algorithm auto",
        "resume R2.npy --memory 100MiB --threads 3",
    ];
    for (at, resume) in resumes.into_iter().enumerate() {
        let output = format!("R{at}.npy");
        stage.begin(&output, begin);
        if at == 0 {
            let line = "multiply A.npy B.npy -o R0.npy --algorithm classical";
            let text = String::from_utf8(stage.run(line).stderr).unwrap();
            assert!(text.contains("--algorithm was strassen"), "{text}");
        }
        let report = stage.succeed(resume);
        assert!(report["tasks_resumed"].as_u64() >= Some(1), "{resume}: {report}");
        assert!(
            report["tasks_run"].as_u64() >= Some(1),
            "{resume}: nothing was left: {report}"
        );
        assert!(
            fs::read(stage.path(&output)).unwrap() == whole,
            "other bytes after `{resume}`"
        );
    }
}

#[test]
fn a_resume_may_change_the_instruction_set() {
    let stage = stage("1000x260", "260x1200", "f64");
    let (whole, _) = stage.product("--threads 2");
    stage.begin("R.npy", "--memory 15MiB --threads 1");
    let mut command = stage.command("resume R.npy --json");
    command.env("TILEWORK_SIMD", "portable");
    let output = Running::start(command).end();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report["tasks_run"].as_u64() >= Some(1),
        "nothing was left to resume: {report}"
    );
    assert!(fs::read(stage.path("R.npy")).unwrap() == whole);
}

#[test]
fn the_instruction_set_does_not_change_them() {
    // More than one block of the inner dimension, and edges in all directions.
    for (a, b, dtype) in [("131x777", "777x149", "f64"), ("131x1555", "1555x149", "f32")] {
        let stage = stage(a, b, dtype);
        let (whole, _) = stage.product("");
        let mut ran = Vec::new();
        for simd in ["portable", "avx2", "avx512"] {
            let mut command = stage.command("multiply A.npy B.npy -o C.npy --overwrite");
            command.env("TILEWORK_SIMD", simd);
            let output = Running::start(command).end();
            let text = String::from_utf8(output.stderr).unwrap();
            if output.status.success() {
                ran.push(simd);
                assert!(
                    fs::read(stage.path("C.npy")).unwrap() == whole,
                    "other bytes with {simd} in {dtype}"
                );
            } else {
                assert!(
                    text.contains(&format!("this processor has no {simd}")),
                    "{simd}: {text}"
                );
                assert_eq!(output.status.code(), Some(2));
            }
        }
        assert!(
            ran.contains(&"portable"),
            "portable code runs everywhere; ran: {ran:?}"
        );
    }
}

/// Where in the file the element in the middle of C is, and the tile that holds it.
fn middle_of_c(stage: &Stage) -> (u64, u64, Grid) {
    let journal = stage.journal("C.npy").unwrap();
    let job: Value = serde_json::from_slice(&journal.job_text.unwrap()).unwrap();
    let grid: Grid = serde_json::from_value(job["plan"]["grid"].clone()).unwrap();
    let (row, col) = (grid.m / 2, grid.n / 2);
    let holds = |task: &TaskIdx| grid.tile(*task).cols.contains(&col);
    let task = grid.tasks_of_row(row).find(holds).unwrap();
    (HEADER_LEN + 8 * (row * grid.n + col), task.0, grid)
}

#[test]
fn a_bit_that_flips_at_rest_is_found_and_its_tile_named() {
    let stage = stage("900x400", "400x1000", "f64");
    stage.succeed("multiply A.npy B.npy -o C.npy --memory 15MiB");
    assert_eq!(stage.succeed("verify C.npy")["tiles_bad"], 0);
    let (offset, task, grid) = middle_of_c(&stage);
    assert!(grid.n_tiles() > 4);
    // The lowest bit of one element, far below what rounding allows: only the checksum can see it.
    let byte = stage.read("C.npy")[offset as usize];
    stage.patch("C.npy", &[byte ^ 1], offset);
    let json = stage.find_wrong(
        "verify C.npy",
        &["`C.npy` is wrong", &format!("bad tiles: {task} (rows ")],
    );
    assert_eq!(
        (json["tiles_bad"].as_u64(), json["tiles_checked"].as_u64()),
        (Some(1), Some(grid.n_tiles()))
    );
    stage.succeed("verify A.npy B.npy C.npy");
}

#[test]
fn a_changed_element_is_found_even_if_the_journal_says_the_same() {
    let stage = stage("900x400", "400x1000", "f64");
    stage.succeed("multiply A.npy B.npy -o C.npy --memory 15MiB");
    let (offset, task, grid) = middle_of_c(&stage);
    let bytes = stage.read("C.npy");
    let element = f64::from_le_bytes(bytes[offset as usize..][..8].try_into().unwrap());
    stage.patch("C.npy", &(element + 1e-6).to_le_bytes(), offset);
    assert_eq!(
        stage.find_wrong("verify C.npy", &[&format!("bad tiles: {task} (rows ")])["tiles_bad"],
        1
    );

    // Now its checksum, too.
    let output =
        NpyOutput::open_existing(&RealDisk, &stage.path("C.npy"), grid.m, grid.n, Dtype::F64).unwrap();
    let tile = grid.tile(TaskIdx(task));
    let crc32c = tile_crc::<f64>(&output, &tile, &mut vec![0.0; 1 << 16]).unwrap();
    let scan = frame::scan(&stage.read("C.npy.tilework/journal"));
    assert_eq!(scan.n_damaged_bytes, 0);
    let mut journal = Vec::new();
    for mut record in scan.records {
        if let Record::Commit(commit) = &mut record
            && commit.attempt.task.0 == task
        {
            assert_ne!(commit.crc32c, crc32c);
            commit.crc32c = crc32c;
        }
        frame::append(&record, &mut journal);
    }
    fs::write(stage.path("C.npy.tilework/journal"), &journal).unwrap();

    for line in ["verify C.npy", "verify A.npy B.npy C.npy"] {
        let json = stage.find_wrong(
            line,
            &[
                "`C.npy` is wrong",
                "C·x differs from A·(B·x)",
                &format!(": {}\n", grid.m / 2),
            ],
        );
        assert!(json["tiles_bad"].as_u64() >= Some(1), "{line}: {json}");
        assert!(
            json["residual_max"].as_f64() > json["residual_bound"].as_f64(),
            "{line}: {json}"
        );
    }
    // Without the inputs nothing contradicts the journal: the forgery is a consistent one.
    fs::rename(stage.path("A.npy"), stage.path("gone.npy")).unwrap();
    let json = stage.succeed("verify C.npy");
    assert!(
        json["notes"][0]
            .as_str()
            .unwrap()
            .contains("only the bytes of C were checked"),
        "{json}"
    );
}
