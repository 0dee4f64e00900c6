//! What the driver's threads prepare: jobs that are being opened, plans, the marks of those that are cancelled.

use super::board::JobOnBoard;
use super::to_host::Ticket;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tilework_core::ids::JobId;

/// Threads that prepare something at a time; what is asked beyond that waits.
const AT_ONCE_MAX: usize = 16;

/// Something that a thread prepares.
#[derive(Debug, Default)]
pub(super) struct Preparation {
    /// Makes it stop early.
    pub stop: Arc<AtomicBool>,
    /// The output that it is about, if it may change what is there.
    pub output: Option<String>,
    /// As it is shown, where it was a job before.
    pub job: Option<(JobId, Box<JobOnBoard>)>,
    /// Whether somebody wants the job's end.
    pub cancelled: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Preparations {
    n_begun: u64,
    under_way: BTreeMap<Ticket, Preparation>,
}

impl Preparations {
    pub(super) fn begin(&mut self, preparation: Preparation) -> Ticket {
        let ticket = Ticket(self.n_begun);
        self.n_begun += 1;
        self.under_way.insert(ticket, preparation);
        ticket
    }

    /// It is open, or came to nothing.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<Preparation> {
        self.under_way.remove(&ticket)
    }

    /// What keeps a job from being opened.
    pub(super) fn waits(&mut self, ticket: Ticket, why: String) {
        let preparation = self.under_way.get_mut(&ticket);
        if let Some((_, job)) = preparation.and_then(|preparation| preparation.job.as_mut()) {
            job.waits_for = Some(why);
        }
    }

    /// Whether jobs and plans have to wait.
    pub(super) fn are_full(&self) -> bool {
        self.n_counted() >= AT_ONCE_MAX
    }

    /// Whether anything has to wait.
    pub(super) fn are_too_many(&self) -> bool {
        self.n_counted() >= 2 * AT_ONCE_MAX
    }

    /// Jobs that are taken over are not counted: they may wait for long.
    fn n_counted(&self) -> usize {
        let counted = self
            .under_way
            .values()
            .filter(|preparation| preparation.job.is_none());
        counted.count()
    }

    /// Whatever is about that output.
    pub(super) fn to(&self, output: &str) -> Option<&Preparation> {
        let mut preparations = self.under_way.values();
        preparations.find(|preparation| preparation.output.as_deref() == Some(output))
    }

    /// The preparation of a job.
    pub(super) fn of(&mut self, job: JobId) -> Option<&mut Preparation> {
        let mut preparations = self.under_way.values_mut();
        preparations.find(|preparation| preparation.job.as_ref().is_some_and(|(id, _)| *id == job))
    }

    /// Jobs that are being taken over, as they are shown.
    pub(super) fn on_board(&self) -> impl Iterator<Item = &JobOnBoard> {
        self.under_way
            .values()
            .filter_map(|preparation| preparation.job.as_ref().map(|(_, job)| &**job))
    }

    pub(super) fn stop_all(&self) {
        for preparation in self.under_way.values() {
            preparation.stop.store(true, Ordering::Relaxed);
        }
    }
}
