//! What the tests speak of: a folder of matrices, a command in it, and what it answered.

use assert_cmd::Command;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use tilework_core::ids::{Attempt, AttemptNo, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::record::{Commit, Record, RunStart};
use tilework_runtime::JobDescription;
use tilework_store::disk::RealDisk;
use tilework_store::journal::recover::job_id;
use tilework_store::journal::{JobFiles, SegmentWriter};
use tilework_store::matrix::MatrixSource;

/// A temporary working directory of the program.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Names in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = names
            .map(|name| name.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A small matrix as text.
    pub(crate) fn text(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The program in this folder, without the caller's own settings.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilework"));
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.to_string_lossy().starts_with("TILEWORK_")) {
            command.env_remove(name);
        }
        command.current_dir(self.0.path()).args(line.split_whitespace());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Answer {
        Answer::of(line, self.command(line).output().unwrap())
    }

    /// Runs a command that has to succeed.
    pub(crate) fn done(&self, line: &str) -> Answer {
        let answer = self.run(line);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer
    }

    /// An output of a job of 4 tasks that was killed after 1, with inputs `A.npy` and `B.npy` in this folder.
    pub(crate) fn unfinished(&self, name: &str) -> JobFiles {
        self.done("generate integers 6x6 -o A.npy --overwrite");
        self.done("generate integers 6x6 -o B.npy --seed 2 --overwrite");
        let description = JobDescription {
            format_version: 1,
            kind: "multiply".to_owned(),
            version: 1,
            numerics_version: 1,
            spec: json!({ "dtype": "f64", "transpose_a": false, "transpose_b": false }),
            plan: json!({ "grid": { "m": 6, "n": 6, "n_row_strips": 2, "n_col_strips": 2 } }),
            inputs: ["A.npy", "B.npy"]
                .map(|name| {
                    MatrixSource::open(&RealDisk, &self.path(name))
                        .unwrap()
                        .identity()
                        .unwrap()
                })
                .to_vec(),
            output: None,
        };
        let (text, files) = (description.to_text(), JobFiles::beside(&self.path(name)));
        fs::create_dir(files.folder()).unwrap();
        fs::write(files.partial(), [0; 416]).unwrap();
        let run = RunStart {
            job: job_id(&text),
            epoch: RunEpoch(1),
            started_unix_ms: 1_750_000_000_000,
            pid: 4711,
        };
        let mut segment = SegmentWriter::create(&RealDisk, &files, &text, &run).unwrap();
        segment.append(&[Record::Commit(commit())]).unwrap();
        segment.sync().unwrap();
        files
    }
}

fn commit() -> Commit {
    Commit {
        attempt: Attempt {
            epoch: RunEpoch(1),
            round: RoundIdx(0),
            task: TaskIdx(2),
            attempt: AttemptNo(0),
        },
        worker: WorkerIdx(0),
        checked: true,
        crc32c: 0,
        residual: 1e-16,
        residual_bound: 1e-14,
        seconds: 0.1,
        output: Vec::new(),
    }
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    #[expect(dead_code, reason = "shown where an assertion fails")]
    line: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    pub(crate) fn of(line: &str, output: Output) -> Answer {
        Answer {
            line: line.to_owned(),
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The one JSON object on the one line of stdout.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.matches('\n').count(), 1, "one line: {self:?}");
        assert!(
            self.stdout.starts_with('{') && self.stdout.ends_with("}\n"),
            "{self:?}"
        );
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Asserts a failure for people: the exit code, nothing on stdout, and these words on stderr.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in {self:?}");
        }
    }
}

/// The names in `path` are those of a folder that nothing was written to.
pub(crate) fn assert_empty(path: &Path) {
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
}
