//! One job at its driver: a thread that opens it, holds its folder, and takes the steps that the driver machine asks for, so that
//! reading a large output back never keeps the driver from hearing its workers.

use super::ending::{RunEnd, tell_end};
use super::ground::Ground;
use super::record::{JobRecord, unix_ms};
use super::submission::{Submission, submitted};
use super::takeover::take_over;
use super::to_host::{OpenedJob, Order, ToHost, Told, UnderWay};
use super::undertaking::Undertaking;
use crate::failure::{CliError, Exit};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use tilework_core::driver::{DriverEvent, JobStart, WhenFull};
use tilework_core::failure::{Failure, JobEnd, StopCause};
use tilework_core::ids::{RoundIdx, RunEpoch, TaskIdx};
use tilework_runtime::journal_writer::JournalWriter;
use tilework_runtime::steps::{JobSteps, StepWatch};
use tilework_runtime::{Job, JobFolder, enter_round};
use tilework_store::journal::Recovered;

/// How a job comes to its driver.
pub enum Begin {
    /// Somebody asks for it.
    Submitted(Box<Submission>),
    /// Another driver left it.
    TakenOver(Box<JobRecord>),
}

/// Opens a job and conducts it to its end. Returns when it is over, can't begin, or `stop` is set and the driver drives no more.
pub fn conduct(ground: &Ground, begin: Begin, stop: Arc<AtomicBool>, to_host: &ToHost) {
    match begin {
        Begin::Submitted(submission) => submitted(ground, *submission, stop, to_host),
        Begin::TakenOver(record) => take_over(ground, *record, stop, to_host),
    }
}

/// A job's place at its driver.
pub(super) struct Conducting<'a> {
    pub ground: &'a Ground,
    /// Its output, as it is called in the cluster.
    pub output: PathBuf,
    /// Makes its steps stop early.
    pub stop: Arc<AtomicBool>,
    pub to_host: &'a ToHost,
}

/// A job whose run has its number, and is in its record.
pub(super) struct Begun<U: Undertaking> {
    pub folder: JobFolder,
    pub writer: JournalWriter,
    pub record: JobRecord,
    pub resumed: Resumed,
    pub took_over: bool,
    pub job: Arc<U::Job>,
    pub undertaking: U,
}

/// Where a run goes on.
pub(super) struct Resumed {
    /// In this round.
    pub round: RoundIdx,
    /// With these tasks of it committed.
    pub committed: Vec<TaskIdx>,
}

impl Resumed {
    /// What an earlier run left of the job, which enters the round that it came to.
    pub(super) fn of<J: Job + ?Sized>(job: &J, folder: &JobFolder) -> Result<Resumed, Failure> {
        let round = enter_round(job, folder)?;
        let committed = folder.committed_tasks(job.n_tasks());
        Ok(Resumed { round, committed })
    }

    /// Whether there is anything.
    pub(super) fn is_some(&self) -> bool {
        self.round > RoundIdx(0) || !self.committed.is_empty()
    }
}

impl Conducting<'_> {
    /// A driver that another one has replaced must not touch what that one works with.
    pub(super) fn check_leads(&self) -> Result<(), CliError> {
        if (self.ground.leads)() {
            Ok(())
        } else {
            Err(leads_no_more())
        }
    }

    /// Opens the output and the run's segment; in this order, so that whoever sees the segment sees this run's output.
    pub(super) fn begin_run<J: Job + ?Sized>(
        &self,
        job: &J,
        folder: &mut JobFolder,
        text: &[u8],
        resumed: bool,
        at_least: RunEpoch,
    ) -> Result<(RunEpoch, JournalWriter), CliError> {
        self.check_leads()?;
        if !resumed {
            folder.discard()?;
        }
        job.open_outputs(resumed)?;
        let (epoch, segment) = folder
            .start_run(at_least, text, unix_ms())
            .map_err(|error| CliError::io("start the journal in", &folder.files().folder(), &error))?;
        Ok((epoch, JournalWriter::start(segment)?))
    }

    /// Takes steps until the run is over, and keeps how it ended.
    pub(super) fn conduct<U: Undertaking>(self, begun: Begun<U>, on_begun: impl FnOnce()) {
        let n_resumed = begun.resumed.committed.len() as u64;
        let start = JobStart {
            job: begun.record.id(),
            epoch: RunEpoch(begun.record.run),
            adopts_from: RunEpoch(begun.record.adopts_from),
            round: begun.resumed.round,
            n_tasks: begun.job.n_tasks(),
            needs: begun.undertaking.needs(&begun.job),
            committed: begun.resumed.committed,
            // Nobody knows what other machines left in the file: all of it is read back.
            resumed: true,
            took_over: begun.took_over,
            one_machine: false,
            assign: begun.record.assign.with(begun.record.planned_for.workers),
            backups: true,
            when_full: WhenFull::Stop,
            deadline: None,
            // Who they are, the host knows.
            unable: BTreeSet::new(),
        };
        let (id, epoch) = (start.job, start.epoch);
        let (orders, at_orders) = std::sync::mpsc::channel();
        let under_way = Arc::new(UnderWay::default());
        let opened = OpenedJob {
            start,
            record: begun.record.clone(),
            orders,
            under_way: Arc::clone(&under_way),
            kind: begun.undertaking.kind().to_owned(),
            needs_code: begun.undertaking.needs_code(),
            files: begun.folder.files().clone(),
            n_resumed,
        };
        let is_heard = self
            .to_host
            .tell(Told::Opened(self.to_host.ticket, Box::new(opened)));
        // If not by this driver, then by the next one: it is in its record.
        on_begun();
        if !is_heard {
            return;
        }
        let watch = Watch {
            stop: &self.stop,
            leads: &*self.ground.leads,
            findings: &|recovered| begun.undertaking.findings(recovered),
        };
        let mut steps = JobSteps {
            job: &*begun.job,
            disk: Arc::clone(begun.folder.disk()),
            files: begun.folder.files().clone(),
            journal: begun.writer.handle(),
            id,
            epoch,
            n_tasks: begun.job.n_tasks(),
            may_replace_output: begun.record.may_replace_output,
            n_verifiers: thread::available_parallelism().map_or(1, usize::from),
            watch: &watch,
        };
        let ended = take_steps(&mut steps, &at_orders, &under_way, &self.to_host.inbox);
        drop(steps);
        drop(begun.writer);
        let Some(ended) = ended else {
            // This driver drives no more: the next one goes on.
            begun.folder.let_go();
            return;
        };
        // Before anybody can hear of the end, and begin something else here.
        if ended.end == JobEnd::Done {
            release(begun.folder);
        } else {
            drop(begun.folder);
        }
        tell_end(self.ground, self.to_host, begun.record, &begun.undertaking, ended);
    }
}

/// The next driver may be asked the same.
pub(super) fn leads_no_more() -> CliError {
    CliError::new(Exit::Unreachable, "another driver drives the cluster now").with_next("ask again")
}

/// Ends the use of a finished job's folder.
pub(super) fn release(folder: JobFolder) {
    if let Err(error) = folder.finish() {
        tracing::warn!(%error, "the folder of a finished job keeps its lock file");
    }
}

fn take_steps<J: Job + ?Sized>(
    steps: &mut JobSteps<'_, J>,
    orders: &Receiver<Order>,
    under_way: &UnderWay,
    inbox: &Sender<DriverEvent>,
) -> Option<RunEnd> {
    for order in orders {
        match order {
            Order::Step(step) => {
                under_way.set(Some(step));
                let taken = steps.take(step);
                under_way.set(None);
                let _ = inbox.send(taken);
            }
            Order::End(end) => return Some(end),
        }
    }
    None
}

struct Watch<'a> {
    stop: &'a AtomicBool,
    leads: &'a (dyn Fn() -> bool + Send + Sync),
    findings: &'a (dyn Fn(&Recovered) -> Value + Sync),
}

impl StepWatch for Watch<'_> {
    fn stop_requested(&self) -> Option<StopCause> {
        self.stop
            .load(Ordering::Relaxed)
            .then_some(StopCause::Interrupted)
    }

    fn on_damaged_output(&self, task: TaskIdx) {
        tracing::warn!(task = task.0, "the stored tile is damaged and is computed again");
    }

    fn on_note(&self, note: &str) {
        tracing::warn!("{note}");
    }

    fn may_finish(&self) -> bool {
        (self.leads)()
    }

    fn report(&self, recovered: &Recovered) -> Vec<u8> {
        (self.findings)(recovered).to_string().into_bytes()
    }
}
