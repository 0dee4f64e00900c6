//! What will go wrong in a round, and when: drawn from its seed alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fmt;
use std::time::Duration;

/// Worker processes of a cluster.
pub(crate) const N_WORKERS: usize = 3;
/// Jobs at once.
pub(crate) const N_JOBS: usize = 3;
/// How far the first fault and any two are apart, in milliseconds.
const GAP_MS: (u64, u64) = (200, 3000);
/// Faults of a round.
const N_FAULTS: (u64, u64) = (5, 9);
/// How long something that was killed stays away.
const AWAY_MS: (u64, u64) = (100, 5000);
/// Longer than a driver's lease, which is 6 s.
const STOPPED_DRIVER_MS: (u64, u64) = (6500, 10_000);

/// Something that goes wrong. Who is not there when its time comes is spared, and somebody else of its kind is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    KillWorker {
        worker: usize,
        away_ms: u64,
    },
    StopWorker {
        worker: usize,
        for_ms: u64,
    },
    EndWorker {
        worker: usize,
        away_ms: u64,
    },
    KillDriver {
        away_ms: u64,
    },
    StopDriver {
        for_ms: u64,
    },
    EndDriver {
        away_ms: u64,
    },
    KillServer {
        away_ms: u64,
    },
    KillDriverAndWorker {
        worker: usize,
        away_ms: u64,
    },
    KillAll {
        away_ms: u64,
    },
    KillClient {
        job: usize,
    },
    SubmitAgain {
        job: usize,
    },
    Cancel {
        job: usize,
        then_after_ms: u64,
        by_resume: bool,
    },
}

impl Fault {
    /// What is counted together.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Fault::KillWorker { .. } => "worker killed",
            Fault::StopWorker { .. } => "worker stopped",
            Fault::EndWorker { .. } => "worker told to end",
            Fault::KillDriver { .. } => "driver killed",
            Fault::StopDriver { .. } => "driver stopped",
            Fault::EndDriver { .. } => "driver told to end",
            Fault::KillServer { .. } => "server killed",
            Fault::KillDriverAndWorker { .. } => "driver and worker killed",
            Fault::KillAll { .. } => "everything killed",
            Fault::KillClient { .. } => "client killed",
            Fault::SubmitAgain { .. } => "submitted again",
            Fault::Cancel { .. } => "cancelled, submitted again",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match *self {
            Fault::KillWorker { away_ms, .. }
            | Fault::EndWorker { away_ms, .. }
            | Fault::KillDriver { away_ms }
            | Fault::EndDriver { away_ms }
            | Fault::KillServer { away_ms }
            | Fault::KillDriverAndWorker { away_ms, .. }
            | Fault::KillAll { away_ms } => write!(f, ", back after {away_ms} ms"),
            Fault::StopWorker { for_ms, .. } | Fault::StopDriver { for_ms } => write!(f, " for {for_ms} ms"),
            Fault::KillClient { job } | Fault::SubmitAgain { job } => write!(f, ", job {job}"),
            Fault::Cancel {
                job,
                then_after_ms,
                by_resume,
            } => {
                let how = if by_resume { "resume" } else { "the same command" };
                write!(f, ", job {job}, {how} after {then_after_ms} ms")
            }
        }
    }
}

/// A fault and its time since the jobs were submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
}

/// The faults of a seed, in order.
pub(crate) fn drawn(seed: u64) -> Vec<Planned> {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let n_faults = dice.within(N_FAULTS);
    let mut at_ms = 0;
    let planned = (0..n_faults).map(|_| {
        at_ms += dice.within(GAP_MS);
        Planned {
            at: Duration::from_millis(at_ms),
            fault: dice.fault(),
        }
    });
    planned.collect()
}

struct Dice(ChaCha8Rng);

impl Dice {
    /// A number of the range, its end included.
    fn within(&mut self, (first, last): (u64, u64)) -> u64 {
        first + u64::from(self.0.next_u32()) % (last - first + 1)
    }

    fn one_of(&mut self, n: usize) -> usize {
        self.within((0, n as u64 - 1)) as usize
    }

    fn fault(&mut self) -> Fault {
        let (worker, job) = (self.one_of(N_WORKERS), self.one_of(N_JOBS));
        let away_ms = self.within(AWAY_MS);
        // Of twenty: what is more likely in life, or more tangled, is drawn more often.
        match self.one_of(20) {
            0..=3 => Fault::KillWorker { worker, away_ms },
            4..=6 => Fault::StopWorker {
                worker,
                for_ms: self.within((200, 10_000)),
            },
            7 => Fault::EndWorker { worker, away_ms },
            8..=9 => Fault::KillDriver { away_ms },
            10..=11 => Fault::StopDriver {
                for_ms: self.within(STOPPED_DRIVER_MS),
            },
            12 => Fault::EndDriver { away_ms },
            13..=14 => Fault::KillServer { away_ms },
            15 => Fault::KillDriverAndWorker { worker, away_ms },
            16 => Fault::KillAll { away_ms },
            17 => Fault::KillClient { job },
            18 => Fault::SubmitAgain { job },
            _ => Fault::Cancel {
                job,
                then_after_ms: self.within((0, 3000)),
                by_resume: self.one_of(2) == 1,
            },
        }
    }
}

#[test]
fn a_seed_says_all_and_seeds_differ() {
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
    let kinds: std::collections::BTreeSet<_> = (0..100)
        .flat_map(drawn)
        .map(|planned| planned.fault.kind())
        .collect();
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}
