//! A job of the program's own at a worker: its rounds begin where the driver says so in the job's folder.

use super::{Enter, OpenJob, Opened, Opening, refused};
use crate::job::rounds::{Place, StartedJob};
use crate::job::running::{Description, identities};
use std::sync::{Arc, Mutex, PoisonError};
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::RoundIdx;
use tilework_runtime::description::FORMAT_VERSION;
use tilework_runtime::journal_writer::JournalHandle;
use tilework_store::journal::begun_round;

/// Opens it.
pub(super) fn open(opening: Opening<'_>, description: &Description) -> Result<Opened<OpenJob>, Failure> {
    let (name, version) = (&description.kind, description.version);
    let kinds = opening.jobs.kinds.iter();
    let kind = kinds.copied().find(|kind| kind.name() == name);
    let kind = kind.filter(|kind| kind.version() == version).ok_or_else(|| {
        let text = format!("the program of this worker knows no job `{name}` of version {version}");
        Failure::retry(Cause::Job, text)
    })?;
    if description.format_version != FORMAT_VERSION {
        let text = "the job was begun by another release of tilework";
        return Err(refused(text.to_owned()));
    }
    let failed = |error: crate::failure::CliError| opening.input_failure(&error.message);
    let spec = kind.read(description.spec.clone()).map_err(failed)?;
    let inputs = identities(&spec.inputs, &*opening.disk).map_err(failed)?;
    opening.check_inputs(&inputs)?;
    let place = Place {
        disk: Arc::clone(&opening.disk),
        files: opening.files.clone(),
        inputs,
        tally: Arc::default(),
    };
    let job = kind.start(&spec, place).map_err(failed)?;
    let enter = entering(&opening, Arc::clone(&job));
    opening.open(job, Some(enter), false)
}

/// Rounds are entered by what their beginning says, which may be that of another driver than the one that released the task.
fn entering(opening: &Opening<'_>, job: Arc<StartedJob>) -> Enter {
    let (disk, files, id) = (Arc::clone(&opening.disk), opening.files.clone(), opening.job);
    let segments = opening.segments();
    let entered = Mutex::new(RoundIdx(0));
    Box::new(move |round: RoundIdx, journal: &JournalHandle| {
        let mut entered = entered.lock().unwrap_or_else(PoisonError::into_inner);
        if round <= *entered {
            return Ok(());
        }
        let storage = |text: String| Failure::retry(Cause::Storage, text);
        let begun = begun_round(&*disk, &files, id, round)
            .map_err(|error| storage(format!("cannot read how round {round} begins: {error}")))?;
        let (_, start) = begun.ok_or_else(|| {
            storage(format!(
                "round {round} of the job is over, or its beginning is not seen on this machine"
            ))
        })?;
        job.adopt(&start)?;
        *entered = round;
        let segments = segments.clone();
        journal.follow(move |current| segments.follow(current, round));
        Ok(())
    })
}
