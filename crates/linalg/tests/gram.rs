//! A matrix times its own transpose: the bits of a general product, in both halves, from half the work.

mod common;

use common::*;
use proptest::prelude::*;
use std::path::Path;
use tilework_core::failure::JobEnd;
use tilework_core::ids::RunEpoch;
use tilework_kernel::Simd;
use tilework_linalg::Number;
use tilework_linalg::tiles::Grid;
use tilework_store::disk::Disk;
use tilework_store::fake_disk::{CrashMode, FakeDisk};
use tilework_store::journal::{JobFiles, recover};

fn symmetric(setup: &Setup) -> Setup {
    Setup {
        symmetric: true,
        ..setup.clone()
    }
}

/// A·A' of an n x k matrix, which may be stored transposed.
fn gram<T: Number>(a: &[T], n: usize, k: usize, setup: &Setup) -> Vec<T> {
    let disk = FakeDisk::new(1);
    if setup.transpose.0 {
        install(&disk, A, k, n, &transposed(a, n, k));
    } else {
        install(&disk, A, n, k, a);
    }
    let report = multiply_done::<T>(&disk, &symmetric(setup));
    assert_eq!(report.n_retries, 0);
    assert_plain_rows_are_the_outputs::<T>(&disk, &symmetric(setup));
    output(&disk)
}

/// A·A' by the definition, NaNs in their one pattern.
fn expected<T: Number>(a: &[T], n: usize, k: usize) -> Vec<u64> {
    let nan = f64::NAN.to_bits();
    let product = reference(a, &transposed(a, n, k), n, k, n);
    let canonical = |bits: u64| if f64::from_bits(bits).is_nan() { nan } else { bits };
    bits(&product).into_iter().map(canonical).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_tiling_and_order_gives_the_bits_of_the_general_product(
        n in 1usize..150, k in 0usize..1200, p in 1u64..7, q in 1u64..7, stored_transposed: bool, seed in 1u64..99,
    ) {
        let a = numbers::<f64>(n * k, seed);
        let setup = Setup { transpose: (stored_transposed, false), strips: Some((p, q)), ..Setup::default() };
        prop_assert_eq!(bits(&gram(&a, n, k, &setup)), expected(&a, n, k));
    }

    #[test]
    fn f32_gives_the_bits_of_the_general_product(n in 1usize..90, k in 1usize..700, p in 1u64..5, q in 1u64..5, seed in 1u64..99) {
        let a = numbers::<f32>(n * k, seed);
        let setup = Setup { strips: Some((p, q)), ..Setup::default() };
        prop_assert_eq!(bits(&gram(&a, n, k, &setup)), expected(&a, n, k));
    }
}

#[test]
fn bits_do_not_depend_on_threads_workers_memory_or_instruction_set() {
    let (n, k) = (301, 1111);
    let a = numbers::<f64>(n * k, 5);
    let expected = expected(&a, n, k);
    let mut setups = Vec::new();
    for simd in Simd::available() {
        setups.push(Setup {
            simd,
            ..Setup::default()
        });
    }
    for n_threads in [1, 2, 3] {
        for memory_bytes in [18 << 20, 32 << 20, 1 << 30] {
            for strips in [None, Some((7, 1)), Some((1, 4)), Some((9, 3))] {
                setups.push(Setup {
                    n_threads,
                    memory_bytes,
                    strips,
                    ..Setup::default()
                });
            }
        }
    }
    setups.push(Setup {
        n_workers: 3,
        n_threads: 3,
        strips: Some((9, 2)),
        ..Setup::default()
    });
    for mut setup in setups {
        for is_transposed in [false, true] {
            setup.transpose.0 = is_transposed;
            assert_eq!(bits(&gram(&a, n, k, &setup)), expected);
        }
    }
}

/// Tiles of different widths share packed columns not only where the plan says so, but also where a slab holds all depth: the check's
/// vectors were too short for them.
#[test]
fn r1_a_slab_of_all_depth_serves_tiles_of_different_widths() {
    let (n, k) = (145, 1025);
    let a = numbers::<f64>(n * k, 1);
    let setup = Setup {
        strips: Some((2, 2)),
        ..Setup::default()
    };
    assert_eq!(bits(&gram(&a, n, k, &setup)), expected(&a, n, k));
}

#[test]
fn empty_products_are_valid_and_an_empty_sum_is_zero() {
    assert!(gram::<f64>(&[], 0, 3, &Setup::default()).is_empty());
    assert!(gram::<f64>(&[], 0, 0, &Setup::default()).is_empty());
    for strips in [None, Some((2, 2))] {
        let setup = Setup {
            strips,
            ..Setup::default()
        };
        assert_eq!(gram::<f64>(&[], 3, 0, &setup), [0.0; 9]);
    }
}

#[test]
fn infinities_nans_and_overflow_are_mirrored_in_one_pattern() {
    let (n, k) = (131, 300);
    let mut a = numbers::<f64>(n * k, 8);
    a[3 * k + 7] = f64::from_bits(0xfff8_0000_0000_1234);
    a[100 * k + 7] = f64::NAN;
    a[50 * k + 299] = f64::INFINITY;
    a[60 * k + 11] = f64::NEG_INFINITY;
    a[61 * k + 11] = 0.0;
    a[62 * k + 299] = f64::INFINITY;
    for p in 0..k {
        a[90 * k + p] = 1e200;
    }
    for strips in [(1, 1), (3, 1), (2, 2), (5, 3), (1, 3)] {
        let setup = Setup {
            strips: Some(strips),
            ..Setup::default()
        };
        let c = gram(&a, n, k, &setup);
        assert_eq!(bits(&c), expected(&a, n, k), "{strips:?}");
        assert_eq!(bits(&c), bits(&transposed(&c, n, n)), "{strips:?}");
    }
}

#[test]
fn huge_and_tiny_numbers_pass_their_check() {
    let (n, k) = (70, 300);
    for scale in [1e-310, 1e-160, 1e150, 1e160] {
        let a: Vec<f64> = numbers::<f64>(n * k, 3).into_iter().map(|x| x * scale).collect();
        let setup = Setup {
            strips: Some((2, 1)),
            ..Setup::default()
        };
        assert_eq!(bits(&gram(&a, n, k, &setup)), expected(&a, n, k), "{scale}");
    }
}

const N: usize = 160;
const K: usize = 300;

/// Five strips of rows, two of columns: tiles on, across and below the diagonal.
fn setup() -> Setup {
    symmetric(&Setup {
        strips: Some((5, 2)),
        n_threads: 1,
        memory_bytes: 32 << 20,
        ..Setup::default()
    })
}

fn grid() -> Grid {
    Grid {
        m: N as u64,
        n: N as u64,
        n_row_strips: 5,
        n_col_strips: 2,
        symmetric: true,
    }
}

fn disk_with_input(seed: u64) -> FakeDisk {
    let disk = FakeDisk::new(seed);
    install(&disk, A, N, K, &numbers::<f64>(N * K, 1));
    disk
}

#[test]
fn a_crash_at_any_sync_point_loses_no_acknowledged_commit() {
    let expected = expected(&numbers::<f64>(N * K, 1), N, K);
    let undisturbed = disk_with_input(0);
    multiply_done::<f64>(&undisturbed, &setup());
    let n_syncs = undisturbed.sync_count();
    let mut n_with_some_commits = 0;
    for n in 1..=n_syncs {
        for (mode, seed) in [(CrashMode::Vanish, 0), (CrashMode::Keep, 0), (CrashMode::Tear, 1)] {
            let disk = disk_with_input(seed);
            disk.crash_after_syncs(n);
            let log = Log::default();
            let _ = multiply::<f64>(&disk, &setup(), &log);
            let acknowledged = log.committed.into_inner().unwrap();
            n_with_some_commits += usize::from((1..grid().n_tiles() as usize).contains(&acknowledged.len()));
            let after = disk.after_crash(mode);
            let log = Log::default();
            match multiply::<f64>(&after, &setup(), &log) {
                Ok(report) => assert_eq!(report.end, JobEnd::Done, "sync {n}, {mode:?}"),
                Err(text) => assert_eq!(text, "finished", "sync {n}, {mode:?}"),
            }
            let again = log.started.into_inner().unwrap();
            assert!(
                again.iter().all(|task| !acknowledged.contains(task)),
                "sync {n}, {mode:?}"
            );
            assert_eq!(bits(&output::<f64>(&after)), expected, "sync {n}, {mode:?}");
        }
    }
    assert!(
        n_with_some_commits >= 8,
        "crashes fell between commits: {n_with_some_commits}"
    );
}

/// A disk on which a run stopped with every task committed and nothing renamed.
fn disk_before_the_rename() -> FakeDisk {
    for n in 1..1000 {
        let disk = disk_with_input(0);
        disk.crash_after_syncs(n);
        let log = Log::default();
        let _ = multiply::<f64>(&disk, &setup(), &log);
        if log.committed.lock().unwrap().len() as u64 == grid().n_tiles() {
            return disk.after_crash(CrashMode::Vanish);
        }
    }
    panic!("no sync between the last commit and the rename");
}

#[test]
fn damage_in_either_half_is_found_before_the_rename_and_computed_again() {
    let disk = disk_before_the_rename();
    let files = JobFiles::beside(Path::new(C));
    let partial = disk.contents(files.partial()).unwrap();
    let segment = files.segment(RunEpoch(1));
    let journal = disk.contents(&segment).unwrap();
    assert_eq!(
        recover(&disk, &files).unwrap().unwrap().0.commits.len() as u64,
        grid().n_tiles()
    );
    let header_len = partial.len() - N * N * 8;
    let expected = expected(&numbers::<f64>(N * K, 1), N, K);
    for (row, col) in [
        (0, 159),
        (3, 40),
        (10, 10),
        (40, 3),
        (70, 90),
        (95, 150),
        (150, 95),
        (159, 0),
    ] {
        let mut damaged = partial.clone();
        // The lowest bit: only a comparison of bytes can see it.
        damaged[header_len + (row * N + col) * 8] ^= 1;
        let copy = disk_with_input(0);
        copy.install(files.partial(), &damaged);
        copy.install(&segment, &journal);
        for name in disk.read_dir(&files.folder()).unwrap() {
            let path = files.folder().join(name);
            copy.install(&path, &disk.contents(&path).unwrap());
        }
        let log = Log::default();
        let report = multiply::<f64>(&copy, &setup(), &log).unwrap();
        assert_eq!(
            (report.end, report.n_retries),
            (JobEnd::Done, 1),
            "({row}, {col})"
        );
        let started = log.started.into_inner().unwrap();
        let tile = grid().tile(started[0]);
        let (low, high) = (row.min(col) as u64, row.max(col) as u64);
        assert!(started.len() == 1 && tile.rows.contains(&high) && tile.cols.contains(&low));
        assert_eq!(bits(&output::<f64>(&copy)), expected, "({row}, {col})");
    }
}
