//! Writes a job's record so that no driver overwrites what a later one wrote, and none is left without a driver because an answer was lost.

use super::ground::Ground;
use super::joining::unanswered;
use super::record::{JobRecord, JobStands, key_of};
use crate::failure::CliError;
use std::thread;
use std::time::Duration;
use tilework_core::ids::{JobId, RunEpoch};
use tilework_nats::{Bucket, Control, ControlError};

/// Pause before a record is written again.
const KEEP_PAUSE: Duration = Duration::from_millis(500);
/// Times that somebody's change of a record may come first.
const CHANGE_TRIES: u32 = 20;

/// What came of writing a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is written.
    Yes,
    /// This driver leads no more, or another has gone on with the job.
    NotOurs,
    /// The store has no place for it.
    Refused(ControlError),
}

/// Writes the record of a run, for as long as it takes while this process drives. What was written and not answered is written again:
/// a record that stays without its driver would be a job that nobody goes on with.
pub(super) fn keep(ground: &Ground, record: &JobRecord) -> Kept {
    let key = key_of(record.id());
    while (ground.leads)() {
        match try_keep(&ground.control, &key, record) {
            Ok(true) => return Kept::Yes,
            Ok(false) => return Kept::NotOurs,
            Err(error @ (ControlError::TooLarge { .. } | ControlError::Refused { .. })) => {
                return Kept::Refused(error);
            }
            Err(error) => tracing::warn!(job = key, %error, "the job's record is not kept yet"),
        }
        thread::sleep(KEEP_PAUSE);
    }
    Kept::NotOurs
}

fn try_keep(control: &Control, key: &str, record: &JobRecord) -> Result<bool, ControlError> {
    let entry = control.get(Bucket::Jobs, key)?;
    let (revision, kept) = entry.map_or((0, None), |entry| {
        (entry.revision, JobRecord::from_bytes(key, &entry.value).ok())
    });
    if kept.as_ref().is_some_and(|kept| is_written(kept, record)) {
        return Ok(true);
    }
    if !is_ours(kept.as_ref(), record) {
        return Ok(false);
    }
    let mut record = record.clone();
    // Also where this is the run of a driver that takes the job over; but who submits it anew wants it.
    let is_same = |kept: &JobRecord| kept.submitted_unix_ms == record.submitted_unix_ms;
    record.cancel_asked |= kept.is_some_and(|kept| kept.cancel_asked && is_same(&kept));
    let set = control.set(Bucket::Jobs, key, &record.to_bytes(), revision);
    set.map(|_| true)
}

/// Whether a run may write over what is kept: only its own driver writes of a run that is not over.
fn is_ours(kept: Option<&JobRecord>, record: &JobRecord) -> bool {
    kept.is_none_or(|kept| {
        kept.run < record.run || kept.run == record.run && kept.stands == JobStands::Running
    })
}

/// Whether the end of a run is kept already: the answer to an earlier try was lost.
fn is_written(kept: &JobRecord, record: &JobRecord) -> bool {
    let end = |record: &JobRecord| (record.run, record.stands, record.ended_unix_ms);
    record.stands != JobStands::Running && end(kept) == end(record)
}

/// Workers know a run by its job and number, also one whose files somebody has removed since.
pub(super) fn after_last_run(ground: &Ground, job: JobId) -> Result<RunEpoch, CliError> {
    let record = look(&ground.control, job).map_err(|error| unanswered(&error))?;
    Ok(RunEpoch(
        record.map_or(0, |(_, record)| record.run.saturating_add(1)),
    ))
}

/// Keeps that somebody wants the job's end, so that whoever drives it next ends it. Whether it was going on.
pub(super) fn ask_to_cancel(control: &Control, job: JobId) -> Result<bool, CliError> {
    for _ in 0..CHANGE_TRIES {
        let found = look(control, job).map_err(|error| unanswered(&error))?;
        let Some((revision, mut record)) = found.filter(|(_, record)| record.stands == JobStands::Running)
        else {
            return Ok(false);
        };
        record.cancel_asked = true;
        match control.set(Bucket::Jobs, &key_of(job), &record.to_bytes(), revision) {
            Ok(_) => return Ok(true),
            Err(ControlError::Changed) => {}
            Err(error) => return Err(unanswered(&error)),
        }
    }
    Err(unanswered(&ControlError::Changed))
}

/// Whether somebody wants the job's end.
pub(super) fn is_cancel_asked(control: &Control, job: JobId) -> Result<bool, ControlError> {
    Ok(look(control, job)?.is_some_and(|(_, record)| record.cancel_asked))
}

/// Removes the record of a job that ended long ago, unless it runs again.
pub(super) fn forget(control: &Control, job: JobId) -> Result<(), ControlError> {
    match look(control, job)? {
        Some((revision, record)) if record.stands != JobStands::Running => {
            match control.delete_unchanged(Bucket::Jobs, &key_of(job), revision) {
                // Somebody submits it again just now.
                Err(ControlError::Changed) => Ok(()),
                deleted => deleted,
            }
        }
        _ => Ok(()),
    }
}

fn look(control: &Control, job: JobId) -> Result<Option<(u64, JobRecord)>, ControlError> {
    let key = key_of(job);
    let entry = control.get(Bucket::Jobs, &key)?;
    Ok(entry.and_then(|entry| {
        let record = JobRecord::from_bytes(&key, &entry.value).ok()?;
        Some((entry.revision, record))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::protocol::AssignName;
    use crate::cluster::record::{NewJob, PlannedFor};

    fn record(run: u32, stands: JobStands) -> JobRecord {
        let record = JobRecord::new(NewJob {
            token: String::new(),
            job_text: "{}".to_owned(),
            output: "data:/C.npy".to_owned(),
            run,
            inputs: Vec::new(),
            assign: AssignName::Dynamic,
            may_replace_output: false,
            planned_for: PlannedFor {
                memory_bytes: 1,
                threads: 1,
                workers: 1,
            },
            deadline_unix_ms: None,
        });
        let mut record = record;
        record.stands = stands;
        record
    }

    #[test]
    fn a_run_writes_over_earlier_runs_and_over_itself_until_it_is_over() {
        let begun = record(3, JobStands::Running);
        assert!(is_ours(None, &begun));
        assert!(is_ours(Some(&record(2, JobStands::Running)), &begun));
        assert!(is_ours(Some(&record(2, JobStands::Done)), &begun));
        assert!(is_ours(Some(&begun), &record(3, JobStands::Done)));
        assert!(!is_ours(Some(&record(3, JobStands::Cancelled)), &begun));
        let mut ended = record(3, JobStands::Done);
        ended.ended_unix_ms = Some(7);
        assert!(is_written(&ended.clone(), &ended), "its answer was lost");
        assert!(!is_written(&begun, &ended) && !is_written(&begun, &begun));
        assert!(!is_ours(
            Some(&record(4, JobStands::Running)),
            &record(3, JobStands::Done)
        ));
    }
}
