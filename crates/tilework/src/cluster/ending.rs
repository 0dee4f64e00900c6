//! How a job's run ended, as its record tells it.

use super::ground::Ground;
use super::keeping::{Kept, keep};
use super::record::{JobRecord, JobStands, key_of, unix_ms};
use super::to_host::{ToHost, Told};
use super::undertaking::Undertaking;
use crate::failure::{CliError, Exit};
use crate::product::running::{failed, stopped};
use serde_json::json;
use std::path::Path;
use std::thread;
use std::time::Duration;
use tilework_core::failure::JobEnd;
use tilework_store::journal::JobFiles;

/// Pause before the store is asked again to keep an end that it refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

/// How a run ended, as its driver knows it.
pub struct RunEnd {
    /// How.
    pub end: JobEnd,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
    /// What is told of it beside what the journal knows.
    pub facts: serde_json::Value,
}

/// Keeps how a run ended, and tells the driver.
pub(super) fn tell_end<U: Undertaking>(
    ground: &Ground,
    to_host: &ToHost,
    record: JobRecord,
    undertaking: &U,
    ended: RunEnd,
) {
    let RunEnd {
        end,
        cancelled,
        facts,
    } = ended;
    let output = Path::new(&record.output);
    let (stands, error) = match end {
        JobEnd::Done => {
            let report = report(ground, &record, undertaking, &facts);
            return end_record(ground, to_host, record, JobStands::Done, Ok(report));
        }
        JobEnd::Stopped(_) if cancelled => (JobStands::Cancelled, cancelled_error(output)),
        JobEnd::Stopped(cause) => (JobStands::Stopped, stopped(cause, output, None)),
        JobEnd::Failed(failure) => (JobStands::Failed, failed(&failure, output, true)),
    };
    end_record(ground, to_host, record, stands, Err(error.with_facts(facts)));
}

/// What waiting commands end with when somebody cancels the job.
pub(super) fn cancelled_error(output: &Path) -> CliError {
    CliError::new(Exit::Cancelled, "cancelled: what was committed is kept")
        .with_next(format!("go on with: tilework resume {}", output.display()))
}

/// Keeps how a job ended, and tells the driver; unless this process does not drive any more: the next one sees at the output how far the job
/// is.
pub(super) fn end_record(
    ground: &Ground,
    to_host: &ToHost,
    record: JobRecord,
    stands: JobStands,
    outcome: Result<serde_json::Value, CliError>,
) {
    let (report, error) = match outcome {
        Ok(report) => (Some(report), None),
        Err(error) => (None, Some(error)),
    };
    let mut record = record;
    record.stands = stands;
    record.ended_unix_ms = Some(unix_ms());
    record.report = report;
    record.failure = error.map(Into::into);
    loop {
        match keep(ground, &record) {
            Kept::Yes => {
                to_host.tell(Told::Ended(Box::new(record)));
                return;
            }
            Kept::NotOurs => return,
            // An end without its details is better than none.
            Kept::Refused(_) if record.has_details() => record.drop_details(),
            Kept::Refused(error) => {
                tracing::error!(output = record.output, %error, "the end of a job is not kept yet");
                thread::sleep(REFUSED_PAUSE);
            }
        }
    }
}

/// What is told of a finished job: the names are those of one machine's report.
fn report<U: Undertaking>(
    ground: &Ground,
    record: &JobRecord,
    undertaking: &U,
    facts: &serde_json::Value,
) -> serde_json::Value {
    let disk = ground.disk();
    let files = JobFiles::beside(Path::new(&record.output));
    let recovered = tilework_store::journal::recover(&*disk, &files);
    let recovered = recovered.ok().flatten().map(|(recovered, _)| recovered);
    let seconds = unix_ms().saturating_sub(record.submitted_unix_ms) as f64 / 1e3;
    let known = undertaking.facts();
    let findings = recovered
        .as_ref()
        .map(|recovered| undertaking.findings(recovered));
    let mut report = json!({
        "status": "done",
        "id": key_of(record.id()),
        "output": record.output,
        "seconds": seconds,
    });
    if let Some(flops) = known.flops {
        report["gflops"] = json!(flops / seconds.max(1e-3) / 1e9);
    }
    for members in [Some(&known.json), findings.as_ref(), Some(facts)]
        .into_iter()
        .flatten()
    {
        if let (Some(report), Some(members)) = (report.as_object_mut(), members.as_object()) {
            report.extend(members.clone());
        }
    }
    let seconds_busy = recovered
        .map(|recovered| undertaking.seconds_busy(&recovered))
        .unwrap_or_default();
    for worker in report["workers"].as_array_mut().into_iter().flatten() {
        let number = worker["worker"]
            .as_u64()
            .and_then(|number| number.try_into().ok());
        let seconds = number.and_then(|number: u32| seconds_busy.get(&number));
        worker["seconds_busy"] = json!(seconds.copied().unwrap_or_default());
    }
    report
}
