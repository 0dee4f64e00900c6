//! Jobs of library users that misbehave, and what becomes of them.

mod common;

use common::example::Program;
use common::{Running, journal};
use grows::{Grows, at_once};
use misbehaves::{Deed, Misbehaves};
use misnamed::Misnamed;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use tilework::failure::Exit;
use tilework::job::kinds::Kinds;
use tilework::{Runner, StopSwitch, jobs};

#[path = "jobs/grows.rs"]
mod grows;
#[path = "jobs/misbehaves.rs"]
mod misbehaves;
#[path = "jobs/misnamed.rs"]
mod misnamed;

/// Their records share syncs by the hundred: what one of these had made durable is kept.
#[test]
fn a_job_of_many_short_tasks_that_is_killed_goes_on() {
    const N_TASKS: u64 = 20_000;
    let program = Program::of_example("pi");
    let line =
        |output: &str| format!("run pi --set samples=20000 --set tasks={N_TASKS} --threads 2 -o {output}");
    program.succeed(&line("undisturbed.json"));
    let mut job = Running::start(program.command(&line("killed.json")));
    let segment = program.path("killed.json.tilework/000001.segment");
    job.wait_until("a thousand commits", || {
        fs::metadata(&segment).map_or(0, |segment| segment.len()) >= 100_000
    });
    assert!(job.kill(), "it ended before it was killed");
    let done = program.succeed(&line("killed.json"));
    let resumed = done["tasks_resumed"].as_u64().unwrap();
    // A record has less than a hundred bytes.
    assert!((1_000..N_TASKS).contains(&resumed), "{done}");
    assert_eq!(done["tasks_run"], N_TASKS - resumed, "{done}");
    assert_eq!(program.report("killed.json"), program.report("undisturbed.json"));
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
    for (deed, n_attempts, begin, end) in [
        (
            Deed::Panics,
            5,
            "task 2 panicked: the task panicked on purpose",
            "(attempt 5, on worker 0)",
        ),
        (
            Deed::IsTooLarge,
            1,
            "the output of task 2 has",
            "(task 2, attempt 1, on worker 0)",
        ),
        (
            Deed::Refuses,
            1,
            "the task refuses",
            "(task 2, attempt 1, on worker 0)",
        ),
        (
            Deed::IsWrong,
            3,
            "the output is 0",
            "(task 2, attempt 3, on worker 0)",
        ),
        (
            Deed::IsLate,
            5,
            "task 2 took longer than its deadline of 0.1 s",
            "(attempt 5, on worker 0)",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.json");
        let job = Misbehaves::<1> {
            deed,
            folder: folder.path().to_path_buf(),
        };
        let error = Runner::new().threads(1).run(job, &output).unwrap_err();
        assert_eq!(error.exit, Exit::JobFailed, "{error}");
        let text = &error.message;
        assert!(text.starts_with(begin) && text.ends_with(end), "{error}");
        assert!(!output.exists());
        // Each attempt is told of, and that it was the last one.
        let alarms = error.facts["alarms"].as_array().unwrap();
        let told = |kind: &str| alarms.iter().filter(|alarm| alarm["kind"] == kind).count();
        assert_eq!(
            (told("task-retried"), told("poison-task")),
            (n_attempts - 1, 1),
            "{alarms:?}"
        );
        let last = alarms.last().unwrap()["text"].as_str().unwrap();
        assert!(
            last.starts_with("task 2 fail") && last.contains(text),
            "{alarms:?}"
        );
        // What came before it is kept; and what comes after it, if that was done while it was waited for.
        let kept: Vec<u64> = journal(&output)
            .unwrap()
            .commits
            .keys()
            .map(|(_, task)| task.0)
            .collect();
        let all_others = [0, 1, 3, 4];
        assert!(
            kept.iter().all(|task| all_others.contains(task)),
            "{deed:?}: {kept:?}"
        );
        let n_sure = if n_attempts > 1 { 4 } else { 2 };
        assert_eq!(kept[..n_sure], all_others[..n_sure], "{deed:?}");
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
        (Deed::HasNoTime, "`needs` of `misbehaves` has a deadline of 0 s"),
        (
            Deed::HasNegativeTime,
            "`needs` of `misbehaves` has a deadline of -1 s",
        ),
        (
            Deed::HasNoNumberForItsTime,
            "`needs` of `misbehaves` has a deadline of NaN s",
        ),
        (
            Deed::ExpectsNoNumber,
            "`needs` of `misbehaves` expects a task to take NaN s",
        ),
        (Deed::StateIsTooLarge, "the state of round 1 has "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = misbehave::<1>(deed, folder.path()).unwrap_err();
        assert!(error.message.contains(reason), "{error}");
        assert!(!folder.path().join("out.json").exists());
    }
}

/// What is expected for ever made the driver overflow as it looked for what is slow.
#[test]
fn r6_a_task_may_take_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let job = Misbehaves::<1> {
        deed: Deed::TakesItsTime,
        folder: folder.path().to_path_buf(),
    };
    // One of six workers gets no task, so the driver looks for what is slow before any is done.
    let done = Runner::new()
        .threads(6)
        .run(job, folder.path().join("out.json"))
        .unwrap();
    assert_eq!((done.tasks_run, done.retries), (5, 0));
}

#[test]
fn a_task_that_fails_or_is_late_or_panics_once_is_done_again() {
    for deed in [Deed::FailsOnce, Deed::IsLateOnce, Deed::PanicsOnce] {
        let folder = tempfile::tempdir().unwrap();
        let done = misbehave::<1>(deed, folder.path()).unwrap();
        assert_eq!((done.tasks_run, done.tasks_checked, done.retries), (5, 5, 1));
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
    let program = Program::of_example("misbehaves");
    let line = r#"run misbehaves --set deed=Hangs --set folder=. -o out.json --threads 1 --json"#;
    let output = program.run(line);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report["error"].as_str().unwrap().contains("task 2 took longer"),
        "{report}"
    );
    assert_eq!(report["alarms"][0]["kind"], "poison-task", "{report}");
    let status = program.succeed("status out.json");
    assert_eq!(status["tasks_committed"], 2, "{status}");
}

/// Nobody in a process can take back its end, nor its exit code; but what others did is kept, and the next run says who was at work.
#[test]
fn a_task_that_ends_its_process_is_named_by_the_next_run_which_goes_on() {
    let program = Program::of_example("misbehaves");
    let line = |deed: &str| {
        format!("run misbehaves --set deed={deed} --set folder=. -o {deed}.json --threads 1 --json")
    };
    let ends = |deed: &str| {
        let output = program.run(&line(deed));
        assert_eq!(output.status.code(), Some(0), "it is the task's: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(!program.path(&format!("{deed}.json")).exists());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!ends("ExitsOnce").contains("without a word"));
    let done =
        program.succeed("run misbehaves --set deed=ExitsOnce --set folder=. -o ExitsOnce.json --threads 1");
    // The commit of the last one before may have been on its way.
    let (run, resumed) = (&done["tasks_run"], &done["tasks_resumed"]);
    let (run, resumed) = (run.as_u64().unwrap(), resumed.as_u64().unwrap());
    assert!(run + resumed == 5 && resumed >= 1, "{done}");
    let told = "the run before ended without a word while task 2 ran";
    assert_eq!(done["alarms"][0]["text"], told, "{done}");
    let left: Vec<_> = fs::read_dir(program.path("ExitsOnce.json.tilework"))
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

/// Workers had the memory that the first round's tasks needed, and the job waited for ever for one that has more.
#[test]
fn r6_rounds_may_need_more_memory_than_the_first_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.json");
    let run = |mib: u64| {
        let needs_mib = vec![10, 40, 100, 1];
        let runner = Runner::new().threads(3).memory(mib << 20);
        runner.run(Grows { needs_mib }, &output)
    };
    // As many at a time as fit, and no more; until one doesn't.
    for n_rounds in [2, 2] {
        let error = run(90).unwrap_err();
        assert_eq!(error.exit, Exit::Resources, "{error}");
        let text = "90 MiB of memory are too few: a task of `grows` needs 100 MiB, 10 MiB more";
        assert_eq!(error.message, text);
        assert_eq!(error.next.as_deref(), Some("allow it: --memory 100MiB"));
        assert_eq!(at_once(n_rounds), [3, 2]);
    }
    // Another run goes on in that round, with what was named.
    let done = run(100).unwrap();
    assert_eq!(
        (done.tasks_run, done.tasks_checked),
        (2 * grows::N_TASKS, 2 * grows::N_TASKS)
    );
    assert_eq!(at_once(4), [3, 2, 1, 3]);
    // The first round is looked at before anything is written.
    let other = folder.path().join("other.json");
    let job = Grows { needs_mib: vec![10] };
    let error = Runner::new().memory(9 << 20).run(job, &other).unwrap_err();
    assert_eq!(error.exit, Exit::Resources, "{error}");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "the output and its journal"
    );
}

#[test]
fn jobs_that_users_can_not_name_or_tell_apart_are_not_run() {
    let kinds = |kinds: &'static Kinds| {
        let words = ["program".into(), "kinds".into()];
        format!("{:?}", tilework::cli::run(&words, kinds, Instant::now()))
    };
    let code = |code: ExitCode| format!("{code:?}");
    assert_eq!(kinds(jobs![Grows]), code(ExitCode::SUCCESS));
    assert_eq!(kinds(jobs![Grows, Grows]), code(ExitCode::from(2)));
    assert_eq!(kinds(jobs![Grows, Misnamed]), code(ExitCode::from(2)));
    let folder = tempfile::tempdir().unwrap();
    let error = Runner::new()
        .run(Misnamed {}, folder.path().join("out"))
        .unwrap_err();
    assert_eq!(error.exit, Exit::Usage);
    assert!(error.message.contains("can be called `a/b`"), "{error}");
    assert!(error.next.unwrap().contains("KIND"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
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
