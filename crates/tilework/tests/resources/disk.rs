//! What users are told of a disk that fails at any call: the file, the cause and the next step, by every verb that reads or writes an output.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tilework::failure::{CliError, Exit};
use tilework::product::certificate::verify_output;
use tilework::product::inputs::{InputRequest, Inputs, Paths};
use tilework::product::request::{ProductRequest, Resources, resume_request};
use tilework::product::running::{Audience, compute};
use tilework_core::driver::Assign;
use tilework_kernel::Simd;
use tilework_linalg::{Algorithm, AlgorithmChoice, Plan};
use tilework_runtime::{Observer, StopSwitch};
use tilework_store::disk::Disk;
use tilework_store::element_type::Dtype;
use tilework_store::fake_disk::FakeDisk;
use tilework_store::npy::header::format_header;

struct Nobody;

impl Audience for Nobody {
    fn on_plan(&self, _plan: &Plan, _inputs: &Inputs, _n_committed: u64) {}
    fn on_note(&self, _note: &str) {}
    fn observer(&self) -> &dyn Observer {
        &()
    }
}

fn resources() -> Resources {
    Resources {
        memory_bytes: 32 << 20,
        n_threads: 1,
        n_workers: 1,
        n_processes: 1,
        assign: Assign::Dynamic,
        simd: Simd::detect(),
    }
}

fn request() -> ProductRequest {
    ProductRequest {
        inputs: InputRequest {
            a: "/data/A.npy".into(),
            b: "/data/B.npy".into(),
            paths_are: Paths::Local,
            transpose_a: false,
            transpose_b: false,
            symmetric: false,
            dtype: None,
            alpha: 1.0,
            add: None,
        },
        output: "/data/C.npy".into(),
        resources: resources(),
        overwrite: false,
        restart: false,
        algorithm: AlgorithmChoice::Only(Algorithm::Classical),
    }
}

fn inputs() -> FakeDisk {
    let disk = FakeDisk::new(5);
    for (name, rows, cols) in [("/data/A.npy", 20_u64, 30_u64), ("/data/B.npy", 30, 10)] {
        let mut bytes = format_header(rows, cols, Dtype::F64);
        bytes.extend((0..rows * cols).flat_map(|at| (at as f64 / 7.0).to_le_bytes()));
        disk.install(name, &bytes);
    }
    disk
}

fn product(disk: &FakeDisk, request: &ProductRequest) -> Result<(), CliError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    compute(&disk, request, &StopSwitch::default(), &Nobody, Instant::now()).map(drop)
}

fn multiply(disk: &FakeDisk) -> Result<(), CliError> {
    product(disk, &request())
}

fn resume(disk: &FakeDisk) -> Result<(), CliError> {
    let request = resume_request(disk, Path::new("/data/C.npy"), resources(), Paths::Local)?;
    product(disk, &request)
}

fn verify(disk: &FakeDisk) -> Result<(), CliError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let verification = verify_output(&disk, Path::new("/data/C.npy"))?;
    assert!(
        verification.holds() && verification.certificate.is_some(),
        "{verification:?}"
    );
    Ok(())
}

/// Begun, and stopped by a disk that failed.
fn unfinished() -> FakeDisk {
    let disk = inputs();
    multiply(&disk).unwrap();
    let n_calls = disk.call_count();
    for n in (1..n_calls).rev() {
        let disk = inputs();
        disk.fail_from(n, ErrorKind::Other);
        let _ = multiply(&disk);
        disk.mend();
        if disk.contents("/data/C.npy").is_err() {
            return disk;
        }
    }
    panic!("it always had its name");
}

fn finished() -> FakeDisk {
    let disk = inputs();
    multiply(&disk).unwrap();
    disk
}

/// A verb's name, the disk before it, and the verb.
type Verb = (
    &'static str,
    fn() -> FakeDisk,
    fn(&FakeDisk) -> Result<(), CliError>,
);

#[test]
fn whatever_call_fails_users_learn_which_file_and_what_to_do() {
    let verbs: [Verb; 3] = [
        ("multiply", inputs, multiply),
        ("resume", unfinished, resume),
        ("verify", finished, verify),
    ];
    for (name, before, verb) in verbs {
        let (mut n_failed, mut n_calls) = (0, 0);
        let disk = before();
        let n_before = disk.call_count();
        verb(&disk).unwrap();
        let n_undisturbed = disk.call_count() - n_before;
        for n in 1..=n_undisturbed {
            for kind in [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::OutOfMemory] {
                let disk = before();
                disk.fail_nth(n, kind);
                let outcome = verb(&disk);
                n_calls += 1;
                let Err(error) = outcome else { continue };
                n_failed += 1;
                let story = format!("{name}, call {n} of {n_undisturbed}, {kind:?}: {}", error.message);
                assert!(error.message.contains("`/data"), "{story}");
                assert!(error.next.is_some(), "{story}");
                let is_full = kind == ErrorKind::StorageFull;
                let reads = error.message.contains("read");
                assert!(!is_full || reads || error.exit == Exit::Resources, "{story}");
                assert_ne!(error.exit, Exit::Usage, "{story}");
            }
        }
        assert!(n_failed * 10 >= n_calls * 6, "{name}: {n_failed} of {n_calls}");
    }
}
