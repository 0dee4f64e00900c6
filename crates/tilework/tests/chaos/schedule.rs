//! What will go wrong in a round, and when, and which jobs are asked for: drawn from its seed alone. Every kind of fault comes once in each
//! round, in any order.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fmt;

/// Worker processes of a cluster.
pub(crate) const N_WORKERS: usize = 3;
/// Jobs at once.
pub(crate) const N_JOBS: usize = 3;
/// From one fault to the next, at least, in milliseconds; then it waits for somebody to be at work again.
const GAP_MS: (u64, u64) = (200, 1_500);
/// How long something that was killed or told to end stays away.
const AWAY_MS: (u64, u64) = (100, 4_000);
/// Shorter than anybody minds, and longer than it takes until a worker counts as lost, or a driver's lease ends: both 6 s.
const SHORT_MS: (u64, u64) = (200, 3_500);
const LONG_MS: (u64, u64) = (6_500, 9_000);

/// What goes wrong; each is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    WorkerKilled,
    WorkerStoppedBriefly,
    WorkerStopped,
    WorkerToldToEnd,
    DriverKilled,
    DriverStoppedBriefly,
    DriverStopped,
    DriverToldToEnd,
    DriverAndWorkerKilled,
    ServerKilled,
    ServerStopped,
    NatsLost,
    AllKilled,
    ClientKilled,
    SubmittedAgain,
    Cancelled,
    WorkerReset,
    DriverReset,
    WorkerFrozen,
    DriverFrozen,
    DriverAndWorkerCutOff,
    DiskFull,
    StoreSlow,
}

impl Kind {
    pub(crate) const ALL: [Kind; 23] = [
        Kind::WorkerKilled,
        Kind::WorkerStoppedBriefly,
        Kind::WorkerStopped,
        Kind::WorkerToldToEnd,
        Kind::DriverKilled,
        Kind::DriverStoppedBriefly,
        Kind::DriverStopped,
        Kind::DriverToldToEnd,
        Kind::DriverAndWorkerKilled,
        Kind::ServerKilled,
        Kind::ServerStopped,
        Kind::NatsLost,
        Kind::AllKilled,
        Kind::ClientKilled,
        Kind::SubmittedAgain,
        Kind::Cancelled,
        Kind::WorkerReset,
        Kind::DriverReset,
        Kind::WorkerFrozen,
        Kind::DriverFrozen,
        Kind::DriverAndWorkerCutOff,
        Kind::DiskFull,
        Kind::StoreSlow,
    ];

    /// For how long, in milliseconds.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Kind::WorkerKilled
            | Kind::WorkerToldToEnd
            | Kind::DriverKilled
            | Kind::DriverToldToEnd
            | Kind::DriverAndWorkerKilled
            | Kind::ServerKilled
            | Kind::ServerStopped
            | Kind::NatsLost
            | Kind::AllKilled
            | Kind::DiskFull => AWAY_MS,
            Kind::WorkerStoppedBriefly | Kind::DriverStoppedBriefly | Kind::Cancelled | Kind::StoreSlow => {
                SHORT_MS
            }
            Kind::WorkerStopped
            | Kind::DriverStopped
            | Kind::WorkerFrozen
            | Kind::DriverFrozen
            | Kind::DriverAndWorkerCutOff => LONG_MS,
            Kind::ClientKilled | Kind::SubmittedAgain | Kind::WorkerReset | Kind::DriverReset => (0, 0),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::WorkerKilled => "worker killed",
            Kind::WorkerStoppedBriefly => "worker stopped for less than 4 s",
            Kind::WorkerStopped => "worker stopped for longer than 6 s",
            Kind::WorkerToldToEnd => "worker told to end",
            Kind::DriverKilled => "driver killed",
            Kind::DriverStoppedBriefly => "driver stopped for less than its lease",
            Kind::DriverStopped => "driver stopped for longer than its lease",
            Kind::DriverToldToEnd => "driver told to end",
            Kind::DriverAndWorkerKilled => "driver and worker killed",
            Kind::ServerKilled => "server killed",
            Kind::ServerStopped => "server stopped",
            Kind::NatsLost => "server killed, its store lost",
            Kind::AllKilled => "server, drivers and workers killed",
            Kind::ClientKilled => "client killed, same command again",
            Kind::SubmittedAgain => "same command while the job runs",
            Kind::Cancelled => "cancelled, then submitted or resumed",
            Kind::WorkerReset => "worker's connections reset",
            Kind::DriverReset => "driver's connections reset",
            Kind::WorkerFrozen => "worker's network frozen",
            Kind::DriverFrozen => "driver's network frozen",
            Kind::DriverAndWorkerCutOff => "driver and worker cut off",
            Kind::DiskFull => "disk full",
            Kind::StoreSlow => "store slow",
        })
    }
}

/// Something that goes wrong. Who is not there when its time comes is spared, and somebody else of its kind is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// How long after the fault before it, at least.
    pub(crate) after_ms: u64,
    /// How long it lasts.
    pub(crate) for_ms: u64,
    /// Which worker, and which of the jobs that run.
    pub(crate) worker: usize,
    pub(crate) job: usize,
    /// Whether a cancelled job is gone on with by `resume`, or else by the same command.
    pub(crate) by_resume: bool,
    /// How much longer each access to a slow store takes.
    pub(crate) slow_ms: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.for_ms > 0 {
            write!(f, ", {} ms", self.for_ms)?;
        }
        match self.kind {
            Kind::StoreSlow => write!(f, ", {} ms each access", self.slow_ms),
            Kind::Cancelled if self.by_resume => write!(f, ", by `resume`"),
            _ => Ok(()),
        }
    }
}

/// What a seed says.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn of(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Faults of all these kinds, in an order.
    pub(crate) fn faults(&mut self, kinds: &[Kind]) -> Vec<Fault> {
        let mut kinds = kinds.to_vec();
        for last in (1..kinds.len()).rev() {
            kinds.swap(last, self.one_of(last + 1));
        }
        kinds.into_iter().map(|kind| self.fault(kind)).collect()
    }

    fn fault(&mut self, kind: Kind) -> Fault {
        Fault {
            kind,
            after_ms: self.within(GAP_MS),
            for_ms: self.within(kind.lasts_ms()),
            worker: self.one_of(N_WORKERS),
            job: self.one_of(N_JOBS),
            by_resume: self.one_of(2) == 1,
            slow_ms: self.within((10, 60)),
        }
    }

    /// A number of the range, its end included.
    fn within(&mut self, (first, last): (u64, u64)) -> u64 {
        first + u64::from(self.0.next_u32()) % (last - first + 1)
    }

    /// A number below `n`.
    pub(crate) fn one_of(&mut self, n: usize) -> usize {
        self.within((0, n as u64 - 1)) as usize
    }
}

#[test]
fn a_seed_says_all_seeds_differ_and_no_kind_is_left_out() {
    let drawn = |seed| Dice::of(seed).faults(&Kind::ALL);
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
    let mut kinds: Vec<Kind> = drawn(7).iter().map(|fault| fault.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, Kind::ALL);
}
