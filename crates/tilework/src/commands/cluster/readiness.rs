//! Waits until a cluster can be used: its server answers, a driver leads, and all of its own workers are on the board.

use super::kept::Standing;
use super::log_file;
use crate::cluster::board::Board;
use crate::failure::{CliError, Exit};
use crate::human;
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::failure::StopCause;
use tilework_runtime::StopSwitch;

/// How long a cluster may take to get ready.
pub const READY_WAIT: Duration = Duration::from_secs(30);
/// Whoever ends this often before the cluster is ready will not get better by itself.
const ENDS_MAX: u32 = 5;
/// Pause between two looks at the board.
const LOOK: Duration = Duration::from_millis(50);

/// The processes that have to come.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// The server.
    pub server: Standing,
    /// The driver.
    pub driver: Standing,
    /// The workers.
    pub workers: Vec<Standing>,
}

/// Waits until all of them are there. `tend` keeps them running and tells how they stand, `look` reads the board.
///
/// # Errors
/// If one of them does not come within `wait`, or ends again and again: which, and the end of its log. If `stop` asks to.
pub fn wait(
    wait: Duration,
    stop: &StopSwitch,
    mut tend: impl FnMut() -> Awaited,
    mut look: impl FnMut() -> Result<Option<Board>, CliError>,
) -> Result<Board, CliError> {
    let until = Instant::now() + wait;
    loop {
        if stop.requested().is_some() {
            let text = "interrupted before the cluster was ready";
            return Err(CliError::stopped(StopCause::Interrupted, text));
        }
        let seen = look();
        let awaited = tend();
        let board = seen.as_ref().ok().and_then(Option::as_ref);
        let missing = missing(board, &awaited);
        if missing.is_empty()
            && let Ok(Some(board)) = seen
        {
            return Ok(board);
        }
        if let Some(ends) = missing.iter().find(|missing| missing.n_ends >= ENDS_MAX) {
            let what = format!(
                "{} ended {ENDS_MAX} times before the cluster was ready",
                ends.name
            );
            return Err(failed(&what, ends, &missing, None));
        }
        if Instant::now() >= until {
            let names: Vec<&str> = missing.iter().map(|missing| &*missing.name).collect();
            let what = format!(
                "the cluster was not ready within {}: {} did not come",
                human::duration(wait),
                names.join(", ")
            );
            return Err(failed(&what, missing[0], &missing, seen.err()));
        }
        thread::sleep(LOOK);
    }
}

/// Who is not there yet, the one first on whom the others wait.
fn missing<'a>(board: Option<&Board>, awaited: &'a Awaited) -> Vec<&'a Standing> {
    let Awaited {
        server,
        driver,
        workers,
    } = awaited;
    let mut missing = Vec::new();
    if server.pid.is_none() {
        missing.push(server);
    }
    if board.is_none_or(|board| board.driver.is_none()) {
        missing.push(driver);
    }
    let is_there = |worker: &&Standing| {
        let workers = board.map_or(&[][..], |board| &board.workers);
        workers.iter().any(|shown| Some(shown.pid) == worker.pid)
    };
    missing.extend(workers.iter().filter(|worker| !is_there(worker)));
    missing
}

fn failed(what: &str, first: &Standing, missing: &[&Standing], look: Option<CliError>) -> CliError {
    let mut message = what.to_owned();
    if let Some(error) = look {
        message.push_str(&format!("; the board can't be read: {}", error.message));
    }
    let log = first.log.display();
    match log_file::end_of(&first.log) {
        end if end.is_empty() => message.push_str(&format!("; its log `{log}` is empty")),
        end => message.push_str(&format!("; its log `{log}` ends: {end}")),
    }
    let names: Vec<&str> = missing.iter().map(|missing| &*missing.name).collect();
    CliError::new(Exit::JobFailed, message)
        .with_next(format!("look at the log: less {log}"))
        .with_facts(json!({ "missing": names, "log": log.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::board::{DriverOnBoard, WorkerOnBoard};
    use std::path::{Path, PathBuf};

    const SHORT: Duration = Duration::from_millis(1);

    fn standing(name: &str, folder: &Path, pid: u32) -> Standing {
        Standing {
            name: name.to_owned(),
            log: folder.join(format!("{name}.log")),
            pid: Some(pid),
            n_ends: 0,
        }
    }

    fn awaited(folder: &Path) -> Awaited {
        Awaited {
            server: standing("nats-server", folder, 1),
            driver: standing("driver", folder, 2),
            workers: vec![standing("worker-1", folder, 3), standing("worker-2", folder, 4)],
        }
    }

    fn board(has_driver: bool, workers: &[u32]) -> Board {
        let worker = |pid: &u32| WorkerOnBoard {
            pid: *pid,
            ..WorkerOnBoard::default()
        };
        Board {
            driver: has_driver.then(DriverOnBoard::default),
            workers: workers.iter().map(worker).collect(),
            ..Board::default()
        }
    }

    #[test]
    fn it_is_ready_when_a_driver_leads_and_all_workers_are_there() {
        let awaited = awaited(&PathBuf::new());
        let mut boards = [
            Ok(None),
            Err(CliError::usage("no connection yet")),
            Ok(Some(board(true, &[]))),
            // Somebody else's workers, and one of ours.
            Ok(Some(board(true, &[7, 3]))),
            Ok(Some(board(false, &[3, 4]))),
            Ok(Some(board(true, &[7, 4, 3]))),
        ]
        .into_iter();
        let ready = wait(
            READY_WAIT,
            &StopSwitch::default(),
            || awaited.clone(),
            || boards.next().unwrap(),
        );
        assert_eq!(ready.unwrap().workers.len(), 3);
        assert!(boards.next().is_none());
    }

    #[test]
    fn whoever_does_not_come_is_named_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let awaited = awaited(folder.path());
        std::fs::write(&awaited.workers[1].log, "begins\nno data root\n").unwrap();
        let look = || Ok(Some(board(true, &[3])));
        let error = wait(SHORT, &StopSwitch::default(), || awaited.clone(), look).unwrap_err();
        assert!(
            error.message.contains("worker-2 did not come; its log `"),
            "{error:?}"
        );
        assert!(
            error.message.ends_with("ends: begins | no data root"),
            "{error:?}"
        );
        assert_eq!(error.facts["missing"], json!(["worker-2"]));
        let look = || Err(CliError::usage("refused"));
        let error = wait(SHORT, &StopSwitch::default(), || awaited.clone(), look).unwrap_err();
        assert!(
            error.message.contains("driver, worker-1, worker-2 did not come"),
            "{error:?}"
        );
        assert!(error.message.contains("refused"), "{error:?}");
    }

    #[test]
    fn whoever_ends_again_and_again_is_not_waited_for() {
        let mut awaited = awaited(&PathBuf::new());
        awaited.driver.n_ends = ENDS_MAX;
        let look = || Ok(None);
        let error = wait(READY_WAIT, &StopSwitch::default(), || awaited.clone(), look).unwrap_err();
        assert!(error.message.starts_with("driver ended 5 times"), "{error:?}");
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let stop = StopSwitch::default();
        stop.interrupt();
        let awaited = awaited(&PathBuf::new());
        let error = wait(READY_WAIT, &stop, || awaited.clone(), || Ok(None)).unwrap_err();
        assert_eq!(error.exit, Exit::Interrupted);
    }
}
