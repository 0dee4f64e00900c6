//! Assignment: which tasks are released, and to which queue.

use super::{Fitting, Flight, Flights, JobRun, Surroundings};
use crate::driver::deal::Deal;
use crate::driver::fleet::{Demand, Held};
use crate::driver::{Assign, DriverEffect, Queue};
use crate::failure::{Cause, Failure};
use crate::ids::{Attempt, AttemptNo, TaskIdx, WorkerIdx};
use crate::limits;
use crate::task_table::TaskStatus;
use alloc::format;
use alloc::vec::Vec;

impl JobRun {
    pub(super) fn fill_window(&mut self, around: &mut Surroundings<'_>) {
        if self.paused_until.is_some() {
            return;
        }
        match self.start.assign {
            Assign::Dynamic => self.fill_shared_queue(around),
            Assign::RoundRobin { n_workers } => {
                if self.deal.is_none() {
                    self.try_deal(n_workers, around);
                }
                self.fill_own_queues(around);
            }
        }
    }

    /// Attempts that may be released at a time: this job's part of what keeps all fitting workers busy.
    pub(super) fn window(&mut self, around: &Surroundings<'_>) -> usize {
        let n_fitting = self.fitting(around).n_workers;
        (n_fitting * self.window_per_worker()).div_ceil(around.n_jobs.max(1))
    }

    /// Who can do its tasks, counted anew when that may have changed.
    fn fitting(&mut self, around: &Surroundings<'_>) -> Fitting {
        let generation = around.fleet.generation();
        let known = self.fitting.filter(|known| known.generation == generation);
        let fitting = known.unwrap_or_else(|| Fitting {
            generation,
            n_workers: around.fleet.fitting(self.demand()).count(),
            are_all: around.fleet.all_meet(self.demand()),
        });
        self.fitting = Some(fitting);
        fitting
    }

    fn window_per_worker(&self) -> usize {
        // Seen, not said: what was expected of them may be wrong.
        let are_short = self.typical_ms.is_some_and(|ms| ms <= limits::SHORT_TASK_MS);
        let window = if are_short {
            limits::RELEASE_WINDOW_PER_WORKER_SHORT
        } else {
            limits::RELEASE_WINDOW_PER_WORKER
        };
        window as usize
    }

    pub(super) fn fill_shared_queue(&mut self, around: &mut Surroundings<'_>) {
        let window = self.window(around);
        // The shared queue is everybody's.
        let is_for_all = self.fitting(around).are_all;
        while self.in_flight.len() + self.backing_off.len() < window {
            if !is_for_all && self.with_room(around).is_none() {
                break;
            }
            let Some((task, number)) = self.tasks.release_next() else {
                break;
            };
            if self.is_tried_too_often(task, number, around) {
                return;
            }
            let was_given_back = self.given_back.remove(&task);
            let to = if self.has_failed(task) {
                self.where_to_retry(task, around)
            } else if was_given_back {
                // In the shared queue a busy worker would take it ahead, have it recalled for the idle one, and take it again.
                let mut idle = around.fleet.idle(self.demand());
                idle.find(|worker| !self.failing.contains(worker))
            } else {
                None
            };
            let to = to.or_else(|| self.with_room(around).filter(|_| !is_for_all));
            self.release(task, number, to, around);
        }
    }

    /// Where some can't do its tasks: who gets the next one into its own queue, from which nobody can take it back. Those that have not
    /// begun their last one get no other, so that the tasks go to whoever has room.
    fn with_room(&self, around: &Surroundings<'_>) -> Option<WorkerIdx> {
        let is_unbegun = |held: &&Held| held.attempt.job == self.start.job && !held.taken;
        let has_room = |worker| {
            let held = &around.fleet.get(worker)?.held;
            (held.iter().filter(is_unbegun).count() < limits::UNBEGUN_IN_OWN_QUEUE_MAX).then_some(())
        };
        around.fleet.best(self.demand(), has_room)
    }

    /// Whether a task was tried as often as is allowed for any reason, which ends the job.
    fn is_tried_too_often(
        &mut self,
        task: TaskIdx,
        number: AttemptNo,
        around: &mut Surroundings<'_>,
    ) -> bool {
        let is_enough = number.0 >= limits::ATTEMPTS_MAX;
        if is_enough {
            let text = format!("task {task} was tried {} times", limits::ATTEMPTS_MAX);
            self.tasks.put_back(task);
            self.poison(task, Failure::retry(Cause::Job, text), around);
        }
        is_enough
    }

    fn has_failed(&self, task: TaskIdx) -> bool {
        let troubles = self.troubles.get(&task);
        troubles.is_some_and(|troubles| !troubles.failed_on.is_empty())
    }

    /// Who should try a task next that failed: somebody who has not tried it, rather than who has, the longest ago if so; among those
    /// somebody who does not fail at other tasks. Nobody in particular if there is only the worker that failed last.
    pub(super) fn where_to_retry(&self, task: TaskIdx, around: &Surroundings<'_>) -> Option<WorkerIdx> {
        let troubles = self.troubles.get(&task)?;
        let failed_last = troubles.failed_on.last()?;
        let rank = |worker: WorkerIdx| {
            let is_failing = self.failing.contains(&worker);
            (worker != *failed_last).then(|| (troubles.recency(worker), is_failing))
        };
        around.fleet.best(self.demand(), rank)
    }

    pub(super) fn release(
        &mut self,
        task: TaskIdx,
        number: AttemptNo,
        to: Option<WorkerIdx>,
        around: &mut Surroundings<'_>,
    ) {
        let flight = self.launch(task, number, to, around);
        self.in_flight.insert(
            task,
            Flights {
                first: flight,
                backup: None,
            },
        );
    }

    pub(super) fn launch(
        &mut self,
        task: TaskIdx,
        number: AttemptNo,
        to: Option<WorkerIdx>,
        around: &mut Surroundings<'_>,
    ) -> Flight {
        let attempt = Attempt {
            epoch: self.start.epoch,
            round: self.round,
            task,
            attempt: number,
        };
        let named = self.named(attempt);
        if let Some(worker) = to {
            around.fleet.attach(worker, named, false);
        }
        around.effects.push(DriverEffect::Release(
            named,
            to.map_or(Queue::Shared, Queue::Worker),
        ));
        Flight {
            attempt,
            holder: to,
            released: around.now,
            started: None,
        }
    }

    pub(super) fn try_deal(&mut self, n_expected: u32, around: &mut Surroundings<'_>) {
        let workers: Vec<WorkerIdx> = around
            .fleet
            .fitting(self.demand())
            .map(|(worker, _)| worker)
            .collect();
        // One that is too small does not grow while it is waited for.
        let of_any_size = Demand {
            memory_bytes: 0,
            ..self.demand()
        };
        let are_all_there = around.fleet.fitting(of_any_size).count() >= n_expected as usize;
        if !workers.is_empty() && (are_all_there || around.now >= self.deal_by) {
            self.deal = Some(Deal::new(self.tasks.n_tasks(), &workers));
        }
    }

    /// Fills each worker's own queue from its share, and then with what came back, by turns.
    pub(super) fn fill_own_queues(&mut self, around: &mut Surroundings<'_>) {
        let Some(mut deal) = self.deal.take() else {
            return;
        };
        let per_worker = self.window_per_worker().div_ceil(around.n_jobs.max(1));
        let job = self.start.job;
        let has_room = |around: &Surroundings<'_>, worker: WorkerIdx| {
            let is_ours = |held: &&Held| held.attempt.job == job;
            let member = around.fleet.get(worker);
            member.is_some_and(|member| {
                !member.quarantined && member.held.iter().filter(is_ours).count() < per_worker
            })
        };
        for worker in deal.take_ready() {
            while has_room(around, worker) {
                let Some(task) = deal.next_of(worker) else { break };
                if self.tasks.status(task) == Some(TaskStatus::Waiting) {
                    let number = self.tasks.release(task);
                    self.release(task, number, Some(worker), around);
                }
            }
        }
        for _ in 0..deal.n_workers() {
            if self.again.is_empty() {
                break;
            }
            let Some(worker) = deal.take_turn() else { break };
            if has_room(around, worker)
                && let Some(task) = self.next_again(worker, &deal, around)
            {
                let number = self.tasks.release(task);
                if self.is_tried_too_often(task, number, around) {
                    break;
                }
                self.release(task, number, Some(worker), around);
            }
        }
        self.deal = Some(deal);
    }

    /// The first of the tasks that came back that this worker should do: it did not fail at it, or everyone did.
    fn next_again(&mut self, worker: WorkerIdx, deal: &Deal, around: &Surroundings<'_>) -> Option<TaskIdx> {
        let (troubles, fleet) = (&self.troubles, &*around.fleet);
        let may_try = |task: &TaskIdx| {
            let Some(troubles) = troubles.get(task) else {
                return true;
            };
            let has_failed = |worker| troubles.recency(worker).is_some();
            let is_there = |worker| fleet.get(worker).is_some_and(|member| !member.quarantined);
            !has_failed(worker) || deal.workers().all(|other| has_failed(other) || !is_there(other))
        };
        let at = self.again.iter().position(may_try)?;
        self.again.remove(at)
    }
}
