//! An example's program, run in a folder of its own, and killed in a round of choice.

use super::{Running, journal};
use serde_json::Value;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Makes tasks so slow that a round is seen before it is over.
const SLOW: (&str, &str) = ("TILEWORK_TEST_SLOW", "*:30ms");

/// A folder, and an example's program in it.
pub struct Program {
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Program {
    pub fn of_example(name: &str) -> Program {
        let tilework = Path::new(env!("CARGO_BIN_EXE_tilework"));
        let file = tilework.parent().unwrap().join("examples").join(name);
        assert!(
            file.exists(),
            "{} is not built: cargo build -p tilework --examples",
            file.display()
        );
        Program {
            folder: tempfile::tempdir().unwrap(),
            file,
        }
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.file);
        command
            .current_dir(self.folder.path())
            .args(line.split(' '))
            .stdin(Stdio::null());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TILEWORK_"))
        {
            command.env_remove(name);
        }
        command
    }

    pub fn start(&self, line: &str) -> Running {
        Running::start(self.command(line))
    }

    pub fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs it to its end; what it reports.
    pub fn succeed(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn refuse(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn report(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// What is left beside an output.
    pub fn kept(&self, output: &str) -> Vec<String> {
        let left = fs::read_dir(self.path(&format!("{output}.tilework"))).unwrap();
        let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// A job that is killed in each of its rounds, one after the other, leaves the bytes of one that is left alone. What that one reported.
    pub fn survives_kills_in(&self, rounds: Range<u32>, line: &str) -> Value {
        let whole = self.succeed(&format!("{line} -o whole"));
        let n_rounds = rounds.len() as u64;
        for round in rounds {
            self.kill_in_round(&format!("{line} -o killed"), "killed", round);
        }
        let rest = self.succeed(&format!("{line} -o killed"));
        let run = |report: &Value| report["tasks_run"].as_u64().unwrap();
        // All rounds before the last one were complete, and something of that.
        assert!(run(&rest) + n_rounds <= run(&whole), "{rest}, {whole}");
        assert_eq!(self.read("killed"), self.read("whole"));
        whole
    }

    /// Starts a job whose tasks are slow, and kills it when a round of it, counted from 0, has begun: in the first one after a commit.
    pub fn kill_in_round(&self, line: &str, output: &str, round: u32) {
        let beginning = self.path(&format!("{output}.tilework/round-{round:06}"));
        self.kill_when(&format!("round {round}"), line, output, || match round {
            0 => journal(&self.path(output)).is_some_and(|journal| !journal.commits.is_empty()),
            _ => beginning.exists(),
        });
    }

    /// Starts a job whose tasks are slow, and kills it when `is_so`, before its output has its name.
    pub fn kill_when(&self, what: &str, line: &str, output: &str, is_so: impl FnMut() -> bool) {
        let mut command = self.command(line);
        command.env(SLOW.0, SLOW.1);
        let mut running = Running::start(command);
        running.wait_until(what, is_so);
        assert!(running.kill(), "it ended by itself: {what}");
        assert!(!self.path(output).exists());
    }
}

/// The matrix of handwritten digits that lies beside the examples.
pub fn digits() -> String {
    beside_examples("digits.npy")
}

pub fn beside_examples(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name);
    file.canonicalize().unwrap().to_str().unwrap().to_owned()
}
