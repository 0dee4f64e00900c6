//! Which pairs of a state and an event the machines have met, and which they never can.
//!
//! A pair that cannot be is declared with the reason; to meet it is a violation. All others should be met by some seed.

use std::collections::BTreeMap;
use std::fmt;
use tilework_core::driver::DriverEvent;
use tilework_core::failure::{Cause, Remedy};
use tilework_core::lease::{DriverIdx, LeaseEvent};
use tilework_core::message::{JobAttempt, ToWorker, WorkerReport};
use tilework_core::worker::WorkerEvent;

/// One machine's states and events, or those of an attempt in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A job's run in a driver.
    Job,
    /// A worker's report about an attempt, and where its driver has that attempt.
    Report,
    /// A worker.
    Worker,
    /// An attempt in a worker.
    Attempt,
    /// A driver's lease.
    Lease,
}

/// Pairs that cannot be: any of these states with any of these events. An empty list is all of them.
struct Never {
    states: &'static [&'static str],
    events: &'static [&'static str],
    why: &'static str,
}

impl Machine {
    /// All of them.
    pub const ALL: [Machine; 5] = [
        Machine::Job,
        Machine::Report,
        Machine::Worker,
        Machine::Attempt,
        Machine::Lease,
    ];

    /// The names of its states.
    pub fn states(self) -> &'static [&'static str] {
        match self {
            Machine::Job => &[
                "Unknown",
                "Listening",
                "Running",
                "Advancing",
                "Verifying",
                "Finishing",
                "Stopping",
                "Ended",
            ],
            Machine::Report => &[
                "Unknown",
                "OfFencedRun",
                "OfLaterRun",
                "OfAnotherRound",
                "Waiting",
                "Queued",
                "Held",
                "Started",
                "Replaced",
                "BackingOff",
                "Committed",
            ],
            Machine::Worker => &[
                "Unconnected",
                "Idle",
                "Running",
                "RunningWithNext",
                "Writing",
                "BackedUp",
                "Draining",
                "Ended",
            ],
            Machine::Attempt => &[
                "NotHere",
                "Ahead",
                "Running",
                "ToldToStop",
                "Writing",
                "Committing",
            ],
            Machine::Lease => &["New", "Standby", "Asking", "Leader", "Renewing"],
        }
    }

    /// The names of its events.
    pub fn events(self) -> &'static [&'static str] {
        match self {
            Machine::Job => &[
                "Submitted",
                "Joined",
                "Heartbeat",
                "Took",
                "Started",
                "Committed",
                "Failed",
                "GaveBack",
                "Left",
                "Drained",
                "WorkerLost",
                "RoundReady",
                "BarrierRefused",
                "RoundsDone",
                "CommitsRead",
                "OutputsGood",
                "OutputsDamaged",
                "OutputsFinished",
                "StepFailed",
                "LacksCode",
                "StopRequested",
                "Tick",
            ],
            Machine::Report => &[
                "Took",
                "Started",
                "Committed",
                "FailedRetry",
                "FailedFatal",
                "FailedCorrupt",
                "FailedDiskFull",
                "FailedDeadline",
                "FailedHung",
                "GaveBack",
                "HeldAhead",
                "HeldStarted",
            ],
            Machine::Worker => &[
                "Connected",
                "Assigned",
                "Begun",
                "RunEnded",
                "OutputDurable",
                "CommitDurable",
                "CancelJob",
                "Abandon",
                "Recall",
                "Drain",
                "Tick",
            ],
            Machine::Attempt => &[
                "Assigned",
                "Begun",
                "RunEndedWell",
                "RunFailed",
                "RunCancelled",
                "OutputDurable",
                "OutputFailed",
                "CommitDurable",
                "CommitFailed",
                "Abandon",
                "Recall",
            ],
            Machine::Lease => &[
                "ReadNobodys",
                "ReadOurs",
                "ReadAnothers",
                "Taken",
                "Refused",
                "Tick",
            ],
        }
    }

    fn nevers(self) -> &'static [Never] {
        match self {
            Machine::Job => JOB_NEVERS,
            Machine::Report => &[],
            Machine::Worker => WORKER_NEVERS,
            Machine::Attempt => ATTEMPT_NEVERS,
            Machine::Lease => &[],
        }
    }

    /// Why a pair cannot be, if it cannot.
    pub fn why_never(self, state: &str, event: &str) -> Option<&'static str> {
        let is_meant = |names: &[&str], name: &str| names.is_empty() || names.contains(&name);
        let mut nevers = self.nevers().iter();
        let never = nevers.find(|never| is_meant(never.states, state) && is_meant(never.events, event));
        never.map(|never| never.why)
    }
}

const JOB_NEVERS: &[Never] = &[
    Never {
        states: &["Ended"],
        events: &[],
        why: "a run that has ended is forgotten with the event that ended it",
    },
    Never {
        states: &["Listening"],
        events: &["CommitsRead", "StepFailed"],
        why: "no step is asked for while it listens, and with a run its steps are over",
    },
    Never {
        states: &["Listening", "Running", "Verifying", "Finishing"],
        events: &["RoundReady", "BarrierRefused", "RoundsDone"],
        why: "the barrier is asked for by entering `Advancing`, which only its answer or a stop leaves",
    },
    Never {
        states: &["Listening", "Running", "Advancing", "Finishing"],
        events: &["OutputsGood", "OutputsDamaged"],
        why: "reading back is asked for by entering `Verifying`, which only its answer or a stop leaves",
    },
    Never {
        states: &["Listening", "Running", "Advancing", "Verifying"],
        events: &["OutputsFinished"],
        why: "names are given by entering `Finishing`, which only the answer or a failure leaves",
    },
];

const WORKER_NEVERS: &[Never] = &[
    Never {
        states: &["Ended"],
        events: &[],
        why: "`End` ends the process, or the thread that feeds the machine",
    },
    Never {
        states: &["Unconnected"],
        events: &[
            "Assigned",
            "Begun",
            "RunEnded",
            "OutputDurable",
            "CommitDurable",
            "CancelJob",
            "Abandon",
            "Recall",
            "Drain",
            "Tick",
        ],
        why: "`Connected` is the first event, and nothing takes it back",
    },
    Never {
        states: &["Idle"],
        events: &["RunEnded", "OutputDurable", "CommitDurable", "Begun"],
        why: "nothing is in hand: what a hanging attempt still says comes to a worker that drains",
    },
    Never {
        states: &["Writing"],
        events: &["RunEnded", "Begun"],
        why: "nothing runs",
    },
];

const ATTEMPT_NEVERS: &[Never] = &[
    Never {
        states: &["Ahead", "Writing", "Committing"],
        events: &["Begun", "RunEndedWell", "RunFailed", "RunCancelled"],
        why: "an attempt that runs leaves that state by the one end of its run, or hangs and is given up",
    },
    Never {
        states: &["NotHere", "ToldToStop"],
        events: &["Begun"],
        why: "its time counts from then, and only what has no time left is told to stop, or given up",
    },
    Never {
        states: &["NotHere", "Ahead", "Running", "ToldToStop", "Committing"],
        events: &["OutputDurable", "OutputFailed"],
        why: "an output is asked for by entering `Writing`, which only the one answer leaves",
    },
    Never {
        states: &["NotHere", "Ahead", "Running", "ToldToStop", "Writing"],
        events: &["CommitDurable", "CommitFailed"],
        why: "a record is asked for by entering `Committing`, which only the one answer leaves",
    },
];

/// How often each pair was met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<(Machine, &'static str, &'static str), u64>);

impl Coverage {
    /// Notes a pair.
    ///
    /// # Errors
    /// It was declared never to be: why.
    ///
    /// # Panics
    /// If the machine has no such state or event.
    pub fn meet(
        &mut self,
        machine: Machine,
        state: &'static str,
        event: &'static str,
    ) -> Result<(), &'static str> {
        let count = self.0.entry((machine, state, event)).or_default();
        *count += 1;
        if *count > 1 {
            return Ok(());
        }
        assert!(
            machine.states().contains(&state),
            "{machine:?} has no state {state}"
        );
        assert!(
            machine.events().contains(&event),
            "{machine:?} has no event {event}"
        );
        machine.why_never(state, event).map_or(Ok(()), Err)
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Coverage) {
        for (pair, count) in &other.0 {
            *self.0.entry(*pair).or_default() += count;
        }
    }

    /// How often a pair was met.
    pub fn times(&self, machine: Machine, state: &'static str, event: &'static str) -> u64 {
        self.0.get(&(machine, state, event)).copied().unwrap_or(0)
    }

    /// Pairs that can be and were not met.
    pub fn gaps(&self) -> Vec<(Machine, &'static str, &'static str)> {
        let pairs = Machine::ALL.into_iter().flat_map(|machine| {
            let states = machine.states().iter();
            states.flat_map(move |state| {
                machine
                    .events()
                    .iter()
                    .map(move |event| (machine, *state, *event))
            })
        });
        let is_gap = |(machine, state, event): &(Machine, &'static str, &'static str)| {
            self.times(*machine, state, event) == 0 && machine.why_never(state, event).is_none()
        };
        pairs.filter(is_gap).collect()
    }
}

/// The tables, in Markdown: how often each pair was met; `-` for those that cannot be, and `NEVER` for those that were not met.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for machine in Machine::ALL {
            writeln!(f, "\n| {machine:?} | {} |", machine.states().join(" | "))?;
            writeln!(f, "| --- |{}", " --- |".repeat(machine.states().len()))?;
            for event in machine.events() {
                write!(f, "| {event} |")?;
                for state in machine.states() {
                    match (self.times(machine, state, event), machine.why_never(state, event)) {
                        (0, Some(_)) => write!(f, " - |")?,
                        (0, None) => write!(f, " NEVER |")?,
                        (times, _) => write!(f, " {times} |")?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// The name of what a driver hears.
pub(crate) fn name_of_driver_event(event: &DriverEvent) -> &'static str {
    match event {
        DriverEvent::Submitted(_) => "Submitted",
        DriverEvent::Received(message) => match &message.body {
            WorkerReport::Joined { .. } => "Joined",
            WorkerReport::Heartbeat { .. } => "Heartbeat",
            WorkerReport::Took(_) => "Took",
            WorkerReport::Started(_) => "Started",
            WorkerReport::Committed(_) => "Committed",
            WorkerReport::Failed(..) => "Failed",
            WorkerReport::GaveBack(_) => "GaveBack",
            WorkerReport::Left(_) => "Left",
            WorkerReport::Drained => "Drained",
        },
        DriverEvent::WorkerLost(_) => "WorkerLost",
        DriverEvent::RoundReady(..) => "RoundReady",
        DriverEvent::BarrierRefused(..) => "BarrierRefused",
        DriverEvent::RoundsDone(_) => "RoundsDone",
        DriverEvent::CommitsRead(..) => "CommitsRead",
        DriverEvent::OutputsVerified(_, damaged) if damaged.is_empty() => "OutputsGood",
        DriverEvent::OutputsVerified(..) => "OutputsDamaged",
        DriverEvent::OutputsFinished(_) => "OutputsFinished",
        DriverEvent::StepFailed(..) => "StepFailed",
        DriverEvent::LacksCode(..) => "LacksCode",
        DriverEvent::StopRequested(..) => "StopRequested",
        DriverEvent::Tick => "Tick",
    }
}

/// What a report says of each attempt that it names.
pub(crate) fn reports_of(report: &WorkerReport) -> Vec<(JobAttempt, &'static str)> {
    match report {
        WorkerReport::Heartbeat { holding, .. } => {
            let held = holding.iter();
            held.map(|held| {
                (
                    held.attempt,
                    if held.started { "HeldStarted" } else { "HeldAhead" },
                )
            })
            .collect()
        }
        WorkerReport::Took(attempt) => vec![(*attempt, "Took")],
        WorkerReport::Started(attempt) => vec![(*attempt, "Started")],
        WorkerReport::Committed(attempt) => vec![(*attempt, "Committed")],
        WorkerReport::Failed(attempt, failure) => {
            let name = match (failure.cause, failure.remedy) {
                (Cause::DiskFull, _) => "FailedDiskFull",
                (Cause::Deadline, _) => "FailedDeadline",
                (Cause::Hung, _) => "FailedHung",
                (_, Remedy::Retry) => "FailedRetry",
                (_, Remedy::Fatal) => "FailedFatal",
                (_, Remedy::Corrupt) => "FailedCorrupt",
            };
            vec![(*attempt, name)]
        }
        WorkerReport::GaveBack(attempt) => vec![(*attempt, "GaveBack")],
        WorkerReport::Joined { .. } | WorkerReport::Left(_) | WorkerReport::Drained => Vec::new(),
    }
}

/// The name of what a worker hears.
pub(crate) fn name_of_worker_event(event: &WorkerEvent) -> &'static str {
    match event {
        WorkerEvent::Connected => "Connected",
        WorkerEvent::Assigned(_) => "Assigned",
        WorkerEvent::Begun(..) => "Begun",
        WorkerEvent::RunEnded(..) => "RunEnded",
        WorkerEvent::OutputDurable(..) => "OutputDurable",
        WorkerEvent::CommitDurable(..) => "CommitDurable",
        WorkerEvent::Received(ToWorker::CancelJob { .. }) => "CancelJob",
        WorkerEvent::Received(ToWorker::Abandon(_)) => "Abandon",
        WorkerEvent::Received(ToWorker::Recall(_)) => "Recall",
        WorkerEvent::Received(ToWorker::Drain) => "Drain",
        WorkerEvent::Tick => "Tick",
    }
}

/// What an event says of an attempt, if it is about one.
pub(crate) fn attempt_event(event: &WorkerEvent) -> Option<(JobAttempt, &'static str)> {
    Some(match event {
        WorkerEvent::Assigned(attempt) => (*attempt, "Assigned"),
        WorkerEvent::Begun(attempt, ..) => (*attempt, "Begun"),
        WorkerEvent::RunEnded(attempt, Ok(())) => (*attempt, "RunEndedWell"),
        WorkerEvent::RunEnded(attempt, Err(failure)) if failure.cause == Cause::Cancelled => {
            (*attempt, "RunCancelled")
        }
        WorkerEvent::RunEnded(attempt, Err(_)) => (*attempt, "RunFailed"),
        WorkerEvent::OutputDurable(attempt, Ok(())) => (*attempt, "OutputDurable"),
        WorkerEvent::OutputDurable(attempt, Err(_)) => (*attempt, "OutputFailed"),
        WorkerEvent::CommitDurable(attempt, Ok(())) => (*attempt, "CommitDurable"),
        WorkerEvent::CommitDurable(attempt, Err(_)) => (*attempt, "CommitFailed"),
        WorkerEvent::Received(ToWorker::Abandon(attempt)) => (*attempt, "Abandon"),
        WorkerEvent::Received(ToWorker::Recall(attempt)) => (*attempt, "Recall"),
        WorkerEvent::Connected
        | WorkerEvent::Received(ToWorker::CancelJob { .. } | ToWorker::Drain)
        | WorkerEvent::Tick => return None,
    })
}

/// The name of what happens to a driver's lease.
pub(crate) fn name_of_lease_event(event: &LeaseEvent, me: DriverIdx) -> &'static str {
    match event {
        LeaseEvent::Read(state) => match state.holder {
            None => "ReadNobodys",
            Some(holder) if holder == me => "ReadOurs",
            Some(_) => "ReadAnothers",
        },
        LeaseEvent::Taken { .. } => "Taken",
        LeaseEvent::Refused { .. } => "Refused",
        LeaseEvent::Tick => "Tick",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_never_to_be_names_states_and_events_that_are() {
        for machine in Machine::ALL {
            for never in machine.nevers() {
                assert!(never.states.iter().all(|state| machine.states().contains(state)));
                assert!(never.events.iter().all(|event| machine.events().contains(event)));
            }
        }
    }

    #[test]
    fn a_pair_is_a_gap_until_it_is_met_and_one_that_cannot_be_is_refused() {
        let mut coverage = Coverage::default();
        let pair = (Machine::Lease, "New", "Tick");
        assert!(coverage.gaps().contains(&pair));
        assert_eq!(coverage.meet(pair.0, pair.1, pair.2), Ok(()));
        assert!(!coverage.gaps().contains(&pair));
        let never = (Machine::Worker, "Ended", "Tick");
        assert!(!coverage.gaps().contains(&never));
        assert!(coverage.meet(never.0, never.1, never.2).is_err());
    }
}
