//! What a run tells on its way: the plan, notes, progress, alarms.

use crate::output::Output;
use crate::product::inputs::Inputs;
use crate::product::report::write_plan;
use crate::product::running::Audience;
use crate::progress::{ProgressBar, RoundBar};
use crate::webhook::{Delivery, Webhook};
use std::sync::OnceLock;
use tilework_core::alarm::Alarm;
use tilework_core::failure::Failure;
use tilework_core::ids::{Attempt, TaskIdx};
use tilework_linalg::Plan;
use tilework_runtime::run::Progress;
use tilework_runtime::{LoggedAlarm, Observer};

/// Tells people on stderr, and a webhook if there is one.
#[derive(Debug)]
pub struct Teller<'a> {
    output: &'a Output,
    webhook: Option<Webhook>,
    bar: OnceLock<ProgressBar>,
}

impl<'a> Teller<'a> {
    /// Tells as `output` wants it.
    pub fn new(output: &'a Output, webhook: Option<Webhook>) -> Teller<'a> {
        Teller {
            output,
            webhook,
            bar: OnceLock::new(),
        }
    }

    /// Takes the progress bar away, and gives the webhook its last seconds.
    pub fn finish(self) -> Option<Delivery> {
        self.bar.get().inspect(|bar| bar.finish());
        let delivery = self.webhook.map(Webhook::finish);
        delivery.inspect(Delivery::warn)
    }
}

impl Audience for Teller<'_> {
    fn on_plan(&self, plan: &Plan, inputs: &Inputs, n_committed: u64) {
        let mut text = Vec::new();
        if write_plan(&mut text, plan, inputs).is_ok() {
            self.output.note(String::from_utf8_lossy(&text).trim_end());
        }
        let n_tasks = plan.grid.n_tiles();
        if n_committed > 0 {
            self.output.note(&format!(
                "resuming: {n_committed} of {n_tasks} tasks are committed already"
            ));
        }
        let remaining = plan.flops() * (n_tasks - n_committed.min(n_tasks)) as f64 / n_tasks.max(1) as f64;
        let _ = self
            .bar
            .set(ProgressBar::new(self.output, n_tasks, remaining as u64));
    }

    fn on_note(&self, note: &str) {
        self.output.note(&format!("note: {note}"));
    }

    fn observer(&self) -> &dyn Observer {
        self
    }
}

impl Observer for Teller<'_> {
    fn on_progress(&self, progress: &Progress) {
        self.bar.get().inspect(|bar| bar.on_progress(progress));
    }
    fn on_started(&self, attempt: Attempt) {
        self.bar.get().inspect(|bar| bar.on_started(attempt));
    }
    fn on_committed(&self, attempt: Attempt) {
        self.bar.get().inspect(|bar| bar.on_committed(attempt));
    }
    fn on_failed(&self, attempt: Attempt, failure: &Failure) {
        self.bar.get().inspect(|bar| bar.on_failed(attempt, failure));
    }
    fn on_alarm(&self, alarm: &Alarm, logged: &LoggedAlarm) {
        self.bar.get().inspect(|bar| bar.on_alarm(alarm, logged));
        self.webhook
            .as_ref()
            .inspect(|webhook| webhook.send(alarm, logged));
    }
    fn on_note(&self, note: &str) {
        self.output.note(&format!("note: {note}"));
    }
    fn on_damaged_output(&self, task: TaskIdx) {
        self.bar.get().inspect(|bar| bar.on_damaged_output(task));
    }
}

/// Tells of a job that is no product: as [`Teller`], with a bar for each round.
#[derive(Debug)]
pub struct RoundTeller<'a> {
    output: &'a Output,
    webhook: Option<Webhook>,
    bar: RoundBar,
}

impl<'a> RoundTeller<'a> {
    /// Tells as `output` wants it.
    pub fn new(output: &'a Output, webhook: Option<Webhook>) -> RoundTeller<'a> {
        RoundTeller {
            output,
            webhook,
            bar: RoundBar::new(output),
        }
    }

    /// Takes the bar away, and gives the webhook its last seconds.
    pub fn finish(self) -> Option<Delivery> {
        self.bar.finish();
        let delivery = self.webhook.map(Webhook::finish);
        delivery.inspect(Delivery::warn)
    }
}

impl Observer for RoundTeller<'_> {
    fn on_progress(&self, progress: &Progress) {
        self.bar.on_progress(progress);
    }
    fn on_failed(&self, attempt: Attempt, failure: &Failure) {
        self.bar.on_failed(attempt, failure);
    }
    fn on_alarm(&self, alarm: &Alarm, logged: &LoggedAlarm) {
        self.bar.on_alarm(alarm, logged);
        self.webhook
            .as_ref()
            .inspect(|webhook| webhook.send(alarm, logged));
    }
    fn on_note(&self, note: &str) {
        self.output.note(&format!("note: {note}"));
    }
}
