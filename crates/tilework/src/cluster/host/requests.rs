//! What is asked of the driver: begun on a thread of its own, refused at once, or kept until what is under way has come to its end.

use super::{ClusterHost, JOBS_MAX, WAITING_MAX};
use crate::cluster::conductor::Begin;
use crate::cluster::desk::{Asked, ambiguous, no_such_job, no_workers};
use crate::cluster::ground::{name_of, plan};
use crate::cluster::keeping::ask_to_cancel;
use crate::cluster::preparations::Preparation;
use crate::cluster::protocol::{Cancel, Planned, REQUEST_WAIT, Submit, Submitted, answer};
use crate::cluster::record::PlannedFor;
use crate::cluster::submission::Submission;
use crate::failure::{CliError, Exit};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tilework_core::driver::DriverEvent;
use tilework_core::failure::StopCause;
use tilework_nats::Request;
use tilework_nats::streams::job_of_token;

impl ClusterHost<'_> {
    pub(super) fn on_asked(&mut self, asked: Asked) {
        match asked {
            Asked::Joined(worker, join) => {
                for (id, job) in &self.jobs {
                    if (job.needs_code.iter()).any(|needed| !join.kinds.contains(needed)) {
                        self.urgent.push_back(DriverEvent::LacksCode(*id, worker));
                    }
                }
                self.fleet.on_joined(worker, join);
                self.board_changed = true;
            }
            // What hangs must not keep anybody from ending a job.
            Asked::Cancel(cancel, request) if !self.preparations.are_too_many() => {
                self.on_cancel(cancel, request)
            }
            _ if self.preparations.are_full() => self.wait(asked),
            Asked::Submit(submit, request) => self.on_submit(submit, request),
            Asked::Plan(submit, request) => self.on_plan(submit, request),
            Asked::Cancel(..) => self.wait(asked),
        }
    }

    /// Until something that is under way has come to its end.
    fn wait(&mut self, asked: Asked) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(asked);
        } else {
            let error = CliError::new(Exit::Unreachable, "the driver has too much to do");
            asked.refuse(error.with_next("ask again in a while"));
        }
    }

    /// Looks again at what waits; who asked so long ago has given up.
    pub(super) fn ask_again(&mut self) {
        for asked in std::mem::take(&mut self.waiting) {
            if asked.age() < REQUEST_WAIT {
                self.on_asked(asked);
            }
        }
    }

    fn on_plan(&mut self, submit: Box<Submit>, request: Request) {
        let planned_for = self.planned_for(&submit);
        let ground = self.ground.clone();
        self.prepare(Preparation::default(), move |_| {
            let planned: Result<Planned, CliError> = planned_for
                .ok_or_else(no_workers)
                .and_then(|planned_for| plan(&ground, &submit, planned_for));
            request.answer(answer(planned));
        });
    }

    fn planned_for(&self, submit: &Submit) -> Option<PlannedFor> {
        let workers = self.fleet.planned_for()?;
        let allowed = submit.memory_bytes.unwrap_or(u64::MAX);
        Some(PlannedFor {
            memory_bytes: workers.memory_bytes.min(allowed),
            ..workers
        })
    }

    fn on_submit(&mut self, submit: Box<Submit>, request: Request) {
        let refuse = |request: Request, error| request.answer(answer::<Submitted>(Err(error)));
        let Some(planned_for) = self.planned_for(&submit) else {
            return refuse(request, no_workers());
        };
        let Some(output) = &submit.output else {
            return refuse(request, CliError::usage("a job needs an output"));
        };
        let output = match name_of(&self.ground.roots, output) {
            Ok(output) => output,
            Err(error) => return refuse(request, error),
        };
        let mut running = self.jobs.iter().filter(|(_, job)| job.shown.output == output);
        let (running, is_ending) = running.next().map(|(id, job)| (*id, job.is_ending)).unzip();
        match self.preparations.to(&output) {
            Some(Preparation {
                job: Some((_, job)), ..
            }) => {
                let why = job.waits_for.as_deref().unwrap_or("its driver opens it");
                let error = CliError::new(Exit::Unreachable, format!("`{output}` goes on later: {why}"));
                return refuse(
                    request,
                    error.with_next(format!(
                        "watch it: tilework watch {output}; or end it: tilework cancel {output}"
                    )),
                );
            }
            // Then it is seen whether both ask for the same.
            Some(_) => return self.wait(Asked::Submit(submit, request)),
            None if is_ending == Some(true) => return self.wait(Asked::Submit(submit, request)),
            None if running.is_none() && self.jobs.len() >= JOBS_MAX => {
                let error = CliError::new(
                    Exit::Unreachable,
                    format!("the cluster has {JOBS_MAX} jobs already"),
                );
                return refuse(
                    request,
                    error.with_next("submit it again when some have ended: tilework jobs"),
                );
            }
            None => {}
        }
        let ended = self.ended.iter().find(|job| job.output == output);
        let submission = Submission {
            submit,
            planned_for,
            running,
            ended: ended.cloned(),
            output: output.clone(),
            request,
        };
        let preparation = Preparation {
            output: Some(output),
            ..Preparation::default()
        };
        self.begin(preparation, Begin::Submitted(Box::new(submission)));
    }

    fn on_cancel(&mut self, cancel: Cancel, request: Request) {
        let refuse = |request: Request, error| request.answer(answer::<Submitted>(Err(error)));
        let board = self.board(None);
        let named = &cancel.job;
        let shown = match board.find(named) {
            Ok(Some(shown)) => shown.clone(),
            Ok(None) => return refuse(request, no_such_job(named, &board)),
            Err(ids) => return refuse(request, ambiguous(named, &ids)),
        };
        let id = job_of_token(&shown.id);
        let driven = id.and_then(|id| self.jobs.get_mut(&id).map(|job| (id, job)));
        let (id, stop) = match driven {
            Some((_, job)) if job.is_ending => return self.wait(Asked::Cancel(cancel, request)),
            Some((id, job)) => {
                job.cancelled = true;
                job.stop.store(true, Ordering::Relaxed);
                let stop = DriverEvent::StopRequested(id, StopCause::Interrupted);
                self.urgent.push_back(stop);
                (id, Arc::clone(&job.stop))
            }
            None => match id.and_then(|id| self.preparations.of(id).map(|preparation| (id, preparation))) {
                Some((id, preparation)) => {
                    preparation.cancelled = true;
                    (id, Arc::clone(&preparation.stop))
                }
                None => return refuse(request, is_over(named, &shown.state)),
            },
        };
        let control = Arc::clone(&self.ground.control);
        let named = cancel.job;
        self.prepare(Preparation::default(), move |_| {
            // A driver that takes over just now has to know it too; and only if it does may one give up that is opening the job.
            let asked = ask_to_cancel(&control, id);
            if asked.is_ok() {
                stop.store(true, Ordering::Relaxed);
            }
            request.answer(answer(asked.and_then(|was_running| {
                was_running
                    .then(|| Submitted::running(&shown))
                    .ok_or_else(|| is_over(&named, "over"))
            })));
        });
    }
}

fn is_over(named: &str, state: &str) -> CliError {
    CliError::usage(format!("the job `{named}` is {state} already")).with_next("see all jobs: tilework jobs")
}
