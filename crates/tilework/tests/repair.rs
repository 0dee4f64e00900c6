//! Finished outputs are damaged at rest, in every part: `verify` names what is damaged, and `repair` gives back the undisturbed bytes,
//! also after it was killed. What it can't repair it leaves untouched, and says why.

mod common;

use common::{Running, Stage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use tilework_core::ids::TaskIdx;
use tilework_core::record::Record;
use tilework_linalg::tiles::Grid;
use tilework_store::journal::frame;

/// Bytes before the first element of our outputs.
const HEADER_LEN: usize = 128;
/// Little enough for many tiles.
const MULTIPLY: &str = "multiply A.npy B.npy -o C.npy --memory 15MiB";

fn stage() -> Stage {
    Stage::with_inputs("900x400", "400x1000", "")
}

/// The product that `line` leaves as C.
fn made(stage: &Stage, line: &str) -> (Vec<u8>, Grid) {
    stage.succeed(line);
    (stage.read("C.npy"), grid(stage))
}

fn grid(stage: &Stage) -> Grid {
    let job: Value = serde_json::from_slice(&stage.journal("C.npy").unwrap().job_text.unwrap()).unwrap();
    serde_json::from_value(job["plan"]["grid"].clone()).unwrap()
}

/// Where the element (row, col) of an f64 matrix begins in its file.
fn offset(grid: &Grid, row: u64, col: u64) -> usize {
    HEADER_LEN + 8 * (row * grid.n + col) as usize
}

/// The task that computes the element at `offset`, by its place or its mirror image's.
fn task_at(grid: &Grid, offset: usize) -> u64 {
    let at = (offset - HEADER_LEN) as u64 / 8;
    let (row, col) = (at / grid.n, at % grid.n);
    let holds = |task: &TaskIdx, row: u64, col: u64| {
        let tile = grid.tile(*task);
        tile.rows.contains(&row) && tile.cols.contains(&col)
    };
    let mut tasks = (0..grid.n_tiles()).map(TaskIdx);
    let found = tasks.find(|task| holds(task, row, col) || (grid.symmetric && holds(task, col, row)));
    found.unwrap().0
}

impl Stage {
    fn flip(&self, bytes: &[u8], bit: usize) {
        self.patch("C.npy", &[bytes[bit / 8] ^ 1 << (bit % 8)], bit as u64 / 8);
    }

    /// A `verify` that finds C damaged; what it says as JSON.
    fn finds_damage(&self) -> Value {
        let output = self.run("verify C.npy --json");
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            json["next"].as_str().unwrap().ends_with("tilework repair C.npy"),
            "{json}"
        );
        json
    }

    /// Repairs C, which has `expected` as its bytes then.
    fn repairs(&self, expected: &[u8]) -> Value {
        let report = self.succeed("repair C.npy");
        assert!(
            self.read("C.npy") == expected,
            "other bytes than the undisturbed ones: {report}"
        );
        self.succeed("verify C.npy");
        let names = fs::read_dir(self.path("C.npy.tilework")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["journal"], "nothing but the journal is left beside it");
        report
    }

    /// Expects a refusal in `words`, with a next step, that leaves C as it is.
    fn refuses(&self, code: i32, words: &[&str]) {
        let before = self.read("C.npy");
        let output = self.run("repair C.npy");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        for word in words.iter().chain(&["\n  next: "]) {
            assert!(text.contains(word), "no `{word}` in: {text}");
        }
        assert!(self.read("C.npy") == before, "a refused repair wrote: {text}");
    }
}

fn tiles(list: &Value) -> BTreeSet<u64> {
    let tiles = list.as_array().unwrap().iter();
    tiles.map(|tile| tile["tile"].as_u64().unwrap()).collect()
}

#[test]
fn any_single_flipped_bit_is_found_and_its_tile_named() {
    let stage = stage();
    let (bytes, grid) = made(&stage, MULTIPLY);
    assert!(grid.n_tiles() > 4);
    let n_bits = 8 * bytes.len();
    let mut random = ChaCha8Rng::seed_from_u64(71);
    // First and last bit of the header and of the elements, and others anywhere.
    let edges = [0, 8 * HEADER_LEN - 1, 8 * HEADER_LEN, n_bits - 1];
    let anywhere: Vec<usize> = (0..10).map(|_| random.next_u64() as usize % n_bits).collect();
    let in_header: Vec<usize> = (0..4)
        .map(|_| random.next_u64() as usize % (8 * HEADER_LEN))
        .collect();
    for bit in [&edges[..], &anywhere, &in_header].concat() {
        stage.flip(&bytes, bit);
        let json = stage.finds_damage();
        if bit < 8 * HEADER_LEN {
            assert_eq!(json["wrong"][0], "its header is damaged", "bit {bit}: {json}");
            assert_eq!(json["tiles_bad"], 0, "bit {bit}: {json}");
        } else {
            let task = task_at(&grid, bit / 8);
            let tile = grid.tile(TaskIdx(task));
            assert_eq!(tiles(&json["bad_tiles"]), [task].into(), "bit {bit}");
            assert_eq!(
                json["bad_tiles"][0]["rows"],
                serde_json::json!([tile.rows.start, tile.rows.end])
            );
            assert_eq!(
                json["bad_tiles"][0]["columns"],
                serde_json::json!([tile.cols.start, tile.cols.end])
            );
        }
        stage.patch("C.npy", &bytes[bit / 8..][..1], bit as u64 / 8);
    }
    assert_eq!(stage.repairs(&bytes)["tiles_repaired"], serde_json::json!([]));
    // All of them at once.
    edges
        .iter()
        .chain(&anywhere)
        .for_each(|bit| stage.flip(&bytes, *bit));
    let flipped: Vec<usize> = edges.iter().chain(&anywhere).copied().collect();
    let damaged = flipped.iter().filter(|bit| **bit >= 8 * HEADER_LEN);
    let damaged: BTreeSet<u64> = damaged.map(|bit| task_at(&grid, bit / 8)).collect();
    let report = stage.repairs(&bytes);
    assert_eq!(tiles(&report["tiles_repaired"]), damaged);
    assert_eq!(report["header_repaired"], true);
}

#[test]
fn people_are_told_where_it_is_and_what_was_done() {
    let stage = stage();
    let (bytes, grid) = made(&stage, MULTIPLY);
    let at = offset(&grid, 450, 700);
    let (task, n_tiles) = (task_at(&grid, at), grid.n_tiles());
    let tile = grid.tile(TaskIdx(task));
    stage.flip(&bytes, 8 * at);
    let place = format!(
        "rows {} to {}, columns {} to {}",
        tile.rows.start,
        tile.rows.end - 1,
        tile.cols.start,
        tile.cols.end - 1
    );
    let text = String::from_utf8(stage.run("verify C.npy").stderr).unwrap();
    assert!(
        text.contains(&format!("1 bad tiles: {task} ({place})\n")),
        "{text}"
    );
    assert!(
        text.contains("next: compute what is damaged again: tilework repair C.npy\n"),
        "{text}"
    );
    let text = String::from_utf8(stage.run("repair C.npy").stderr).unwrap();
    assert!(
        text.contains(&format!("1 of {n_tiles} tiles computed again")),
        "{text}"
    );
    assert!(text.contains(&format!("{task}: {place}\n")), "{text}");
    let text = String::from_utf8(stage.run("repair C.npy").stderr).unwrap();
    assert!(text.contains("nothing to repair"), "{text}");
}

#[test]
fn all_kinds_of_products_are_repaired_with_their_own_bits() {
    let lines = [
        "multiply A.npy B.npy -o C.npy --memory 15MiB --dtype f32",
        "multiply A.npy B.npy -o C.npy --memory 24MiB --algorithm strassen",
        "multiply A.npy B.npy -o C.npy --memory 15MiB --alpha 0.3 --beta -1.7 --add D.npy",
        "multiply B.npy A.npy -o C.npy --memory 15MiB --transpose-a --transpose-b",
        "gram B.npy -o C.npy --memory 16MiB",
    ];
    for line in lines {
        let stage = stage();
        stage.succeed("generate normal 900x1000 -o D.npy --seed 3");
        let (bytes, grid) = made(&stage, line);
        assert!(grid.n_tiles() > 2, "{line}: {grid:?}");
        // At the end of the first row, which of a symmetric product is a mirror image, of a tile that is right; and in two others.
        let row_bytes = (bytes.len() - HEADER_LEN) / grid.m as usize;
        for at in [HEADER_LEN + row_bytes - 4, HEADER_LEN + 40, bytes.len() - 40] {
            stage.flip(&bytes, 8 * at + 3);
        }
        let n_bad = tiles(&stage.finds_damage()["bad_tiles"]);
        let report = stage.repairs(&bytes);
        assert_eq!(tiles(&report["tiles_repaired"]), n_bad, "{line}");
    }
}

#[test]
fn a_file_that_was_cut_or_grew_is_repaired() {
    let stage = stage();
    let (bytes, grid) = made(&stage, MULTIPLY);
    // The first strip of rows of the last tile stays whole.
    let first = grid.tile(TaskIdx(0));
    let enough = offset(&grid, first.rows.end, 0);
    for len in [enough, bytes.len() / 2, bytes.len() - 1, bytes.len() + 5] {
        let mut damaged = bytes.clone();
        damaged.resize(len, 0);
        if len == enough {
            // The header, too.
            damaged[7] ^= 1;
        }
        stage.write("C.npy", &damaged);
        let json = stage.finds_damage();
        let words = format!("it is {len} bytes long instead of {}", bytes.len());
        assert_eq!(json["wrong"][0], words, "{json}");
        let report = stage.repairs(&bytes);
        assert_eq!(report["length_repaired"], true);
        assert_eq!(
            tiles(&report["tiles_repaired"]).is_empty(),
            len >= bytes.len(),
            "{report}"
        );
    }
}

#[test]
fn another_file_of_that_name_is_not_written_over() {
    let stage = stage();
    made(&stage, MULTIPLY);
    stage.succeed("generate normal 20x30 -o other.npy --seed 5");
    fs::rename(stage.path("other.npy"), stage.path("C.npy")).unwrap();
    let output = stage.run("verify C.npy");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("--overwrite") && !text.contains("repair"), "{text}");
    stage.refuses(2, &["may be another file"]);
    stage.write("C.npy", b"a letter to somebody");
    stage.refuses(2, &["may be another file"]);
    stage.write("C.npy", b"");
    stage.refuses(2, &["may be another file"]);
}

#[test]
fn without_its_inputs_it_is_left_as_it_is() {
    let stage = stage();
    let (bytes, grid) = made(&stage, MULTIPLY);
    let bit = 8 * offset(&grid, 100, 100) + 60;
    stage.flip(&bytes, bit);
    fs::rename(stage.path("B.npy"), stage.path("away.npy")).unwrap();
    stage.refuses(
        2,
        &[
            "B.npy` is gone",
            "put the input back, then: tilework repair C.npy",
        ],
    );
    let text = String::from_utf8(stage.run("verify C.npy").stderr).unwrap();
    assert!(
        text.contains("put the inputs back, then: tilework repair C.npy"),
        "{text}"
    );
    stage.succeed("generate normal 400x1000 -o B.npy --seed 9");
    stage.refuses(2, &["B.npy` has changed"]);
    // What needs no input is repaired all the same.
    stage.write("C.npy", &bytes);
    stage.flip(&bytes, 33);
    let report = stage.succeed("repair C.npy");
    assert_eq!(report["header_repaired"], true);
    assert!(stage.read("C.npy") == bytes);
    // A touched input is the same input.
    stage.flip(&bytes, bit);
    fs::rename(stage.path("away.npy"), stage.path("B.npy")).unwrap();
    let input = stage.read("B.npy");
    stage.write("B.npy", &input);
    stage.repairs(&bytes);
}

#[test]
fn what_was_added_to_its_own_file_cant_be_computed_again() {
    let stage = stage();
    stage.succeed("generate normal 900x1000 -o C.npy --seed 3");
    let (bytes, grid) = made(&stage, &format!("{MULTIPLY} --add C.npy --overwrite"));
    stage.flip(&bytes, 8 * offset(&grid, 1, 1));
    stage.refuses(
        2,
        &[
            "what was added was the old `C.npy`",
            "put a copy of `C.npy` in its place",
        ],
    );
    let text = String::from_utf8(stage.run("verify C.npy").stderr).unwrap();
    assert!(
        text.contains("next: put a copy of `C.npy` in its place"),
        "{text}"
    );
}

#[test]
fn what_is_not_finished_or_has_no_whole_journal_is_refused() {
    let stage = stage();
    let (bytes, grid) = made(&stage, MULTIPLY);
    let journal = stage.path("C.npy.tilework/journal");
    let whole = fs::read(&journal).unwrap();
    let mut records = frame::scan(&whole).records;
    let at = records
        .iter()
        .position(|record| matches!(record, Record::Commit(_)));
    records.remove(at.unwrap());
    let mut cut = Vec::new();
    records.iter().for_each(|record| frame::append(record, &mut cut));
    fs::write(&journal, &cut).unwrap();
    stage.flip(&bytes, 8 * offset(&grid, 1, 1));
    stage.refuses(2, &["does not say what 1 tiles should be"]);
    fs::write(&journal, &whole).unwrap();
    stage.repairs(&bytes);

    fs::rename(stage.path("C.npy.tilework"), stage.path("away")).unwrap();
    stage.refuses(2, &["has no journal"]);
    assert!(!stage.path("C.npy.tilework").exists(), "a refusal left a folder");
    fs::rename(stage.path("away"), stage.path("C.npy.tilework")).unwrap();
    fs::copy(stage.path("C.npy"), stage.path("C.npy.partial")).unwrap();
    stage.refuses(2, &["is unfinished", "tilework resume C.npy"]);
    let output = stage.run("repair nothing.npy");
    assert_eq!(output.status.code(), Some(2));
    assert!(!stage.path("nothing.npy.tilework").exists());
}

/// Inputs that changed in what no sample sees: the tile passes its check, and is not what was committed.
#[test]
fn a_tile_with_other_bytes_than_were_committed_is_not_written() {
    let stage = Stage::with_inputs("2000x600", "600x700", "");
    let (bytes, grid) = made(&stage, MULTIPLY);
    // Between two of the 256 samples of 4 KiB of A, which are spread over 9.6 MB.
    let mut a = stage.read("A.npy");
    let at = HEADER_LEN + 20_000;
    a[at + 6] ^= 1;
    stage.write("A.npy", &a);
    let row = 20_000 / 8 / 600;
    stage.flip(&bytes, 8 * offset(&grid, row, 100));
    stage.refuses(5, &["passes its check with other bytes than were committed"]);
}

#[test]
fn a_repair_whose_results_are_wrong_writes_none_of_them() {
    let stage = stage();
    let (bytes, grid) = made(&stage, MULTIPLY);
    let bit = 8 * offset(&grid, 333, 333) + 2;
    stage.flip(&bytes, bit);
    let before = stage.read("C.npy");
    let mut command = stage.command("repair C.npy");
    command.env("TILEWORK_TEST_LIES", "*:row:1:7");
    let output = Running::start(command).end();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("failed its check"), "{text}");
    assert!(stage.read("C.npy") == before);
    stage.repairs(&bytes);
}

/// In dozens of tiles, one bit each.
#[test]
fn a_killed_repair_goes_on_and_makes_no_byte_worse() {
    let stage = Stage::with_inputs("1800x600", "600x1800", "");
    let (bytes, grid) = made(&stage, MULTIPLY);
    assert!(
        grid.n_tiles() >= 20,
        "{} tiles are too few for this test",
        grid.n_tiles()
    );
    let firsts = (0..grid.n_tiles()).map(|task| {
        let tile = grid.tile(TaskIdx(task));
        offset(&grid, tile.rows.start, tile.cols.start)
    });
    let firsts: Vec<usize> = firsts.collect();
    firsts.iter().for_each(|at| stage.flip(&bytes, 8 * at));
    let damaged = |stage: &Stage| {
        let file = fs::File::open(stage.path("C.npy")).unwrap();
        let is_damaged = |at: &&usize| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, **at as u64).unwrap();
            byte[0] != bytes[**at]
        };
        firsts.iter().filter(is_damaged).count() as u64
    };
    let before = stage.read("C.npy");
    let mut n_left = grid.n_tiles();
    for _ in 0..3 {
        let n_before = n_left;
        let mut running = stage.start("repair C.npy --memory 15MiB");
        running.wait_until("a tile is repaired", || damaged(&stage) < n_before);
        assert!(running.kill(), "the kill came after the end");
        let now = stage.read("C.npy");
        let is_old_or_right = |(at, byte): (usize, &u8)| *byte == bytes[at] || *byte == before[at];
        assert!(
            now.iter().enumerate().all(is_old_or_right),
            "a byte is worse than before"
        );
        n_left = damaged(&stage);
        assert!(n_left < n_before && n_left > 0, "{n_left} of {n_before} are left");
        assert_eq!(stage.finds_damage()["tiles_bad"], n_left);
    }
    let report = stage.repairs(&bytes);
    assert_eq!(tiles(&report["tiles_repaired"]).len() as u64, n_left);
}

/// What is not there yet would be read as zeros.
#[test]
fn a_cut_file_is_no_matrix_until_its_repair_is_complete() {
    let stage = Stage::with_inputs("1800x600", "600x1800", "");
    let (bytes, grid) = made(&stage, MULTIPLY);
    let half = bytes.len() / 2;
    stage.write("C.npy", &bytes[..half]);
    let mut running = stage.start("repair C.npy --memory 15MiB");
    let first_missing = offset(&grid, grid.m - 1, 0);
    running.wait_until("a tile of the last rows", || {
        let mut element = [0; 8];
        let file = fs::File::open(stage.path("C.npy")).unwrap();
        let is_there = file.read_exact_at(&mut element, first_missing as u64).is_ok();
        is_there && element[..] == bytes[first_missing..][..8]
    });
    assert!(running.kill(), "the kill came after the end");
    assert!(stage.read("C.npy") != bytes, "the kill came too late");
    let output = stage.run("inspect C.npy");
    assert_eq!(
        output.status.code(),
        Some(2),
        "a half of it was taken for a matrix: {output:?}"
    );
    let json = stage.finds_damage();
    assert_eq!(json["wrong"][0], "its header is damaged", "{json}");
    let report = stage.repairs(&bytes);
    assert_eq!(report["header_repaired"], true);
}

#[test]
fn an_interrupted_repair_says_how_to_go_on() {
    let stage = Stage::with_inputs("1800x600", "600x1800", "");
    let (bytes, grid) = made(&stage, MULTIPLY);
    let half = offset(&grid, grid.m / 2, 0);
    let mut damaged = bytes.clone();
    damaged[half..].fill(0);
    stage.write("C.npy", &damaged);
    let mut running = stage.start("repair C.npy --memory 15MiB --json");
    running.wait_until("a tile", || {
        let mut element = [0; 8];
        let file = fs::File::open(stage.path("C.npy")).unwrap();
        file.read_exact_at(&mut element, half as u64).unwrap();
        element != [0; 8]
    });
    running.signal(rustix::process::Signal::INT);
    let output = running.end();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["next"], "go on with: tilework repair C.npy", "{json}");
    stage.repairs(&bytes);
}
