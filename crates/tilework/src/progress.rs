//! How far a command is: a bar on stderr where someone watches, log lines where `-v` asks for them.

use crate::human;
use crate::output::Output;
use indicatif::{ProgressDrawTarget, ProgressStyle};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tilework_core::alarm::{Alarm, AlarmKind, Severity};
use tilework_core::failure::Failure;
use tilework_core::ids::{Attempt, TaskIdx};
use tilework_runtime::run::Progress;
use tilework_runtime::{LoggedAlarm, Observer};

/// Time between two log lines about progress.
const LINE_PERIOD: Duration = Duration::from_secs(5);
/// Steps of a bar: indicatif counts in whole numbers.
const BAR_STEPS: u64 = 10_000;

/// Watches a run of a job: tasks, share of the work, rate, time left.
#[derive(Debug)]
pub struct ProgressBar {
    bar: indicatif::ProgressBar,
    /// Work of this run, in flops.
    work_total: u64,
    started: Instant,
    last_line: Mutex<Instant>,
}

impl ProgressBar {
    /// A bar for `n_tasks` tasks, of which this run has `work_total` flops left to do.
    pub fn new(output: &Output, n_tasks: u64, work_total: u64) -> ProgressBar {
        let bar = bar(output, BAR_STEPS, "{bar:30} {percent:>3} %  {msg}");
        bar.set_message(format!("0 of {}", human::counted(n_tasks, "task")));
        ProgressBar {
            bar,
            work_total,
            started: Instant::now(),
            last_line: Mutex::new(Instant::now()),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn describe(&self, progress: &Progress) -> String {
        let elapsed_s = self.started.elapsed().as_secs_f64().max(1e-9);
        let mut text = format!(
            "{} of {}",
            human::count(progress.n_committed),
            human::counted(progress.n_tasks, "task")
        );
        if progress.work_done > 0 {
            let rate = progress.work_done as f64 / elapsed_s;
            let left = self.work_total.saturating_sub(progress.work_done) as f64 / rate;
            text += &format!(
                ", {}, {} left",
                human::flops_per_s(rate),
                human::seconds(left.ceil())
            );
        }
        text
    }
}

fn tell_alarm(bar: &indicatif::ProgressBar, alarm: &Alarm) {
    let (kind, text) = (alarm.name(), alarm.text());
    bar.suspend(|| match alarm.severity() {
        // A failed attempt was told of already.
        _ if matches!(alarm.kind, AlarmKind::TaskRetried { .. }) => tracing::debug!(kind, "{text}"),
        Severity::Note => tracing::info!(kind, "{text}"),
        Severity::Warning => tracing::warn!(kind, "{text}"),
        Severity::Error => tracing::error!(kind, "{text}"),
    });
}

/// Whether enough time has passed for another line.
fn is_line_due(last: &Mutex<Instant>) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.elapsed() >= LINE_PERIOD;
    if due {
        *last = Instant::now();
    }
    due
}

impl Observer for ProgressBar {
    fn on_progress(&self, progress: &Progress) {
        let work_done = progress.work_done.min(self.work_total);
        if !self.bar.is_hidden() {
            let share = work_done as f64 / self.work_total.max(1) as f64;
            self.bar.set_position((share * BAR_STEPS as f64) as u64);
            self.bar.set_message(self.describe(progress));
        } else if is_line_due(&self.last_line) {
            // Not asked beforehand with `enabled!`: with two logs of different levels that would make the next warning of this
            // thread vanish from the coarser one.
            tracing::info!(
                "{} %: {}",
                human::percent(work_done, self.work_total),
                self.describe(progress)
            );
        }
    }

    fn on_started(&self, attempt: Attempt) {
        tracing::debug!(task = attempt.task.0, attempt = attempt.attempt.0, "started");
    }

    fn on_committed(&self, attempt: Attempt) {
        tracing::debug!(task = attempt.task.0, attempt = attempt.attempt.0, "committed");
    }

    fn on_failed(&self, attempt: Attempt, failure: &Failure) {
        let (task, attempt) = (attempt.task.0, attempt.attempt.0);
        self.bar
            .suspend(|| tracing::warn!(task, attempt, "attempt failed: {}", failure.text));
    }

    fn on_alarm(&self, alarm: &Alarm, _logged: &LoggedAlarm) {
        tell_alarm(&self.bar, alarm);
    }

    fn on_damaged_output(&self, task: TaskIdx) {
        self.bar
            .suspend(|| tracing::warn!(task = task.0, "the stored tile is damaged and is computed again"));
    }
}

/// Watches a job whose tasks are all that is known of it: a run in this process, or a job of a cluster.
#[derive(Debug)]
pub struct RoundBar {
    bar: indicatif::ProgressBar,
    /// The round that was shown last, and what was committed of it then.
    shown: Mutex<Option<(u32, u64)>>,
    last_line: Mutex<Instant>,
}

impl RoundBar {
    /// A bar for a job of which nothing is known yet.
    pub fn new(output: &Output) -> RoundBar {
        RoundBar {
            bar: bar(output, 1, "{bar:30} {percent:>3} %  {msg}"),
            shown: Mutex::default(),
            last_line: Mutex::new(Instant::now()),
        }
    }

    /// Shows how far a round is.
    pub fn show(&self, round: u32, n_committed: u64, n_tasks: u64) {
        if self.bar.is_hidden() {
            if is_line_due(&self.last_line) {
                let percent = human::percent(n_committed, n_tasks.max(1));
                tracing::info!("{percent} %: {}", self.describe(round, n_committed, n_tasks));
            }
            return;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown == Some((round, n_committed)) {
            return;
        }
        let is_new = shown.is_none_or(|(before, _)| before != round);
        *shown = Some((round, n_committed));
        drop(shown);
        self.bar.set_length(n_tasks.max(1));
        self.bar.set_position(n_committed);
        if is_new {
            // The last round's pace says nothing of this one's, nor what earlier runs had done.
            self.bar.reset_eta();
            self.bar.reset_elapsed();
        }
        self.bar.set_message(self.describe(round, n_committed, n_tasks));
    }

    fn describe(&self, round: u32, n_committed: u64, n_tasks: u64) -> String {
        let (done, total) = (human::count(n_committed), human::counted(n_tasks, "task"));
        // Most jobs have one round, of which nobody needs to be told.
        let which = match round {
            0 => String::new(),
            _ => format!("round {}: ", human::count(u64::from(round) + 1)),
        };
        let left_s = self.bar.eta().as_secs_f64();
        if left_s > 0.0 && n_committed < n_tasks {
            format!("{which}{done} of {total}, {} left", human::seconds(left_s.ceil()))
        } else {
            format!("{which}{done} of {total}")
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for RoundBar {
    fn on_progress(&self, progress: &Progress) {
        self.show(progress.round, progress.n_committed, progress.n_tasks);
    }

    fn on_failed(&self, attempt: Attempt, failure: &Failure) {
        let (task, attempt) = (attempt.task.0, attempt.attempt.0);
        self.bar
            .suspend(|| tracing::warn!(task, attempt, "attempt failed: {}", failure.text));
    }

    fn on_alarm(&self, alarm: &Alarm, _logged: &LoggedAlarm) {
        tell_alarm(&self.bar, alarm);
    }
}

/// Counts bytes of a pass over a matrix.
#[derive(Debug)]
pub struct ByteBar(indicatif::ProgressBar);

impl ByteBar {
    /// A bar for `n_bytes` bytes; `action` says what happens to them.
    pub fn new(output: &Output, action: &str, n_bytes: u64) -> ByteBar {
        let bar = bar(
            output,
            n_bytes,
            "{prefix} {bar:30} {percent:>3} %  {binary_bytes_per_sec}, {eta} left",
        );
        bar.set_prefix(action.to_owned());
        ByteBar(bar)
    }

    /// Some more are done.
    pub fn add(&self, n_bytes: u64) {
        self.0.inc(n_bytes);
    }
}

impl Drop for ByteBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn bar(output: &Output, len: u64, template: &str) -> indicatif::ProgressBar {
    let target = if output.wants_bar() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    indicatif::ProgressBar::with_draw_target(Some(len), target).with_style(style.progress_chars("━╸─"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_described_by_tasks_rate_and_time_left() {
        let output = Output::new(false, true, 0, Instant::now());
        let bar = ProgressBar::new(&output, 40, 1000);
        let at = |n_committed, work_done| Progress {
            round: 0,
            n_tasks: 40,
            n_committed,
            work_done,
        };
        assert_eq!(bar.describe(&at(1, 0)), "1 of 40 tasks");
        let text = bar.describe(&at(12, 500));
        assert!(
            text.starts_with("12 of 40 tasks, ") && text.ends_with(" left"),
            "{text}"
        );
        // More work than planned, by attempts that were made again.
        bar.on_progress(&at(40, 2000));
        bar.finish();
    }

    #[test]
    fn a_round_is_described_by_its_tasks_and_by_its_number_from_the_second_on() {
        let bar = RoundBar::new(&Output::new(false, true, 0, Instant::now()));
        assert_eq!(bar.describe(0, 1, 40), "1 of 40 tasks");
        assert_eq!(bar.describe(2, 40, 40), "round 3: 40 of 40 tasks");
        bar.finish();
    }
}
