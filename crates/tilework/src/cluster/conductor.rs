//! One job at its driver: a thread that opens it, holds its folder, and takes the steps that the driver machine asks for, so that
//! reading a large output back never keeps the driver from hearing its workers.

use super::ending::{RunEnd, tell_end};
use super::ground::Ground;
use super::record::{JobRecord, unix_ms};
use super::submission::{Submission, submitted};
use super::takeover::take_over;
use super::to_host::{OpenedJob, Order, ToHost, Told};
use crate::failure::{CliError, Exit};
use crate::product::inputs::Inputs;
use crate::product::request::{Description, ProductRequest};
use crate::product::running::Residuals;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use tilework_core::driver::{DriverEvent, JobStart, Needs, WhenFull};
use tilework_core::failure::{JobEnd, StopCause};
use tilework_core::ids::{RoundIdx, RunEpoch, TaskIdx};
use tilework_linalg::{Multiply, Number, Plan};
use tilework_runtime::journal_writer::JournalWriter;
use tilework_runtime::steps::{JobSteps, StepWatch};
use tilework_runtime::{Job, JobFolder};
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

/// A job at its driver, with its inputs open.
pub(super) struct Conducting<'a> {
    pub ground: &'a Ground,
    pub asked: ProductRequest,
    pub inputs: Inputs,
    /// Makes its steps stop early.
    pub stop: Arc<AtomicBool>,
    pub to_host: &'a ToHost,
}

/// A job whose run has its number, and is in its record.
pub(super) struct Begun<T: Number> {
    pub folder: JobFolder,
    pub writer: JournalWriter,
    pub record: JobRecord,
    pub committed: Vec<TaskIdx>,
    pub took_over: bool,
    pub job: Multiply<T>,
    pub plan: Plan,
    pub description: Description,
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
    pub(super) fn begin_run<J: Job>(
        &self,
        job: &J,
        folder: &mut JobFolder,
        description: &Description,
        resumed: bool,
        at_least: RunEpoch,
    ) -> Result<(RunEpoch, JournalWriter), CliError> {
        self.check_leads()?;
        if !resumed {
            folder.discard()?;
        }
        job.open_outputs(resumed)?;
        let (epoch, segment) = folder
            .start_run(at_least, &description.to_text(), unix_ms())
            .map_err(|error| CliError::io("start the journal in", &folder.files().folder(), &error))?;
        Ok((epoch, JournalWriter::start(segment)))
    }

    /// Takes steps until the run is over, and keeps how it ended.
    pub(super) fn conduct<T: Number>(self, begun: Begun<T>, on_begun: impl FnOnce()) {
        let n_resumed = begun.committed.len() as u64;
        let start = JobStart {
            job: begun.description.id(),
            epoch: RunEpoch(begun.record.run),
            adopts_from: RunEpoch(begun.record.adopts_from),
            round: RoundIdx(0),
            n_tasks: begun.job.n_tasks(),
            needs: Needs {
                // What is compared with the memory of a whole process.
                memory_bytes: self.asked.resources.bytes_needed::<T>(&self.inputs, &begun.plan),
                expected_ms: begun.job.needs().expected_ms,
                deadline_ms: begun.job.needs().deadline_ms,
            },
            committed: begun.committed,
            // Nobody knows what other machines left in the file: all of it is read back.
            resumed: true,
            took_over: begun.took_over,
            one_machine: false,
            assign: begun.record.assign.with(begun.record.planned_for.workers),
            backups: true,
            when_full: WhenFull::Stop,
            deadline: None,
        };
        let (id, epoch) = (start.job, start.epoch);
        let (orders, at_orders) = std::sync::mpsc::channel();
        let opened = OpenedJob {
            start,
            record: begun.record.clone(),
            orders,
            kind: begun.description.kind.clone(),
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
        };
        let mut steps = JobSteps {
            job: &begun.job,
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
        let ended = take_steps(&mut steps, &at_orders, &self.to_host.inbox);
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
        let (record, plan) = (begun.record, &begun.plan);
        tell_end(self.ground, self.to_host, record, &self.inputs, plan, ended);
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

fn take_steps<J: Job>(
    steps: &mut JobSteps<'_, J>,
    orders: &Receiver<Order>,
    inbox: &Sender<DriverEvent>,
) -> Option<RunEnd> {
    for order in orders {
        match order {
            Order::Step(step) => {
                let _ = inbox.send(steps.take(step));
            }
            Order::End(end) => return Some(end),
        }
    }
    None
}

struct Watch<'a> {
    stop: &'a AtomicBool,
    leads: &'a (dyn Fn() -> bool + Send + Sync),
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

    fn may_finish(&self) -> bool {
        (self.leads)()
    }

    fn report(&self, recovered: &Recovered) -> Vec<u8> {
        let Residuals { max, bound } = Residuals::of(recovered);
        json!({ "residual_max": max, "residual_bound": bound })
            .to_string()
            .into_bytes()
    }
}
