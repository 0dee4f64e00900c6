//! Jobs of library users: the examples against independent results, killed and gone on with at their rounds; and jobs that misbehave.

use misbehaves::{Deed, Misbehaves};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tilework::failure::Exit;
use tilework::{Files, Matrix, Runner, StopSwitch};

#[path = "jobs/misbehaves.rs"]
mod misbehaves;

/// For what other processes do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder, and an example's program in it.
struct Stage {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Stage {
    fn of(example: &str) -> Stage {
        let program = Path::new(env!("CARGO_BIN_EXE_tilework"));
        let program = program.parent().unwrap().join("examples").join(example);
        assert!(
            program.exists(),
            "{} is not built: cargo build -p tilework --examples",
            program.display()
        );
        Stage {
            folder: tempfile::tempdir().unwrap(),
            program,
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).args(line.split(' '));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TILEWORK_")) {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs it to its end; what it reports.
    fn succeed(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refuse(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is left beside an output.
    fn kept(&self, output: &str) -> Vec<String> {
        let left = fs::read_dir(self.path(&format!("{output}.tilework"))).unwrap();
        let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn report(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

fn digits() -> String {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits.npy");
    digits.canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn hello_greets_in_order_and_tells_what_is_wrong_with_a_spec() {
    let stage = Stage::of("hello");
    let done = stage.succeed(r#"run hello --set names=["Ada","Alan"]"#);
    assert_eq!(
        (&done["tasks_run"], &done["output"]),
        (&2.into(), &"hello.json".into())
    );
    assert_eq!(
        stage.report("hello.json"),
        serde_json::json!(["Hello, Ada!", "Hello, Alan!"])
    );
    // A finished one is kept.
    let refused = stage.refuse(r#"run hello --set names=["Grace"]"#);
    assert!(refused["next"].as_str().unwrap().contains("--overwrite"));
    stage.succeed(r#"run hello --set names=["Grace"] --overwrite"#);
    assert_eq!(stage.report("hello.json"), serde_json::json!(["Hello, Grace!"]));
    for (line, complaint) in [
        ("run hello -o x", "missing field `names`"),
        ("run hello -o x --set names=[] --set who=1", "unknown field `who`"),
        ("run hello -o x --set names=[]", "has no tasks"),
        ("run hello -o none/x --set names=[1]", "invalid type"),
        ("run helo", "no job `helo`"),
        ("run hello --set names", "no value"),
        ("run hello --spec none.json", "none.json"),
    ] {
        let refused = stage.refuse(line);
        assert!(
            refused["error"].as_str().unwrap().contains(complaint),
            "{line}: {refused}"
        );
    }
    assert!(!stage.path("x").exists() && !stage.path("x.tilework").exists());
    let kinds = stage.succeed("kinds");
    assert_eq!(kinds["kinds"][0]["fields"]["names"], "list of text");
}

#[test]
fn pi_is_the_same_whoever_throws() {
    let stage = Stage::of("pi");
    fs::write(
        stage.path("spec.json"),
        r#"{"samples": 1000003, "tasks": 7, "seed": 3}"#,
    )
    .unwrap();
    stage.succeed("run pi --spec spec.json -o one.json --threads 1");
    let two = stage.succeed("run pi --spec spec.json -o two.json --threads 2 --assign round-robin");
    assert_eq!(two["tasks_by_worker"], serde_json::json!([4, 3]));
    assert_eq!(
        fs::read(stage.path("one.json")).unwrap(),
        fs::read(stage.path("two.json")).unwrap()
    );
    let pi = stage.report("one.json")["pi"].as_f64().unwrap();
    // Four standard deviations of so many darts.
    assert!((pi - std::f64::consts::PI).abs() < 4.0 * 1.65e-3, "{pi}");
    stage.succeed("run pi --spec spec.json --set seed=4 -o other.json");
    assert_ne!(stage.report("one.json"), stage.report("other.json"));
}

/// Lloyd's algorithm over the whole matrix at once.
fn lloyd(matrix: &Matrix, k: usize) -> (u64, Vec<u64>) {
    let n_cols = matrix.n_cols() as usize;
    let all = matrix.rows(0..matrix.n_rows()).unwrap();
    let rows: Vec<&[f64]> = all.chunks_exact(n_cols).collect();
    let mut centres: Vec<Vec<f64>> = (0..k).map(|i| rows[i * rows.len() / k].to_vec()).collect();
    for round in 1.. {
        let nearest = |row: &[f64]| {
            let squared =
                |centre: &[f64]| -> f64 { centre.iter().zip(row).map(|(c, x)| (c - x).powi(2)).sum() };
            (0..k)
                .min_by(|i, j| squared(&centres[*i]).total_cmp(&squared(&centres[*j])))
                .unwrap()
        };
        let of: Vec<usize> = rows.iter().map(|row| nearest(row)).collect();
        let mean = |i: usize| -> Vec<f64> {
            let mine: Vec<&&[f64]> = rows
                .iter()
                .zip(&of)
                .filter(|(_, of)| **of == i)
                .map(|(row, _)| row)
                .collect();
            (0..n_cols)
                .map(|col| mine.iter().map(|row| row[col]).sum::<f64>() / mine.len() as f64)
                .collect()
        };
        let next: Vec<Vec<f64>> = (0..k).map(mean).collect();
        if next == centres {
            let count = |i| of.iter().filter(|of| **of == i).count() as u64;
            return (round, (0..k).map(count).collect());
        }
        centres = next;
    }
    unreachable!()
}

const KMEANS: &str = "--set k=10 --set tasks=3";

#[test]
fn kmeans_finds_what_lloyd_finds() {
    let stage = Stage::of("kmeans");
    stage.succeed(&format!("run kmeans --set matrix={} {KMEANS}", digits()));
    let found = stage.report("kmeans.json");
    let (rounds, counts) = lloyd(&Files::of_this_machine().matrix(digits()).unwrap(), 10);
    assert_eq!(
        (&found["rounds"], &found["counts"]),
        (&rounds.into(), &counts.into())
    );
}

/// Starts a job whose tasks are slow, and kills it when a round of it has begun.
fn kill_in_round(stage: &Stage, line: &str, output: &str, round: u32) {
    let mut command = stage.command(line);
    command.env("TILEWORK_TEST_SLOW", "*:30ms").stderr(Stdio::null());
    let mut job: Child = command.spawn().unwrap();
    let begun = stage.path(&format!("{output}.tilework/round-{round:06}"));
    let deadline = Instant::now() + PATIENCE;
    while !begun.exists() {
        assert!(Instant::now() < deadline, "round {round} has not begun");
        assert_eq!(job.try_wait().unwrap(), None, "it ended before round {round}");
        thread::sleep(Duration::from_millis(2)); // waits: the pace of looking
    }
    job.kill().unwrap();
    job.wait().unwrap();
    assert!(!stage.path(output).exists());
}

#[test]
fn a_job_that_is_killed_in_each_of_its_rounds_goes_on_with_that() {
    let stage = Stage::of("kmeans");
    fs::copy(digits(), stage.path("digits.npy")).unwrap();
    let line = |output: &str| format!("run kmeans --set matrix=digits.npy {KMEANS} -o {output}");
    let whole = stage.succeed(&line("undisturbed.json"));
    for round in 1..=6 {
        kill_in_round(&stage, &line("k.json"), "k.json", round);
    }
    // `resume` knows products only, and says whose job this is; `status` and `explain` know any job.
    let refused = stage.refuse("resume k.json");
    assert!(
        refused["error"].as_str().unwrap().contains("unfinished `kmeans`"),
        "{refused}"
    );
    assert_eq!(stage.succeed("status k.json")["state"], "unfinished");
    stage.succeed("explain k.json");
    // Another spec, and other inputs, are another job.
    let other = stage.refuse(&line("k.json").replace("tasks=3", "tasks=4"));
    assert!(
        other["error"].as_str().unwrap().contains("its spec was"),
        "{other}"
    );
    let mut bytes = fs::read(stage.path("digits.npy")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(stage.path("digits.npy"), &bytes).unwrap();
    let changed = stage.refuse(&line("k.json"));
    assert!(
        changed["error"].as_str().unwrap().contains("digits.npy"),
        "{changed}"
    );
    bytes[last] ^= 1;
    fs::write(stage.path("digits.npy"), &bytes).unwrap();
    let rest = stage.succeed(&line("k.json"));
    let run = |report: &Value| report["tasks_run"].as_u64().unwrap();
    assert!(
        run(&rest) <= run(&whole) - 6 * 3,
        "six rounds were complete: {rest}, {whole}"
    );
    assert_eq!(
        fs::read(stage.path("k.json")).unwrap(),
        fs::read(stage.path("undisturbed.json")).unwrap()
    );
    // Each kill was told of.
    assert_eq!(stage.kept("k.json"), ["alarms.jsonl", "journal"]);
}

/// Their records share syncs by the hundred: what one of these had made durable is kept.
#[test]
fn a_job_of_many_short_tasks_that_is_killed_goes_on() {
    const N_TASKS: u64 = 20_000;
    let stage = Stage::of("pi");
    let line =
        |output: &str| format!("run pi --set samples=20000 --set tasks={N_TASKS} --threads 2 -o {output}");
    stage.succeed(&line("undisturbed.json"));
    let mut job = stage
        .command(&line("killed.json"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let segment = stage.path("killed.json.tilework/000001.segment");
    let deadline = Instant::now() + PATIENCE;
    while fs::metadata(&segment).map_or(0, |segment| segment.len()) < 100_000 {
        assert!(Instant::now() < deadline, "nothing is committed");
        assert_eq!(job.try_wait().unwrap(), None, "it ended before it was killed");
        thread::sleep(Duration::from_millis(1)); // waits: the pace of looking
    }
    job.kill().unwrap();
    job.wait().unwrap();
    let done = stage.succeed(&line("killed.json"));
    let resumed = done["tasks_resumed"].as_u64().unwrap();
    // A record has less than a hundred bytes.
    assert!((1_000..N_TASKS).contains(&resumed), "{done}");
    assert_eq!(done["tasks_run"], N_TASKS - resumed, "{done}");
    assert_eq!(stage.report("killed.json"), stage.report("undisturbed.json"));
}

fn misbehave<const VERSION: u32>(
    deed: Deed,
    folder: &Path,
) -> Result<tilework::Finished, tilework::failure::CliError> {
    let job = Misbehaves::<VERSION> {
        deed,
        folder: folder.to_path_buf(),
    };
    Runner::new().threads(2).run(job, folder.join("out.json"))
}

#[test]
fn a_job_whose_task_misbehaves_fails_with_the_reason_and_keeps_the_others() {
    for (deed, reason) in [
        (Deed::Panics, "on purpose"),
        (Deed::IsTooLarge, "the output of task 2 has"),
        (Deed::Refuses, "the task refuses"),
        (Deed::IsWrong, "the output is 0"),
        (Deed::IsLate, "task 2 took longer than its deadline of 0.1 s"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = misbehave::<1>(deed, folder.path()).unwrap_err();
        assert_eq!(error.exit, Exit::JobFailed, "{error}");
        assert!(error.message.contains(reason), "{error}");
        assert!(!folder.path().join("out.json").exists());
    }
}

#[test]
fn code_that_misbehaves_where_jobs_are_driven_fails_the_job_with_the_reason() {
    for (deed, reason) in [
        (Deed::StartPanics, "`start` of `misbehaves` panicked"),
        (Deed::AdvancePanics, "`advance` of `misbehaves` panicked"),
        (
            Deed::HasTooManyTasks,
            "has 1099511627776 tasks, and 3000000 are allowed",
        ),
        (Deed::StateIsTooLarge, "the state of round 1 has "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = misbehave::<1>(deed, folder.path()).unwrap_err();
        assert!(error.message.contains(reason), "{error}");
        assert!(!folder.path().join("out.json").exists());
    }
}

#[test]
fn a_task_that_fails_or_is_late_once_is_done_again() {
    for deed in [Deed::FailsOnce, Deed::IsLateOnce] {
        let folder = tempfile::tempdir().unwrap();
        let done = misbehave::<1>(deed, folder.path()).unwrap();
        assert_eq!((done.tasks_run, done.retries), (5, 1));
    }
}

/// Its thread can't be ended, but the call comes back, with all that was done before.
#[test]
fn a_task_that_hangs_fails_the_run_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let job = Misbehaves::<1> {
            deed: Deed::HangsOnce,
            folder: folder.path().to_path_buf(),
        };
        Runner::new().threads(1).run(job, folder.path().join("out.json"))
    };
    let error = run().unwrap_err();
    assert_eq!(error.exit, Exit::JobFailed, "{error}");
    let expected = "task 2 took longer than its deadline of 0.1 s, and did not stop within 5 s";
    assert!(error.message.starts_with(expected), "{error}");
    let done = run().unwrap();
    assert_eq!((done.tasks_run, done.tasks_resumed), (3, 2));
}

/// A worker that is idle does it again as it does what is slow, and the job does without the one that hangs.
#[test]
fn a_task_that_hangs_on_one_of_two_workers_is_done_by_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let done = misbehave::<1>(Deed::HangsOnce, folder.path()).unwrap();
    assert_eq!(done.tasks_run, 5);
}

#[test]
fn a_program_whose_task_hangs_ends_all_the_same() {
    let stage = Stage::of("misbehaves");
    let line = r#"run misbehaves --set deed=Hangs --set folder=. -o out.json --threads 1 --json"#;
    let output = stage.run(line);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report["error"].as_str().unwrap().contains("task 2 took longer"),
        "{report}"
    );
    assert_eq!(report["alarms"][0]["kind"], "poison-task", "{report}");
    let status = stage.succeed("status out.json");
    assert_eq!(status["tasks_committed"], 2, "{status}");
}

/// Nobody in a process can take back its end, nor its exit code; but what others did is kept, and the next run says who was at work.
#[test]
fn a_task_that_ends_its_process_is_named_by_the_next_run_which_goes_on() {
    let stage = Stage::of("misbehaves");
    let line = |deed: &str| {
        format!("run misbehaves --set deed={deed} --set folder=. -o {deed}.json --threads 1 --json")
    };
    let ends = |deed: &str| {
        let output = stage.run(&line(deed));
        assert_eq!(output.status.code(), Some(0), "it is the task's: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(!stage.path(&format!("{deed}.json")).exists());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!ends("ExitsOnce").contains("without a word"));
    let done =
        stage.succeed("run misbehaves --set deed=ExitsOnce --set folder=. -o ExitsOnce.json --threads 1");
    // The commit of the last one before may have been on its way.
    let (run, resumed) = (&done["tasks_run"], &done["tasks_resumed"]);
    let (run, resumed) = (run.as_u64().unwrap(), resumed.as_u64().unwrap());
    assert!(run + resumed == 5 && resumed >= 1, "{done}");
    let told = "the run before ended without a word while task 2 ran";
    assert_eq!(done["alarms"][0]["text"], told, "{done}");
    let left: Vec<_> = fs::read_dir(stage.path("ExitsOnce.json.tilework"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 2, "journal and alarms: {left:?}");
    // One that always does so is told of each time.
    assert!(!ends("Exits").contains("without a word"));
    assert!(ends("Exits").contains(told));
    let third = ends("Exits");
    assert!(third.contains("task 2 ran each of the last 2 times"), "{third}");
}

#[test]
fn code_of_another_version_goes_on_with_nothing() {
    let folder = tempfile::tempdir().unwrap();
    misbehave::<1>(Deed::Refuses, folder.path()).unwrap_err();
    let error = misbehave::<2>(Deed::Refuses, folder.path()).unwrap_err();
    assert_eq!(error.exit, Exit::Usage);
    assert!(error.message.contains("version 1, now of 2"), "{error}");
    assert!(error.next.unwrap().contains("--restart"));
}

#[test]
fn a_job_that_is_stopped_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let stop = StopSwitch::default();
    stop.interrupt();
    let job = Misbehaves::<1> {
        deed: Deed::FailsOnce,
        folder: folder.path().to_path_buf(),
    };
    let error = Runner::new()
        .stop(stop)
        .run(job, folder.path().join("out.json"))
        .unwrap_err();
    assert_eq!(error.exit, Exit::Interrupted, "{error}");
}
