//! The driver's front desk: a thread that hears requests, and answers at once what needs nobody else.

use super::board::Board;
use super::numbers::{HeardNumbers, admit};
use super::protocol::{self, Cancel, Empty, Join, Ping, Pong, Submit, Welcome, answer, read_ask};
use crate::failure::{CliError, Exit};
use std::time::Duration;
use tilework_core::ids::WorkerIdx;
use tilework_nats::limits::MEMBERS_MAX;
use tilework_nats::{Control, Request};

/// What is asked of the driver, beyond what its front desk answers itself.
pub(super) enum Asked {
    /// A worker has its number.
    Joined(WorkerIdx, Join),
    /// A product is wanted.
    Submit(Box<Submit>, Request),
    /// It is wanted to know what one would take.
    Plan(Box<Submit>, Request),
    /// A job is no longer wanted.
    Cancel(Cancel, Request),
}

impl Asked {
    /// How long ago it was asked.
    pub(super) fn age(&self) -> Duration {
        match self {
            Asked::Joined(..) => Duration::ZERO,
            Asked::Submit(_, request) | Asked::Plan(_, request) | Asked::Cancel(_, request) => {
                request.received.elapsed()
            }
        }
    }

    /// Answers that it is not done.
    pub(super) fn refuse(self, error: CliError) {
        match self {
            Asked::Joined(..) => {}
            Asked::Submit(_, request) | Asked::Plan(_, request) | Asked::Cancel(_, request) => {
                request.answer(answer::<Empty>(Err(error)));
            }
        }
    }
}

/// Answers what can be answered at once.
pub(super) fn receive(control: &Control, numbers: &HeardNumbers, request: Request) -> Option<Asked> {
    let refused = |request: Request, error: CliError| {
        tracing::info!(subject = request.subject, "refused: {}", error.message);
        request.answer(answer::<Empty>(Err(error)));
        None
    };
    macro_rules! read {
        ($body:ty) => {
            match read_ask::<$body>(&request.payload) {
                Ok(body) => body,
                Err(error) => return refused(request, error),
            }
        };
    }
    match request.subject.as_str() {
        protocol::JOIN if read_ask::<Ping>(&request.payload).is_ok() => {
            request.answer(answer(Ok(Pong::now())));
            None
        }
        protocol::JOIN => {
            let join = read!(Join);
            let admitted = join
                .check()
                .and_then(|()| Ok(admit(control, numbers, &join, MEMBERS_MAX)?));
            match admitted {
                Ok(worker) => {
                    request.answer(answer(Ok(Welcome { worker: worker.0 })));
                    Some(Asked::Joined(worker, join))
                }
                Err(error) => refused(request, error),
            }
        }
        protocol::SUBMIT => Some(Asked::Submit(Box::new(read!(Submit)), request)),
        protocol::PLAN => Some(Asked::Plan(Box::new(read!(Submit)), request)),
        protocol::CANCEL => Some(Asked::Cancel(read!(Cancel), request)),
        protocol::PING => {
            read!(Ping);
            request.answer(answer(Ok(Pong::now())));
            None
        }
        other => {
            let error = CliError::usage(format!("the driver knows no request `{other}`"));
            refused(request, error)
        }
    }
}

pub(super) fn no_workers() -> CliError {
    CliError::new(Exit::Unreachable, "the cluster has no workers")
        .with_next("start one: tilework worker --cluster worker.join --data-root NAME=DIR")
}

/// A job that nobody knows, unless it is one of those on the board whose name is written in another way.
pub fn no_such_job(named: &str, board: &Board) -> CliError {
    let unknown = CliError::usage(format!("the cluster knows no job `{named}`"));
    match board.output_like(named) {
        Some(output) => unknown.with_next(format!("if you mean `{output}`, write it so")),
        None => unknown.with_next("see all jobs: tilework jobs"),
    }
}

/// A beginning of several ids.
pub fn ambiguous(named: &str, ids: &[String]) -> CliError {
    CliError::usage(format!("`{named}` may be any of {}", ids.join(", "))).with_next("write more of the id")
}
