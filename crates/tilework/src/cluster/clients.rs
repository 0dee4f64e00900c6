//! What clients do: ask the driver for something, and watch a job until it is over.

use super::board::{Board, HEARD_AT, JobOnBoard, KEY};
use super::desk::{ambiguous, no_such_job};
use super::events::{self, JobEvent};
use super::joining::{connect, name_here, read_join, read_join_of, unanswered};
use super::protocol::{PING, Ping, REQUEST_WAIT, Submit, Submitted, ask, read_answer};
use super::record::JobRecord;
use crate::failure::{CliError, Exit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::ids::JobId;
use tilework_core::limits::TAKE_OVER_LISTEN_MS;
use tilework_nats::{Bucket, Control, ControlError, JoinFile, Role};
use tilework_runtime::StopSwitch;
use tilework_store::disk::parent_dir;

/// Pause before the driver or a worker is sought again.
const SEEK_PAUSE: Duration = Duration::from_millis(500);
/// How often who asked sees whether an answer may still come.
const ANSWER_POLL: Duration = Duration::from_millis(500);
/// How often a watcher looks at the board, whatever it hears.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// How often a watcher sees whether it should stop.
const STOP_POLL: Duration = Duration::from_millis(100);
/// A board that has not changed for so long has no driver.
const DRIVER_SILENT: Duration = Duration::from_secs(8);
/// A driver that has just begun hears all workers within that time: until then a board without them says nothing.
const HEARD_WITHIN: Duration = Duration::from_millis(TAKE_OVER_LISTEN_MS);

/// How long a driver may take to say that it is there.
const PING_WAIT: Duration = Duration::from_secs(3);
/// Messages of events that are looked at for what happened lately.
const EVENTS_LOOKED_BACK: u64 = 2_000;

/// A job without a record for so long is not one that somebody resumes.
const FORGOTTEN: Duration = Duration::from_secs(8);

/// A client's connection.
#[derive(Clone)]
pub struct Client {
    control: Arc<Control>,
}

/// How a job is, as one watcher sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// The job.
    pub job: JobOnBoard,
    /// Why it may not go on just now: no driver, no worker, no connection.
    pub trouble: Option<Trouble>,
}

/// Something without which a job does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What, in words.
    pub why: String,
    /// Since when it is seen.
    pub since: Instant,
}

/// What a watcher needs to remember to see that nothing goes on.
#[derive(Debug)]
struct Lookout {
    /// Of the last board, when it was written and which one it was of its driver's.
    board: Option<(u64, u64)>,
    /// When another one than before was seen.
    changed: Instant,
    without_workers: Option<Instant>,
    cut_off: Option<Instant>,
}

impl Lookout {
    fn new() -> Lookout {
        Lookout {
            board: None,
            changed: Instant::now(),
            without_workers: None,
            cut_off: None,
        }
    }

    fn see(&mut self, board: &Board, job: &str, now: Instant) {
        let written = Some((board.unix_ms, board.n_written));
        if written != self.board {
            (self.board, self.changed) = (written, now);
        }
        // When all is committed, the driver does the rest alone.
        let lacks_tasks = |shown: &JobOnBoard| shown.id == job && shown.tasks_committed < shown.tasks;
        let is_without =
            board.workers.iter().all(|worker| worker.state == "lost") && board.jobs.iter().any(lacks_tasks);
        self.without_workers = is_without.then(|| self.without_workers.unwrap_or(now));
    }

    fn trouble(&mut self, is_connected: bool, now: Instant) -> Option<Trouble> {
        let trouble = |why: &str, since| {
            Some(Trouble {
                why: why.to_owned(),
                since,
            })
        };
        let old = |since: Instant, age| now.saturating_duration_since(since) >= age;
        self.cut_off = (!is_connected).then(|| self.cut_off.unwrap_or(now));
        match (self.cut_off, self.without_workers) {
            (Some(since), _) => trouble(
                "the cluster can't be reached: the job may go on without us",
                since,
            ),
            _ if old(self.changed, DRIVER_SILENT) => {
                trouble("the cluster has no driver: the job waits for one", self.changed)
            }
            (_, Some(since)) if old(since, HEARD_WITHIN) => {
                trouble("the cluster has no workers: the job waits for one", since)
            }
            _ => None,
        }
    }
}

impl Client {
    /// Joins as a client.
    pub fn join(path: &Path) -> Result<Client, CliError> {
        Client::joined(&read_join(path, Role::Client)?)
    }

    /// Joins as a client or a viewer, to look and not to ask for anything.
    pub fn look(path: &Path) -> Result<Client, CliError> {
        Client::joined(&read_join_of(path, &[Role::Client, Role::Viewer])?)
    }

    /// Joins with what a join file says.
    pub fn joined(join: &JoinFile) -> Result<Client, CliError> {
        let control = connect(join, &name_here(join.role))?;
        Ok(Client { control })
    }

    /// The connection.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What the cluster looks like; `None` if no driver ever said.
    pub fn board(&self) -> Result<Option<Board>, CliError> {
        let entry = match self.control.look_up(Bucket::Workers, KEY) {
            Ok(entry) => entry,
            // Nobody has made the stores yet.
            Err(ControlError::NobodyAnswers) => None,
            Err(error) => return Err(unanswered(&error)),
        };
        let Some(entry) = entry else {
            return Ok(None);
        };
        serde_json::from_slice(&entry.value).map(Some).map_err(|error| {
            CliError::new(
                Exit::Unreachable,
                format!("the cluster's board can't be read: {error}"),
            )
            .with_next("use the same release of tilework as the cluster: tilework doctor")
        })
    }

    /// The cluster as a driver shows it now; without one, an error says so.
    pub fn board_of_driver(&self) -> Result<Board, CliError> {
        self.board()?
            .ok_or_else(|| unanswered(&ControlError::NobodyAnswers))
    }

    /// Asks the driver for something. What was lost with the driver that was asked, or with the connection, is asked again: whoever drives
    /// by then knows what was begun.
    pub fn ask<B: Serialize, A: DeserializeOwned>(&self, subject: &str, body: B) -> Result<A, CliError> {
        let (asked, until) = (ask(body), Instant::now() + REQUEST_WAIT);
        loop {
            let wait = until.saturating_duration_since(Instant::now());
            if let Some(answered) = self.ask_once(subject, asked.clone(), wait) {
                return read_answer(&answered.map_err(|error| unanswered(&error))?);
            }
        }
    }

    /// The answer; `None` once none is to be expected any more.
    fn ask_once(
        &self,
        subject: &str,
        asked: Vec<u8>,
        wait: Duration,
    ) -> Option<Result<Vec<u8>, ControlError>> {
        let driven_by = self.driving();
        let (answer, answered) = mpsc::channel();
        let (control, subject) = (Arc::clone(&self.control), subject.to_owned());
        thread::spawn(move || answer.send(control.request(&subject, asked, wait)));
        let mut was_cut_off = false;
        loop {
            match answered.recv_timeout(ANSWER_POLL) {
                Ok(answered) => return Some(answered),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(ControlError::Silent)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let is_connected = self.control.is_connected();
            let is_driven_by_another = || {
                let driving = self.driving();
                driving.is_some() && driving != driven_by
            };
            if is_connected && (was_cut_off || is_driven_by_another()) {
                return None;
            }
            was_cut_off |= !is_connected;
        }
    }

    /// The process that drives, and since when, as the board has it: what was asked of one that drove before is lost.
    fn driving(&self) -> Option<(String, u32, u64)> {
        let driver = self.board().ok().flatten()?.driver?;
        Some((driver.host, driver.pid, driver.drives_since_unix_ms))
    }

    /// Asks for a product, for as long as `wait` if there is no driver or worker.
    pub fn ask_patiently<A: DeserializeOwned>(
        &self,
        subject: &str,
        submit: &Submit,
        wait: Duration,
        stop: &StopSwitch,
        note: &dyn Fn(&str),
    ) -> Result<A, CliError> {
        let until = Instant::now() + wait;
        let mut told = None;
        loop {
            let error = match self.ask(subject, submit) {
                Err(error) if error.exit == Exit::Unreachable => error,
                answered => return answered,
            };
            if Instant::now() >= until || stop.requested().is_some() {
                return Err(error);
            }
            if told.as_ref() != Some(&error.message) {
                note(&format!("{}: waiting for {} s", error.message, wait.as_secs()));
                told = Some(error.message);
            }
            thread::sleep(SEEK_PAUSE);
        }
    }

    /// Submits a product.
    pub fn submit(
        &self,
        submit: &Submit,
        wait: Duration,
        stop: &StopSwitch,
        note: &dyn Fn(&str),
    ) -> Result<Submitted, CliError> {
        self.ask_patiently(super::protocol::SUBMIT, submit, wait, stop, note)
    }

    /// The record of a job, by its whole id.
    pub fn record(&self, job: &str) -> Result<Option<JobRecord>, CliError> {
        let entry = self.control.look_up(Bucket::Jobs, job);
        let Some(entry) = entry.map_err(|error| unanswered(&error))? else {
            return Ok(None);
        };
        JobRecord::from_bytes(job, &entry.value)
            .map(Some)
            .map_err(|cause| {
                CliError::new(
                    Exit::Unreachable,
                    format!("the record of job {job} can't be used: {cause}"),
                )
            })
    }

    /// The job that a user names.
    pub fn find(&self, named: &str) -> Result<JobOnBoard, CliError> {
        let board = self.board_of_driver()?;
        let found = find_on(&board, named)?;
        found.cloned().ok_or_else(|| no_such_job(named, &board))
    }

    /// Why nobody drives, if nobody does: clients ask, viewers wait for the next board.
    pub fn driver_trouble(&self) -> Option<&'static str> {
        const NONE: &str = "the cluster has no driver";
        const HANGS: &str = "the cluster's driver does not answer";
        if self.control.role() == Role::Client {
            return match self.control.request(PING, ask(Ping::ASKED), PING_WAIT) {
                Ok(_) => None,
                Err(ControlError::NobodyAnswers) => Some(NONE),
                Err(_) => Some(HANGS),
            };
        }
        let heard = self.control.listen(HEARD_AT);
        let is_heard = heard.is_ok_and(|heard| heard.recv_timeout(DRIVER_SILENT).is_ok());
        (!is_heard).then_some(NONE)
    }

    /// What happened to a job lately, the oldest first: of the last few thousand messages about all jobs, those about this one.
    pub fn latest_events(&self, job: JobId) -> Result<Vec<JobEvent>, CliError> {
        let looked = self.control.last_event_of(job).and_then(|last| {
            let after = last.saturating_sub(EVENTS_LOOKED_BACK);
            self.control.events_of(job, after, EVENTS_LOOKED_BACK as usize)
        });
        let found = looked.map_err(|error| unanswered(&error))?;
        Ok(found.iter().flat_map(|(_, bytes)| events::read(bytes)).collect())
    }

    /// Watches a job until it is over, or `stop` or `see` says so, which is called a few times a second. The job's record, or `None` if
    /// the watcher was stopped.
    pub fn watch(
        &self,
        job: &str,
        stop: &StopSwitch,
        see: &mut dyn FnMut(&Sight) -> bool,
    ) -> Result<Option<JobRecord>, CliError> {
        let heard = self
            .control
            .listen(HEARD_AT)
            .map_err(|error| unanswered(&error))?;
        let mut seen: Option<Sight> = None;
        let mut next_look = Instant::now();
        let mut lookout = Lookout::new();
        let mut last_known = Instant::now();
        loop {
            if stop.requested().is_some() {
                return Ok(None);
            }
            let board: Option<Board> = match heard.recv_timeout(STOP_POLL) {
                Ok(heard) => serde_json::from_slice(&heard.payload).ok(),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= next_look => {
                    next_look = Instant::now() + LOOK_PERIOD;
                    match self.record(job) {
                        Ok(Some(record)) if record.ended_unix_ms.is_some() => return Ok(Some(record)),
                        Ok(None) if last_known.elapsed() >= FORGOTTEN => {
                            return Err(forgotten(job, seen.as_ref()));
                        }
                        Ok(None) => {}
                        // Where nobody answers, nothing is known.
                        Ok(Some(_)) | Err(_) => last_known = Instant::now(),
                    }
                    self.board().ok().flatten()
                }
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(STOP_POLL);
                    None
                }
            };
            if let Some(board) = &board {
                lookout.see(board, job, Instant::now());
            }
            let shown = board.and_then(|board| board.jobs.into_iter().find(|shown| shown.id == job));
            if let Some(shown) = &shown
                && shown.ended_unix_ms.is_some()
                && let Ok(Some(record)) = self.record(job)
                && record.ended_unix_ms.is_some()
            {
                return Ok(Some(record));
            }
            let sight = Sight {
                job: shown
                    .or_else(|| seen.as_ref().map(|seen| seen.job.clone()))
                    .unwrap_or_default(),
                trouble: lookout.trouble(self.control.is_connected(), Instant::now()),
            };
            if see(&sight) {
                return Ok(None);
            }
            seen = Some(sight);
        }
    }
}

/// The job that a user names: by its output as this machine calls it, where it lies below the driver's data roots; by its id, the
/// beginning of it, or `NAME:/path`.
pub fn find_on<'b>(board: &'b Board, named: &str) -> Result<Option<&'b JobOnBoard>, CliError> {
    if let Some(job) = find_at(board, Path::new(named)) {
        return Ok(Some(job));
    }
    board.find(named).map_err(|ids| ambiguous(named, &ids))
}

/// The job whose output this path of this machine is, if the driver's data roots are here where they are at the driver.
pub fn find_at<'b>(board: &'b Board, path: &Path) -> Option<&'b JobOnBoard> {
    // The driver's roots are without links too. A directory that is not here may still be there.
    let folder = std::fs::canonicalize(parent_dir(path));
    let place = folder.and_then(|folder| {
        path.file_name()
            .map(|name| folder.join(name))
            .ok_or(ErrorKind::InvalidInput.into())
    });
    let place = place.or_else(|_| std::path::absolute(path)).ok()?;
    board.at_place(&place)
}

/// All of NATS was lost, and the job's record with it.
fn forgotten(job: &str, seen: Option<&Sight>) -> CliError {
    let output = seen.map_or("OUTPUT", |seen| seen.job.output.as_str());
    CliError::new(
        Exit::Unreachable,
        format!("the cluster has lost its records, and that of job {job} with them"),
    )
    .with_next(format!(
        "what was committed is kept; go on with: tilework resume {output}"
    ))
}

/// How a command ends that waited for a job.
pub fn outcome(record: JobRecord) -> Result<serde_json::Value, CliError> {
    match (record.report, record.failure) {
        (Some(report), None) => Ok(report),
        (_, Some(failure)) => Err(failure.into()),
        (None, None) => Ok(serde_json::json!({
            "status": record.stands.name(),
            "output": record.output,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::WorkerOnBoard;
    use super::*;

    fn board(n_written: u64, states: &[&str]) -> Board {
        let worker = |state: &&str| WorkerOnBoard {
            state: (*state).to_owned(),
            ..WorkerOnBoard::default()
        };
        let job = JobOnBoard {
            id: "a".to_owned(),
            tasks: 2,
            tasks_committed: 1,
            ..JobOnBoard::default()
        };
        Board {
            n_written,
            jobs: vec![job],
            workers: states.iter().map(worker).collect(),
            ..Board::default()
        }
    }

    #[test]
    fn a_watcher_says_what_is_missing_and_since_when() {
        let mut lookout = Lookout::new();
        let begun = lookout.changed;
        let at = |ms| begun + Duration::from_millis(ms);
        let listened = TAKE_OVER_LISTEN_MS;
        let mut told = |ms: u64, board: Option<Board>, is_connected| {
            if let Some(board) = board {
                lookout.see(&board, "a", at(ms));
            }
            let trouble = lookout.trouble(is_connected, at(ms))?;
            let since = trouble.since.duration_since(begun).as_millis();
            Some((trouble.why.split(':').next()?.to_owned(), since))
        };
        let is = |why: &str, since| Some((format!("the cluster {why}"), since));
        assert_eq!(
            told(100, Some(board(1, &[])), true),
            None,
            "the driver listens yet"
        );
        assert_eq!(told(99 + listened, Some(board(2, &["lost"])), true), None);
        assert_eq!(told(100 + listened, None, true), is("has no workers", 100));
        assert_eq!(told(3_000, Some(board(3, &["lost", "idle"])), true), None);
        assert_eq!(
            told(3_500, Some(board(4, &[])), true),
            None,
            "they were there again"
        );
        assert_eq!(told(4_000, None, false), is("can't be reached", 4_000));
        assert_eq!(told(9_000, None, false), is("can't be reached", 4_000));
        assert_eq!(told(10_000, Some(board(4, &["idle"])), true), None);
        assert_eq!(
            told(11_500, Some(board(4, &["idle"])), true),
            is("has no driver", 3_500)
        );
        let all_committed = |n_written| {
            let mut board = board(n_written, &[]);
            board.jobs[0].tasks_committed = 2;
            Some(board)
        };
        assert_eq!(told(20_000, all_committed(5), true), None);
        assert_eq!(
            told(24_000, all_committed(6), true),
            None,
            "the driver ends it alone"
        );
        assert_eq!(told(25_000, Some(board(7, &[])), true), None);
        assert_eq!(
            told(28_000, Some(board(8, &[])), true),
            is("has no workers", 25_000)
        );
    }
}
