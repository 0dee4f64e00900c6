//! Jobs as they are asked for and kept: what is accepted is a job that can be gone on with.

use crate::args::{Args, Command};
use crate::commands::run;
use crate::failure::CliError;
use crate::job::kinds::{Kind, KindOf, Spec};
use crate::job::rounds::decode;
use crate::job::task_file::{TaskFile, TaskFiles, with_named_files};
use crate::product::certificate::{Verification, verify_output};
use crate::product::inputs::Paths;
use crate::product::request::{Description, stored_inputs, stored_paths};
use crate::{Files, Job, Next, Report, TaskContext, TaskError};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilework_core::ids::{Attempt, AttemptNo, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::limits::TASKS_MAX;
use tilework_core::record::{Commit, Record, RunStart};
use tilework_store::disk::Disk;
use tilework_store::fake_disk::FakeDisk;
use tilework_store::journal::{JobFiles, SegmentWriter};
use tilework_store::matrix::MatrixSource;
use tilework_store::npy::header::{format_header, npy_len};

/// A job with a field of each sort.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Example {
    samples: u64,
    offset: i32,
    scale: f64,
    weight: f32,
    letter: char,
    is_dense: bool,
    method: Method,
    matrix: PathBuf,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    limits: BTreeMap<String, u8>,
    #[serde(default)]
    pair: (u16, i64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Method {
    Exact,
    Steps(u32),
    Within { tolerance: f64 },
}

impl Job for Example {
    const KIND: &'static str = "example";
    const VERSION: u32 = 1;
    type State = ();
    type Output = ();

    fn start(&self, _: &Files) -> Result<(), TaskError> {
        Ok(())
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.matrix.clone()]
    }

    fn tasks(&self, (): &()) -> u64 {
        1
    }

    fn run(&self, (): &(), _: u64, _: &TaskContext<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn advance(&self, (): &(), _: &mut dyn Iterator<Item = ()>) -> Result<Next<()>, TaskError> {
        Ok(Next::Done(Report::json(&())?))
    }
}

/// A spec: a file as JSON, then the lines of `--set`, after zeros.
pub(super) fn spec(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default();
    let sets = parts.flat_map(|set| ["--set", set]);
    let of_file = run::parse_spec(Path::new("spec.json"), file).unwrap_or_default();
    let Ok(args) = Args::try_parse_from(["tilework", "run", "example"].into_iter().chain(sets)) else {
        return;
    };
    let Some(Command::Run(args)) = args.command else {
        return;
    };
    let Ok(set) = run::spec(&args) else {
        return;
    };
    let kind = KindOf::<Example>::NEW;
    let Ok(spec) = kind.read(Value::Object(of_file.into_iter().chain(set).collect())) else {
        return;
    };
    // What is kept of it is the same spec.
    assert_eq!(kind.read(spec.value.clone()).as_ref(), Ok(&spec));
    let kept = serde_json::to_vec(&spec.value).expect("it was JSON");
    let again: Value = serde_json::from_slice(&kept).expect("a text of ours");
    assert_eq!(kind.read(again).as_ref(), Ok(&spec));
    let same = |path: &Path| Ok(path.to_str().unwrap_or_default().to_owned());
    assert_eq!(spec.with_inputs_named(&same).as_ref(), Ok(&spec.value));
    let Spec { inputs, .. } = spec;
    assert_eq!(inputs.len(), 1);
}

/// A product as its journal describes it, then, after a zero, the tasks of its commits. Its tiles can be counted and cut, however many it
/// claims, and `verify` says what is wrong with it.
pub(super) fn product(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let text = parts.next().unwrap_or_default();
    let Ok(description) = Description::from_text(text) else {
        return;
    };
    let again = Description::from_text(&description.to_text());
    assert_eq!(again.ok().as_ref(), Some(&description));
    for paths_are in [Paths::Local, Paths::Named] {
        let _ = stored_paths(&description, Path::new("/srv/C.npy"), paths_are);
        let _ = stored_inputs(&description, Path::new("/srv/C.npy"), paths_are);
    }
    let grid = description.plan.grid;
    let n_tiles = grid.n_tiles();
    assert!(n_tiles <= TASKS_MAX);
    let _ = (
        grid.n_widths_max(),
        grid.sum_of_tile_rows(),
        grid.sum_of_tile_cols(),
    );
    let _ = (grid.tile_rows_max(), grid.tile_cols_max());
    let some = [0, n_tiles / 2, n_tiles.saturating_sub(1)];
    for task in some.into_iter().filter(|task| *task < n_tiles).map(TaskIdx) {
        let tile = grid.tile(task);
        assert!(!tile.rows.is_empty() && tile.rows.end <= grid.m);
        assert!(!tile.cols.is_empty() && tile.cols.end <= grid.n);
        assert!(grid.tasks_of_row(tile.rows.start).any(|of_row| of_row == task));
    }
    let commits = parts.next().unwrap_or_default();
    // Each tile that is not committed is named: few are enough.
    if n_tiles < 1_000 {
        let _ = verified(description, commits);
    }
}

/// What `verify` says of a small product with this description and commits of these tasks.
pub(super) fn verified(mut description: Description, tasks: &[u8]) -> Result<Verification, CliError> {
    let memory = FakeDisk::new(1);
    let (m, n) = (description.plan.grid.m, description.plan.grid.n);
    // A file of another shape is refused before anything else is looked at.
    let (m, n) = if m.saturating_mul(n) <= 64 { (m, n) } else { (2, 2) };
    for (path, rows, cols) in [
        ("/A.npy", m, 2),
        ("/B.npy", 2, n),
        ("/D.npy", m, n),
        ("/C.npy", m, n),
    ] {
        let dtype = description.spec.dtype;
        let mut file = format_header(rows, cols, dtype);
        file.resize(npy_len(rows, cols, dtype) as usize, 0);
        memory.install(path, &file);
    }
    let disk: Arc<dyn Disk> = Arc::new(memory);
    let (c, names) = (Path::new("/C.npy"), ["/A.npy", "/B.npy", "/D.npy"]);
    let identity = |name: &str| {
        let source = MatrixSource::open(&*disk, Path::new(name)).expect("a file of ours");
        source.identity().expect("the disk has no faults")
    };
    let n_inputs = description.inputs.len().min(names.len());
    description.inputs = names[..n_inputs].iter().map(|name| identity(name)).collect();
    let files = JobFiles::beside(c);
    disk.create_dir(&files.folder()).expect("the disk has no faults");
    let run = RunStart {
        job: description.id(),
        epoch: RunEpoch(1),
        started_unix_ms: 0,
        pid: 1,
    };
    let mut segment =
        SegmentWriter::create(&*disk, &files, &description.to_text(), &run).expect("it is the first");
    let commits = tasks.iter().map(|task| {
        let task = if *task == u8::MAX {
            u64::MAX
        } else {
            u64::from(*task)
        };
        Record::Commit(Commit {
            attempt: Attempt {
                epoch: run.epoch,
                round: RoundIdx(0),
                task: TaskIdx(task),
                attempt: AttemptNo(0),
            },
            worker: WorkerIdx(0),
            checked: true,
            crc32c: 0,
            residual: 0.0,
            residual_bound: 0.0,
            seconds: 0.0,
            output: Vec::new(),
        })
    });
    let records: Vec<Record> = commits.chain([Record::Done(b"{}".to_vec())]).collect();
    segment.append(&records).expect("the disk has no faults");
    verify_output(&disk, c)
}

/// A task's output or a round's state, as a commit has it.
pub(super) fn task_output(input: &[u8]) {
    let _ = decode::<(Vec<f64>, String, BTreeMap<String, Vec<u8>>)>("an output", input);
    let (files, named) = with_named_files(|| decode::<Vec<TaskFile>>("an output", input));
    let Ok(files) = files else {
        return;
    };
    assert!(named.len() <= files.len());
    let again = rmp_serde::to_vec(&files).expect("it becomes MessagePack");
    assert_eq!(
        decode::<Vec<TaskFile>>("an output", &again).ok().as_ref(),
        Some(&files)
    );
    let disk = FakeDisk::new(1);
    let job = JobFiles::beside(Path::new("/c"));
    disk.install(job.task_files().join("000001-r000000-t0-a0-0"), b"12345678");
    let on_disk = TaskFiles::of(Arc::new(disk), job);
    for file in &files {
        let _ = on_disk.is_intact(file);
        for section in 0..file.n_sections() {
            if let Ok(mut reader) = on_disk.open_section(file, section) {
                let read = io::copy(&mut reader, &mut io::sink());
                assert!(
                    read.is_err() || read.is_ok_and(|bytes| bytes <= 8),
                    "no more than there is"
                );
            }
        }
    }
}
