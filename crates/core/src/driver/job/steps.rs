//! The driver's own steps: barriers, rounds, reading back, finishing.

use super::{JobRun, Phase, Surroundings};
use crate::alarm::AlarmKind;
use crate::driver::durations::Durations;
use crate::driver::{DriverEffect, Needs};
use crate::failure::{Cause, Failure, JobEnd};
use crate::ids::{Millis, RoundIdx, TaskIdx};
use crate::limits;
use crate::task_table::TaskTable;
use alloc::format;

impl JobRun {
    pub(in crate::driver) fn on_round_ready(
        &mut self,
        round: RoundIdx,
        n_tasks: u64,
        needs: Needs,
        now: Millis,
    ) {
        if self.phase == Phase::Advancing {
            self.round = round;
            self.needs = needs;
            self.tasks = TaskTable::new(n_tasks);
            self.phase = Phase::Running;
            self.durations = Durations::default();
            self.typical_ms = None;
            self.fitting = None;
            self.deal = None;
            self.deal_by = now;
            self.n_backups = 0;
            self.last_progress = now;
        }
    }

    /// The barrier found tasks without a commit in the journal.
    pub(in crate::driver) fn on_barrier_refused(
        &mut self,
        missing: &[TaskIdx],
        around: &mut Surroundings<'_>,
    ) {
        if self.phase != Phase::Advancing {
            return;
        }
        let n_tasks = missing.len() as u64;
        self.alarm(AlarmKind::CommitMissing { n_tasks }, around);
        self.redo(missing);
    }

    pub(super) fn redo(&mut self, tasks: &[TaskIdx]) {
        for task in tasks {
            if self.tasks.status(*task).is_none() {
                continue;
            }
            self.tasks.put_back(*task);
            if self.deal.is_some() {
                self.put_back(*task);
            }
        }
        self.n_retries += tasks.len() as u64;
        self.phase = Phase::Running;
    }

    pub(in crate::driver) fn on_rounds_done(&mut self, around: &mut Surroundings<'_>) {
        if self.phase == Phase::Advancing {
            if self.must_verify {
                self.phase = Phase::Verifying;
                around.effects.push(DriverEffect::VerifyOutputs(self.start.job));
            } else {
                self.finish(around);
            }
        }
    }

    pub(in crate::driver) fn on_outputs_verified(
        &mut self,
        bad_tasks: &[TaskIdx],
        around: &mut Surroundings<'_>,
    ) {
        if self.phase != Phase::Verifying {
            return;
        }
        self.n_verify_passes += 1;
        if bad_tasks.is_empty() {
            self.finish(around);
        } else if self.n_verify_passes >= limits::VERIFY_PASSES_MAX {
            let text = format!(
                "{} outputs read back damaged after {} passes",
                bad_tasks.len(),
                self.n_verify_passes
            );
            self.stop(JobEnd::Failed(Failure::fatal(Cause::Storage, text)), around);
        } else {
            self.redo(bad_tasks);
        }
    }

    pub(super) fn finish(&mut self, around: &mut Surroundings<'_>) {
        self.phase = Phase::Finishing;
        around.effects.push(DriverEffect::FinishOutputs(self.start.job));
    }

    pub(in crate::driver) fn on_outputs_finished(&mut self, around: &mut Surroundings<'_>) {
        if matches!(self.phase, Phase::Finishing | Phase::Stopping(_)) {
            // A stop that came while the outputs took their names is too late: the job is done.
            self.end(JobEnd::Done, around);
        }
    }
}
