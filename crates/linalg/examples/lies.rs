//! How many lies does the check catch? Tells thousands of each kind, for both types, several depths and kinds of matrices, and
//! prints one JSON object per line: a kind of lie, or what became of every bit of an element.
//!
//! ```text
//! cargo run --release -p tilework-linalg --features test-lies --example lies -- [PART ...]
//! ```
//! A part is `kinds:DTYPE:DEPTH` or `bits:DTYPE`; all of them by default. Ends with exit code 1 if a lie above the published detection limit
//! passed that could not. `bench/lies.py` keeps the result and draws it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its result")]

#[path = "../tests/lies/campaign.rs"]
mod campaign;

use campaign::{Campaign, Elements, Tally};
use std::process::ExitCode;
use std::time::Instant;
use tilework_linalg::Number;
use tilework_linalg::lies::Lie;

/// Lies of each kind.
const N: u64 = 1000;
/// Flips of each bit.
const N_FLIPS: u64 = 100;
/// Rows and columns of the tiles.
const TILE: (usize, usize) = (48, 96);
/// The same where they are so deep that most of the time goes into reading them.
const DEEP: (usize, usize) = (16, 48);
/// Tiles of a usual width, with fewer rows.
const WIDE: (usize, usize) = (16, 2048);
const DEPTHS: [usize; 4] = [64, 512, 4096, 32768];
/// Chance of a change of several elements at this many limits: at most one in a million.
const SEVERAL: f64 = 5e5;

fn main() -> ExitCode {
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    if parts.is_empty() {
        for dtype in ["f64", "f32"] {
            parts.extend(DEPTHS.map(|k| format!("kinds:{dtype}:{k}")));
            parts.push(format!("bits:{dtype}"));
        }
    }
    let mut held = true;
    for part in &parts {
        let started = Instant::now();
        held &= match part.split(':').collect::<Vec<_>>()[..] {
            ["kinds", "f64", k] => all_kinds::<f64>(k.parse().expect("a depth")),
            ["kinds", "f32", k] => all_kinds::<f32>(k.parse().expect("a depth")),
            ["bits", "f64"] => all_bits::<f64>(),
            ["bits", "f32"] => all_bits::<f32>(),
            _ => panic!("`{part}` is neither kinds:DTYPE:DEPTH nor bits:DTYPE"),
        };
        eprintln!("{part}: {:.0} s", started.elapsed().as_secs_f64());
    }
    if held {
        ExitCode::SUCCESS
    } else {
        eprintln!("a lie above the detection limit passed");
        ExitCode::FAILURE
    }
}

fn all_kinds<T: Number>(k: usize) -> bool {
    let mut held = true;
    let (rows, cols) = if k > 4096 { DEEP } else { TILE };
    for elements in [Elements::Normal, Elements::Positive] {
        let mut campaign = Campaign::<T>::new((rows, cols, k), elements, k as u64);
        for (name, lie) in Lie::ALL {
            if !matches!(lie, Lie::Pair(_)) {
                let tally = campaign.tell_many(lie, N, 10 * N);
                held &= told::<T>(name, k, elements, &tally);
            }
        }
        for (name, factors) in [
            ("pair, 1 to 10 limits", (1.0, 10.0)),
            ("pair, 10 to 1000 limits", (10.0, 1000.0)),
            ("pair, from 500000 limits", (SEVERAL, 10.0 * SEVERAL)),
        ] {
            let tally = campaign.tell_pairs(factors, N);
            held &= told::<T>(name, k, elements, &tally);
        }
    }
    held
}

fn told<T: Number>(name: &str, k: usize, elements: Elements, tally: &Tally) -> bool {
    let Tally {
        n_above,
        n_above_by_bound,
        n_above_caught,
        n_passing_expected,
        n_below,
        n_below_caught,
        passed_max,
    } = tally;
    println!(
        r#"{{"dtype": "{}", "k": {k}, "elements": "{elements:?}", "lie": "{name}", "above": {n_above}, "above_by_bound": {n_above_by_bound}, "above_caught": {n_above_caught}, "passing_expected_at_most": {n_passing_expected:.3e}, "below": {n_below}, "below_caught": {n_below_caught}, "passed_max_of_row_rounding": {passed_max:.3}}}"#,
        T::DTYPE
    );
    tally.holds()
}

fn all_bits<T: Number>() -> bool {
    let mut held = true;
    for ((rows, cols), k) in [(TILE, 64), (TILE, 4096), (WIDE, 4096)] {
        let mut campaign = Campaign::<T>::new((rows, cols, k), Elements::Normal, k as u64);
        let bits: Vec<String> = (0..8 * size_of::<T>() as u32)
            .map(|bit| {
                let mut tally = Tally::default();
                (0..N_FLIPS).for_each(|_| campaign.tell(Lie::Bit(bit), &mut tally));
                held &= tally.holds();
                let n_told = tally.n_above + tally.n_below;
                let n_caught = tally.n_above_caught + tally.n_below_caught;
                format!(
                    r#"{{"bit": {bit}, "lies": {n_told}, "caught": {n_caught}, "above": {}}}"#,
                    tally.n_above
                )
            })
            .collect();
        println!(
            r#"{{"dtype": "{}", "k": {k}, "rows": {rows}, "columns": {cols}, "limit": {:e}, "bits": [{}]}}"#,
            T::DTYPE,
            campaign.limit_median(),
            bits.join(", ")
        );
    }
    held
}
