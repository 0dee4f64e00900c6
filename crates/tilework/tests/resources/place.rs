//! A folder with inputs, the undisturbed outputs of two jobs, and runs of them under limits.

use crate::common::{Running, Stage, command};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A job, without its output: what it is asked by.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    /// Of the examples, if it is not `tilework` itself.
    example: Option<&'static str>,
    pub(crate) line: &'static str,
    output: &'static str,
}

/// A product of a dozen tasks.
pub(crate) const PRODUCT: Work = Work {
    example: None,
    line: "multiply A.npy B.npy --memory 15MiB --threads 2 -o",
    output: "C.npy",
};

/// A job of a program's own, of three rounds whose tasks hand each other files.
pub(crate) const WORDS: Work = Work {
    example: Some("word_count"),
    line: "run word-count --set folder=texts --set split_bytes=40000 --set reducers=3 --threads 2 -o",
    output: "words.txt",
};

/// How what is to be done next may begin.
const WAYS: [&str; 6] = [
    "again",
    " resume ",
    "ulimit",
    "--memory",
    "make room",
    "another output",
];

impl Work {
    fn program(self) -> PathBuf {
        let tilework = Path::new(env!("CARGO_BIN_EXE_tilework"));
        let Some(example) = self.example else {
            return tilework.to_owned();
        };
        let program = tilework.parent().unwrap().join("examples").join(example);
        assert!(
            program.exists(),
            "{} is not built: cargo build -p tilework --examples",
            program.display()
        );
        program
    }
}

/// Files of one user: inputs that nobody may touch, and outputs.
pub(crate) struct Place {
    pub(crate) stage: Stage,
    undisturbed: Vec<(&'static str, Vec<u8>)>,
    inputs: Vec<(String, Vec<u8>)>,
}

impl Place {
    pub(crate) fn with(works: &[Work]) -> Place {
        Place::with_product_of("600x300", "300x600", works)
    }

    /// The same with matrices of these extents.
    pub(crate) fn with_product_of(a: &str, b: &str, works: &[Work]) -> Place {
        let stage = Stage::with_inputs(a, b, "");
        fs::create_dir(stage.path("texts")).unwrap();
        for file in 0..4_u32 {
            let words = (0..12_000_u32).map(|word| format!("w{} ", (word * word + file) % 3_001));
            fs::write(stage.path(&format!("texts/{file}")), words.collect::<String>()).unwrap();
        }
        let names = ["A.npy", "B.npy", "texts/0", "texts/1", "texts/2", "texts/3"];
        let inputs = names.map(|name| (name.to_owned(), stage.read(name)));
        let mut place = Place {
            stage,
            undisturbed: Vec::new(),
            inputs: inputs.into(),
        };
        for work in works {
            let output = place.run(*work);
            assert!(output.status.success(), "{output:?}");
            let bytes = place.stage.read(work.output);
            place.undisturbed.push((work.output, bytes));
            place.clear(*work);
        }
        place
    }

    /// The command that does the work, in this folder.
    pub(crate) fn command(&self, work: Work) -> Command {
        self.command_with(work, "")
    }

    /// The same with more options.
    pub(crate) fn command_with(&self, work: Work, options: &str) -> Command {
        let line = format!("{} {} {options}", work.line, work.output);
        let inner = command(line.trim_end());
        let mut command = Command::new(work.program());
        command.args(inner.get_args()).stdin(Stdio::null());
        for (name, _) in inner.get_envs() {
            command.env_remove(name);
        }
        // The standard library waits for itself for ever where memory for a backtrace is refused.
        command.env_remove("RUST_BACKTRACE");
        command.current_dir(self.stage.folder());
        command
    }

    pub(crate) fn run(&self, work: Work) -> Output {
        Running::start(self.command(work)).end()
    }

    /// Runs it under a limit of the shell's, such as `-n 10`.
    pub(crate) fn run_limited(&self, work: Work, limit: &str) -> Output {
        let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        Running::start(wrapped(&["sh", "-c", &script], &self.command(work))).end()
    }

    /// After a fault: nothing half-written has the output's name, and the inputs are what they were.
    pub(crate) fn is_unharmed(&self, work: Work, story: &str) {
        if let Ok(found) = fs::read(self.stage.path(work.output)) {
            assert!(
                found == *self.undisturbed(work),
                "{story}: a wrong output has its name"
            );
        }
        for (name, bytes) in &self.inputs {
            assert!(self.stage.read(name) == *bytes, "{story}: `{name}` was touched");
        }
    }

    /// Without the fault the same command ends the work, unless that was done; of the work nothing but output and journal is left.
    pub(crate) fn goes_on(&self, work: Work, story: &str) {
        if !self.stage.path(work.output).exists() {
            let again = self.run(work);
            assert!(again.status.success(), "{story}, then: {again:?}");
            let folder = self.stage.path(&format!("{}.tilework", work.output));
            let mut kept: Vec<_> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            kept.retain(|name| name != "alarms.jsonl");
            assert_eq!(kept, ["journal"], "{story}");
        }
        self.is_unharmed(work, story);
        let partial = self.stage.path(&format!("{}.partial", work.output));
        assert!(!partial.exists(), "{story}");
    }

    fn undisturbed(&self, work: Work) -> &Vec<u8> {
        let found = self.undisturbed.iter().find(|(output, _)| *output == work.output);
        &found.unwrap().1
    }

    /// Removes the output and what is beside it.
    pub(crate) fn clear(&self, work: Work) {
        for ending in ["", ".partial"] {
            let _ = fs::remove_file(self.stage.path(&format!("{}{ending}", work.output)));
        }
        let _ = fs::remove_dir_all(self.stage.path(&format!("{}.tilework", work.output)));
    }

    pub(crate) fn output(&self, work: Work) -> PathBuf {
        self.stage.path(work.output)
    }

    pub(crate) fn journal_folder(&self, work: Work) -> PathBuf {
        self.stage.path(&format!("{}.tilework", work.output))
    }

    pub(crate) fn n_committed(&self, work: Work) -> u64 {
        self.stage.n_committed(work.output)
    }
}

/// What a run said that did not end right: it ended by itself, with an exit code of ours, and says what to do.
pub(crate) fn refusal(output: &Output, story: &str) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert!(
        matches!(code, Some(2..=4)),
        "{story}: {code:?}, signal {:?}: {text}",
        output.status.signal()
    );
    assert!(
        text.contains("error: ") && !text.contains("panicked"),
        "{story}: {text}"
    );
    let next = text.split_once("\n  next: ");
    assert!(
        next.is_some_and(|(_, next)| WAYS.iter().any(|way| next.contains(way))),
        "{story}: no next step in: {text}"
    );
    text
}

/// `inner` started by another program: its words behind those of `wrapper`.
pub(crate) fn wrapped(wrapper: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(wrapper[0]);
    command
        .args(&wrapper[1..])
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(inner.get_current_dir().unwrap());
    command
}

/// Whether this process may have mounts of its own.
pub(crate) fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"])
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        println!("skipped: no user and mount namespaces here");
    }
    may
}

/// A namespace with mounts of its own, which this process keeps, and which sees everything else.
pub(crate) struct Mounts {
    keeper: Child,
}

impl Mounts {
    /// `script` makes the mounts, in `folder`.
    pub(crate) fn made_by(script: &str, folder: &Path) -> Mounts {
        let script = format!("{script} && echo made && cat >/dev/null");
        let mut keeper = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(keeper.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"made\n");
        Mounts { keeper }
    }

    /// What starts a program in there.
    pub(crate) fn entering(&self, inner: &Command) -> Command {
        let keeper = self.keeper.id().to_string();
        let folder = inner.get_current_dir().unwrap().to_str().unwrap();
        // What the folder is, is seen from within.
        let begin = ["sh", "-c", "cd \"$0\" && exec \"$@\"", folder];
        let enter = [
            "nsenter",
            "--preserve-credentials",
            "-U",
            "-m",
            "-t",
            &keeper,
            "--",
        ];
        wrapped(&[&enter[..], &begin].concat(), inner)
    }

    /// Runs a script in there, in `folder`.
    pub(crate) fn run(&self, script: &str, folder: &Path) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(folder);
        let output = self.entering(&shell).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    }

    /// A file in there, as this process reaches it.
    pub(crate) fn path(&self, inner: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.keeper.id(), inner.display()))
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
