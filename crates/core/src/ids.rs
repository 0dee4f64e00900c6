//! Identities: newtypes, so that a task can't be mistaken for a worker.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(/// One start or resume of a job; messages of an earlier run are fenced off.
    RunEpoch, u32);
id!(/// A set of independent tasks between two barriers, counted from 0.
    RoundIdx, u32);
id!(/// A task within its round, counted from 0 in plan order.
    TaskIdx, u64);
id!(/// One execution of a task within a run, counted from 0.
    AttemptNo, u8);
id!(/// A worker, as the engine numbers them.
    WorkerIdx, u32);
id!(/// Milliseconds since an instant that the caller chose; only differences mean anything.
    Millis, u64);

/// Hash of what a job is: kind, versions, spec, plan and inputs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct JobId(pub [u8; 16]);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

/// One attempt at one task of one run: what is assigned, executed, committed and acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The run that released it.
    pub epoch: RunEpoch,
    /// The round that the task belongs to.
    pub round: RoundIdx,
    /// The task.
    pub task: TaskIdx,
    /// Which attempt at the task this is within the run.
    pub attempt: AttemptNo,
}
