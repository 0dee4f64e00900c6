//! A job that another driver left. What may pass, such as a data root that is not mounted yet, is waited for: nobody loses work because
//! a driver started too early.

use super::conductor::{Begun, Conducting, Resumed, release};
use super::ending::{RunEnd, cancelled_error, end_record, tell_end};
use super::ground::Ground;
use super::keeping::{Kept, is_cancel_asked, keep};
use super::record::{JobRecord, JobStands};
use super::to_host::{ToHost, Told};
use super::undertaking::{OwnJob, Product, Undertaking, any_description, stored_product};
use crate::failure::{CliError, Exit};
use crate::job_state::is_product;
use crate::product::request::Description;
use crate::product::running::{failed, stopped};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::failure::{JobEnd, StopCause};
use tilework_core::ids::RunEpoch;
use tilework_linalg::Number;
use tilework_runtime::{FolderState, JobFolder};
use tilework_store::element_type::Dtype;
use tilework_store::journal::Recovered;

/// Pause before a job that can't be taken over yet is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How often it is seen meanwhile whether the job is still wanted.
const RETRY_POLL: Duration = Duration::from_millis(100);

/// Why a job is not taken over.
enum NotTaken {
    /// What keeps it may pass.
    Yet(CliError),
    /// Nobody can go on with it.
    Ever(CliError),
}

impl<E: Into<CliError>> From<E> for NotTaken {
    fn from(error: E) -> NotTaken {
        NotTaken::Yet(error.into())
    }
}

/// Goes on with the job, as soon as that is possible, to its end. `stop` gives up before it has begun.
pub(super) fn take_over(ground: &Ground, record: JobRecord, stop: Arc<AtomicBool>, to_host: &ToHost) {
    let mut told: Option<String> = None;
    let deadline = record.deadline();
    loop {
        match try_take_over(ground, &record, &stop, to_host) {
            Ok(()) => return,
            Err(NotTaken::Ever(error)) => {
                tracing::error!(output = record.output, "nobody can go on: {}", error.message);
                return end_record(ground, to_host, record, JobStands::Failed, Err(error));
            }
            Err(NotTaken::Yet(error)) if told.as_ref() != Some(&error.message) => {
                let why = error.message;
                tracing::warn!(output = record.output, "can't be taken over yet: {why}");
                to_host.tell(Told::Waits(to_host.ticket, why.clone()));
                told = Some(why);
            }
            Err(NotTaken::Yet(_)) => {}
        }
        pause(&stop);
        let output = Path::new(&record.output);
        if !(ground.leads)() {
            return;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let error = stopped(StopCause::TimeLimit, output, None);
            return end_record(ground, to_host, record, JobStands::Stopped, Err(error));
        }
        if stop.load(Ordering::Relaxed) {
            match is_cancel_asked(&ground.control, record.id()) {
                Ok(true) => {
                    let error = cancelled_error(output);
                    return end_record(ground, to_host, record, JobStands::Cancelled, Err(error));
                }
                // The driver ends.
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "whether a job is still wanted is not known"),
            }
        }
    }
}

fn pause(stop: &AtomicBool) {
    let until = Instant::now() + RETRY_PAUSE;
    thread::sleep(RETRY_POLL);
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        thread::sleep(RETRY_POLL);
    }
}

fn try_take_over(
    ground: &Ground,
    record: &JobRecord,
    stop: &Arc<AtomicBool>,
    to_host: &ToHost,
) -> Result<(), NotTaken> {
    let output = PathBuf::from(&record.output);
    let conducting = Conducting {
        ground,
        output: output.clone(),
        stop: Arc::clone(stop),
        to_host,
    };
    let by_another_release = |error| {
        let message = format!("`{}` was begun by another release: {error}", record.output);
        let error = CliError::new(Exit::JobFailed, message);
        NotTaken::Ever(error.with_next(format!(
            "go on with that release: tilework resume {}",
            record.output
        )))
    };
    let described = any_description(&record.job_text).map_err(by_another_release)?;
    if !is_product(&described.kind) {
        return conducting.take_over(record, OwnJob::stored(ground, described, output)?);
    }
    let description = Description::from_text(record.job_text.as_bytes()).map_err(by_another_release)?;
    match description.spec.dtype {
        Dtype::F64 => conducting.take_over(record, stored::<f64>(ground, record, description)?),
        Dtype::F32 => conducting.take_over(record, stored::<f32>(ground, record, description)?),
    }
}

/// The product that the record describes.
fn stored<T: Number>(
    ground: &Ground,
    record: &JobRecord,
    description: Description,
) -> Result<Product<T>, CliError> {
    let output = PathBuf::from(&record.output);
    let replaces = record.may_replace_output;
    let (asked, inputs) = stored_product(ground, &description, output, record.planned_for, replaces)?;
    let plan = asked
        .resources
        .plan::<T>(&inputs, asked.algorithm, Some(&description))?;
    Ok(Product::planned(
        ground,
        asked,
        inputs,
        plan,
        description,
        Vec::new(),
    ))
}

impl Conducting<'_> {
    fn take_over<U: Undertaking>(self, record: &JobRecord, undertaking: U) -> Result<(), NotTaken> {
        let disk = self.ground.disk();
        let mut folder = JobFolder::take_over(Arc::clone(&disk), &self.output)?;
        let text = undertaking.text();
        match folder.state() {
            FolderState::Finished(recovered) if is_job(recovered, &text) => {
                // The driver before may have died before the name was durable.
                let parent = folder.files().parent();
                disk.sync_dir(&parent)
                    .map_err(|error| CliError::io("make names durable in", &parent, &error))?;
                release(folder);
                let ended = RunEnd {
                    end: JobEnd::Done,
                    cancelled: false,
                    // Who did what, only the driver before knew.
                    facts: json!({}),
                };
                tell_end(self.ground, self.to_host, record.clone(), &undertaking, ended);
                return Ok(());
            }
            FolderState::Unfinished(recovered) if is_job(recovered, &text) => {}
            _ => {
                let message = format!("what was begun of `{}` is gone", record.output);
                let error = CliError::new(Exit::JobFailed, message).with_next("submit it again");
                return Err(NotTaken::Ever(error));
            }
        }
        if record.cancel_asked {
            drop(folder);
            let error = cancelled_error(&self.output);
            end_record(
                self.ground,
                self.to_host,
                record.clone(),
                JobStands::Cancelled,
                Err(error),
            );
            return Ok(());
        }
        // Not before: the output of a job that is complete may have taken the place of what it added.
        let inputs = undertaking.identities()?;
        record
            .check_inputs(&inputs)
            .map_err(|failure| NotTaken::Ever(failed(&failure, &self.output, true)))?;
        let job = undertaking.start()?;
        let resumed = Resumed::of(&*job, &folder)
            .map_err(|failure| NotTaken::Ever(failed(&failure, &self.output, true)))?;
        let after_last = RunEpoch(record.run.saturating_add(1));
        let (epoch, writer) = self.begin_run(&*job, &mut folder, &text, true, after_last)?;
        let mut record = record.clone();
        record.run = epoch.0;
        // With the run that has begun: another one each time would leave a file each time.
        loop {
            match keep(self.ground, &record) {
                Kept::Yes => break,
                Kept::NotOurs => return Ok(()),
                Kept::Refused(error) => {
                    let why = format!("the job can't be kept in the cluster: {error}");
                    if self.stop.load(Ordering::Relaxed) {
                        return Err(CliError::new(Exit::Unreachable, why).into());
                    }
                    self.to_host.tell(Told::Waits(self.to_host.ticket, why));
                    pause(&self.stop);
                }
            }
        }
        let begun = Begun {
            folder,
            writer,
            record,
            resumed,
            took_over: true,
            job,
            undertaking,
        };
        self.conduct(begun, || ());
        Ok(())
    }
}

fn is_job(recovered: &Recovered, text: &[u8]) -> bool {
    recovered.job_text.as_deref() == Some(text)
}
