//! What the driver and the thread of a job say to each other.

use super::ending::RunEnd;
use super::protocol::KnownKind;
use super::record::JobRecord;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tilework_core::driver::{DriverEvent, JobStart};
use tilework_runtime::steps::Step;
use tilework_store::journal::JobFiles;

/// A job's thread, from when it is begun. No two threads of a driver have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What the driver tells a job's thread.
pub enum Order {
    /// Take a step.
    Step(Step),
    /// The run is over.
    End(RunEnd),
}

/// What a job's thread tells the driver.
pub enum Told {
    /// It can't begin yet.
    Waits(Ticket, String),
    /// It can begin.
    Opened(Ticket, Box<OpenedJob>),
    /// Its record says how it ended.
    Ended(Box<JobRecord>),
    /// The thread is at its end.
    Over(Ticket),
}

/// How long a step may take before it is shown.
const SHOWN_AFTER: Duration = Duration::from_secs(5);

/// The step that a job's thread takes. The end of a round may rest in the job's own code for as long as that likes.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<Option<(Step, Instant)>>);

impl UnderWay {
    /// A step begins, or the last one is over.
    pub fn set(&self, step: Option<Step>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step.map(|step| (step, Instant::now()));
    }

    /// What the job waits for, if it waits for its own code.
    pub fn waits_for(&self, now: Instant) -> Option<String> {
        let (step, since) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let elapsed = now.saturating_duration_since(since);
        match step {
            Step::Advance(round) if elapsed >= SHOWN_AFTER => Some(format!(
                "the end of round {round}, where its driver has read outputs and been in the job's `advance` for {} s",
                elapsed.as_secs()
            )),
            _ => None,
        }
    }
}

/// A job that can begin.
pub struct OpenedJob {
    /// What the machine starts from.
    pub start: JobStart,
    /// As it is stored.
    pub record: JobRecord,
    /// Where its steps are ordered.
    pub orders: Sender<Order>,
    /// The step that its thread takes.
    pub under_way: Arc<UnderWay>,
    /// What it computes.
    pub kind: String,
    /// What workers must have the code for, beyond what all programs know.
    pub needs_code: Option<KnownKind>,
    /// Its files.
    pub files: JobFiles,
    /// Tasks kept from earlier runs.
    pub n_resumed: u64,
}

/// The way from a job's thread to its driver. Dropping it says that the thread is at its end.
pub struct ToHost {
    /// Whose thread.
    pub ticket: Ticket,
    /// What is told.
    pub told: Sender<Told>,
    /// Where events of the driver machine go.
    pub inbox: Sender<DriverEvent>,
}

impl ToHost {
    /// Tells the driver, which looks for it at its next event. Whether it still listens.
    pub fn tell(&self, told: Told) -> bool {
        let is_heard = self.told.send(told).is_ok();
        let _ = self.inbox.send(DriverEvent::Tick);
        is_heard
    }
}

impl Drop for ToHost {
    fn drop(&mut self) {
        self.tell(Told::Over(self.ticket));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilework_core::ids::RoundIdx;

    #[test]
    fn only_the_end_of_a_round_that_takes_long_is_waited_for() {
        let under_way = UnderWay::default();
        let in_75_s = Instant::now() + Duration::from_secs(75);
        assert_eq!(under_way.waits_for(in_75_s), None);
        under_way.set(Some(Step::VerifyOutputs));
        assert_eq!(under_way.waits_for(in_75_s), None);
        under_way.set(Some(Step::Advance(RoundIdx(3))));
        assert_eq!(under_way.waits_for(Instant::now()), None);
        let shown = under_way.waits_for(in_75_s).unwrap();
        assert!(
            shown.contains("round 3") && shown.contains("`advance`") && shown.contains("7"),
            "{shown}"
        );
        under_way.set(None);
        assert_eq!(under_way.waits_for(in_75_s), None);
    }
}
