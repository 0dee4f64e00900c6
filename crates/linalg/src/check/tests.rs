//! The check against results that are right, and against results that were changed.

use super::*;
use crate::matvec::add_matvec;
use std::path::Path;
use std::sync::Arc;
use tilework_kernel::MatRef;
use tilework_store::fake_disk::FakeDisk;
use tilework_store::matrix::MatrixSource;
use tilework_store::npy::header::format_header;

const M: usize = 24;
const K: usize = 200;
const N: usize = 33;

/// Rows of the upper half, where Strassen's bounds are used: the lower one has fewer.
const TOP_ROWS: usize = 16;

struct Checked {
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
    /// Whose bounds are used; the products are always classical, which are within both.
    algorithm: Algorithm,
}

impl Checked {
    fn new(seed: u64) -> Checked {
        let mut values = vec![0.0; M * K + K * N];
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        random_vector(bytes, &mut values);
        let (a, b) = values.split_at(M * K);
        let mut c = vec![0.0; M * N];
        for i in 0..M {
            for j in 0..N {
                c[i * N + j] = (0..K).fold(0.0, |sum, p| f64::mul_add(a[i * K + p], b[p * N + j], sum));
            }
        }
        Checked {
            a: a.to_vec(),
            b: b.to_vec(),
            c,
            algorithm: Algorithm::Classical,
        }
    }

    fn model(&self) -> ErrorModel {
        match self.algorithm {
            Algorithm::Classical => self.classical_model(),
            Algorithm::Strassen => self.classical_model().strassen::<f64>(TOP_ROWS),
        }
    }

    fn classical_model(&self) -> ErrorModel {
        let operand = |rows: usize, cols: usize, values: &[f64]| {
            let disk = FakeDisk::new(0);
            let mut bytes = format_header(rows as u64, cols as u64, tilework_store::element_type::Dtype::F64);
            bytes.extend_from_slice(bytemuck::cast_slice(values));
            disk.install(Path::new("/X.npy"), &bytes);
            Operand::new(
                Arc::new(MatrixSource::open(&disk, Path::new("/X.npy")).unwrap()),
                false,
            )
        };
        ErrorModel::new::<f64>(&operand(M, K, &self.a), &operand(K, N, &self.b), N, 1, 1)
    }

    /// The verdict on `c`, with the check's x from `seed`.
    fn verdict(&self, c: &[f64], seed: u8) -> (Verdict, u32) {
        let mut check = TileCheck::new(M, N, K, 1);
        check.start_columns(self.model(), [seed; 32]);
        check.start_tile(self.model());
        self.stream(check.split(M));
        check.finish_tile(&mut c.to_vec(), N, N, 5)
    }

    /// What the pipeline does with the check: B·x, then A·(B·x) by bands.
    fn stream(&self, mut parts: CheckParts<'_>) {
        parts.y.magnitude.fill(parts.y_magnitude_start);
        add_matvec(MatRef::row_major(&self.b, K, N), parts.x, parts.y.part(0..K));
        if self.algorithm == Algorithm::Strassen {
            share_between_halves(parts.y.magnitude, K / 2);
        }
        let y = Weighted {
            value: parts.y.value,
            magnitude: parts.y.magnitude,
        };
        for (i, sums) in parts.rows.chunks(7).enumerate() {
            let rows = i * 7..(i * 7 + 7).min(M);
            add_matvec(MatRef::row_major(&self.a, M, K).sub(rows, 0..K), y, sums);
        }
    }

    /// For each row, the largest change of one element that may go unseen: twice the bound, by the smallest |x|. With Strassen's
    /// bounds it is what docs/numerics.md promises, not what the model says of itself.
    fn detection_limits(&self) -> Vec<f64> {
        let mut b_sums: Vec<f64> = self
            .b
            .chunks(N)
            .map(|row| row.iter().map(|b| b.abs()).sum())
            .collect();
        let mut coefficient = self.classical_model().coefficient;
        if self.algorithm == Algorithm::Strassen {
            coefficient += 1.05 * 6.0 * (K + 3 + 4) as f64 * f64::UNIT_ROUNDOFF;
            b_sums = (0..K).map(|p| b_sums[p] + b_sums[(p + K / 2) % K]).collect();
        }
        let magnitude = |row: &[f64]| row.iter().zip(&b_sums).map(|(a, b)| a.abs() * b).sum::<f64>();
        let magnitudes: Vec<f64> = self.a.chunks(K).map(magnitude).collect();
        let twin_of = |row: usize| match self.algorithm {
            Algorithm::Classical => None,
            Algorithm::Strassen if row < TOP_ROWS => magnitudes.get(row + TOP_ROWS),
            Algorithm::Strassen => magnitudes.get(row - TOP_ROWS),
        };
        (0..M)
            .map(|row| 4.0 * coefficient * (magnitudes[row] + twin_of(row).copied().unwrap_or(0.0)))
            .collect()
    }

    fn every_changed_element_is_seen(&self) {
        let limits = self.detection_limits();
        for row in 0..M {
            for col in 0..N {
                let mut c = self.c.clone();
                c[row * N + col] += limits[row] * if col % 2 == 0 { 1.0 } else { -1.0 };
                let (verdict, _) = self.verdict(&c, col as u8);
                assert!(
                    matches!(verdict, Verdict::Failed { row: found, .. } if found == row),
                    "{row} {col}: {verdict:?}"
                );
            }
        }
    }
}

#[test]
fn right_results_pass_with_room_to_spare() {
    for seed in 0..50 {
        let checked = Checked::new(seed);
        let (verdict, _) = checked.verdict(&checked.c, seed as u8);
        let Verdict::Passed {
            residual_max,
            suspects,
        } = verdict
        else {
            panic!("{verdict:?}")
        };
        assert!(suspects.is_empty(), "{suspects:?}");
        assert!(
            residual_max < checked.model().coefficient / 10.0,
            "the bound is deterministic, not typical"
        );
    }
}

#[test]
fn any_changed_element_above_the_detection_limit_is_seen() {
    Checked::new(1).every_changed_element_is_seen();
}

#[test]
fn any_changed_element_above_the_detection_limit_is_seen_by_strassens_bounds() {
    let mut checked = Checked::new(1);
    checked.algorithm = Algorithm::Strassen;
    // Twins of very different magnitude.
    checked.a[3 * K..4 * K].iter_mut().for_each(|a| *a *= 1024.0);
    checked.c[3 * N..4 * N].iter_mut().for_each(|c| *c *= 1024.0);
    checked.every_changed_element_is_seen();
}

#[test]
fn a_changed_element_far_below_the_detection_limit_makes_its_row_a_suspect() {
    let checked = Checked::new(1);
    let limits = checked.detection_limits();
    for row in 0..M {
        for col in 0..N {
            let mut c = checked.c.clone();
            c[row * N + col] += limits[row] / 50.0;
            let (verdict, _) = checked.verdict(&c, col as u8);
            let is_suspect = matches!(&verdict, Verdict::Passed { suspects, .. } if suspects[..] == [row]);
            assert!(is_suspect, "{row} {col}: {verdict:?}");
        }
    }
}

#[test]
fn rows_stand_out_by_what_is_usual_in_their_tile() {
    let usual = 1e-9..=1e-7;
    let of = |residuals: &[f64]| suspects(residuals, usual.clone(), 0.0);
    assert!(of(&[]).is_empty());
    assert!(of(&[0.0; 9]).is_empty());
    // Most rows are exact: no more is known than what is usual.
    assert_eq!(of(&[0.0, 0.0, 9e-10, 0.0, 2e-9, 0.0, 0.0, 0.0, 0.0]), [4]);
    // All of them are uneven, and then one is more so.
    let mut uneven = [1e-9, 3e-9, 5e-9, 9e-9, 4e-9, 6e-9, 2e-9, 8e-9, 7e-9];
    assert!(of(&uneven).is_empty());
    uneven[3] = 9e-8;
    assert_eq!(of(&uneven), [3]);
    // Most are wrong: only so many are looked at, the largest first.
    let wrong = [2e-7, 1e-10, 3e-7, 4e-7, 5e-7, 6e-7, 7e-7, 9e-7, 8e-7];
    assert_eq!(of(&wrong), [7, 8, 6, 5]);
    assert_eq!(of(&[2e-7]), [0]);
    assert!(suspects(&[2e-7, 3e-7], usual.clone(), 3e-7).is_empty());
    assert_eq!(suspects(&[2e-7, 4e-7], usual.clone(), 3e-7), [1]);
}

#[test]
fn flipped_signs_exponents_and_high_bits_are_seen() {
    let checked = Checked::new(2);
    let limits = checked.detection_limits();
    for at in (0..M * N).step_by(5) {
        for bit in 36..64 {
            let mut c = checked.c.clone();
            let changed = f64::from_bits(c[at].to_bits() ^ 1 << bit);
            if (changed - c[at]).abs() < limits[at / N] {
                continue;
            }
            c[at] = changed;
            let (verdict, _) = checked.verdict(&c, bit as u8);
            assert!(
                !matches!(verdict, Verdict::Passed { .. }),
                "element {at}, bit {bit}"
            );
        }
    }
}

#[test]
fn a_wrong_row_a_swap_and_a_cancelling_pair_are_seen() {
    let checked = Checked::new(3);
    type Change = (&'static str, fn(&mut [f64]));
    let changes: [Change; 4] = [
        ("row of another", |c| c.copy_within(0..N, N)),
        ("two rows swapped", |c| (0..N).for_each(|j| c.swap(j, N + j))),
        ("two columns swapped", |c| {
            (0..M).for_each(|i| c.swap(i * N, i * N + 1))
        }),
        ("a pair that cancels in the row's sum", |c| {
            c[5] += 1e-3;
            c[6] -= 1e-3;
        }),
    ];
    for (name, change) in changes {
        let mut c = checked.c.clone();
        change(&mut c);
        for seed in 0..20 {
            assert!(
                matches!(checked.verdict(&c, seed).0, Verdict::Failed { .. }),
                "{name}"
            );
        }
    }
}

#[test]
fn a_nan_is_never_passed_and_is_written_in_one_pattern() {
    let checked = Checked::new(4);
    let mut c = checked.c.clone();
    c[7] = f64::from_bits(0xfff8_0000_0000_1234);
    assert_eq!(checked.verdict(&c, 0).0, Verdict::NotFinite);
    canonicalize_nans(&mut c);
    assert_eq!(c[7].to_bits(), f64::NAN.to_bits());
}

#[test]
fn the_crc_is_that_of_the_rows_without_padding() {
    let checked = Checked::new(5);
    assert_eq!(
        checked.verdict(&checked.c, 0).1,
        crc32c::crc32c(bytemuck::cast_slice(&checked.c))
    );
}
