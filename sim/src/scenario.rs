//! What a seed stands for: how large the world is, how fast, and what goes wrong in it.
//!
//! Which kinds of fault a seed has is swarm testing (Groce et al., "Swarm Testing", ISSTA 2012): each seed leaves out kinds of its own, for a
//! fault that is always there hides what others would show. How many it has is drawn too, and how much of each.

use crate::dice::Dice;
use std::ops::Index;
use tilework_core::driver::{Assign, WhenFull};

/// A run to be simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where all chance comes from.
    pub seed: u64,
    /// Worker processes.
    pub n_workers: u32,
    /// Driver processes.
    pub n_drivers: u32,
    /// Tasks of each round.
    pub rounds: Vec<u64>,
    /// What a task takes a worker that is not slow.
    pub task_ms: u64,
    /// How tasks find their workers.
    pub assign: Assign,
    /// Whether stragglers are backed up.
    pub backups: bool,
    /// Whether workers take a task ahead.
    pub look_ahead: bool,
    /// Whether all workers are of one machine, as far as the driver knows.
    pub one_machine: bool,
    /// What the job does on a full disk.
    pub when_full: WhenFull,
    /// What the last worker lacks, where there are several, on several machines.
    pub last_worker: LastWorker,
    /// Longest delay of a message that is not late.
    pub delay_ms: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether everything is checked at every step, on the real journal; otherwise the run is only as exact as planning needs.
    pub checks: bool,
}

/// What the last worker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastWorker {
    /// All that the others can.
    Able,
    /// Its program lacks the job's code.
    LacksCode,
    /// It has too little memory for any task.
    TooSmall,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Messages are lost: so many in a thousand.
    Loses,
    /// They arrive twice: so many in a thousand.
    Repeats,
    /// One in ten takes long: up to so many milliseconds.
    Delays,
    /// Attempts fail with an error that may pass: so many in a thousand.
    Fails,
    /// They fail their check: so many in a thousand.
    Corrupts,
    /// They fail it on the last worker, whose machine is faulty: so many in a thousand.
    Miscomputes,
    /// Their output changes after the check: so many in a thousand.
    Lies,
    /// Some tasks fail whoever tries them, for the first half of the time.
    Resists,
    /// Attempts don't end, so many in a thousand: one half stops when it is told to, the other does not.
    Hangs,
    /// The first worker takes so many times as long.
    Slows,
    /// Inputs are opened, outputs and records written, and a driver's steps taken as late as so many milliseconds.
    SlowsStorage,
    /// A driver's own steps fail: so many in a thousand.
    FailsSteps,
    /// The disk is full for a while, so many times.
    FillsDisk,
    /// Worker processes are killed, and come back.
    KillsWorkers,
    /// Worker processes stop for a while, and wake.
    StopsWorkers,
    /// Worker processes are told to end, and come back.
    DrainsWorkers,
    /// Driver processes are killed, and come back.
    KillsDrivers,
    /// Driver processes stop for a while, and wake.
    StopsDrivers,
    /// Processes are cut off from all others.
    CutsOff,
    /// Drivers are.
    CutsDriversOff,
    /// The power fails, and writes are torn.
    CutsPower,
    /// The server is away for a while, and every other time its queue and its lease are lost.
    LosesServer,
    /// Clocks jump ahead.
    JumpsClocks,
    /// The job is discarded and started afresh, with other inputs.
    StartsAfresh,
    /// Somebody ends the job and goes on with it.
    Cancels,
    /// The same job is asked for while it runs.
    AsksAgain,
    /// Each run of the job ends when so many milliseconds are over, and somebody goes on with it.
    LimitsTime,
}

impl Kind {
    /// How many there are.
    pub const N: usize = Kind::ALL.len();

    /// All of them.
    pub const ALL: [Kind; 27] = [
        Kind::Loses,
        Kind::Repeats,
        Kind::Delays,
        Kind::Fails,
        Kind::Corrupts,
        Kind::Miscomputes,
        Kind::Lies,
        Kind::Resists,
        Kind::Hangs,
        Kind::Slows,
        Kind::SlowsStorage,
        Kind::FailsSteps,
        Kind::FillsDisk,
        Kind::KillsWorkers,
        Kind::StopsWorkers,
        Kind::DrainsWorkers,
        Kind::KillsDrivers,
        Kind::StopsDrivers,
        Kind::CutsOff,
        Kind::CutsDriversOff,
        Kind::CutsPower,
        Kind::LosesServer,
        Kind::JumpsClocks,
        Kind::StartsAfresh,
        Kind::Cancels,
        Kind::AsksAgain,
        Kind::LimitsTime,
    ];

    /// Whether it happens at moments, and not with a chance or always.
    pub(crate) fn has_moments(self) -> bool {
        self == Kind::FillsDisk || self >= Kind::KillsWorkers && self != Kind::LimitsTime
    }

    /// How much of it a seed may have at most. It has this, or a half, a quarter or an eighth of it.
    fn most(self) -> u64 {
        match self {
            Kind::Loses | Kind::Repeats | Kind::Fails => 200,
            Kind::Corrupts | Kind::Lies => 80,
            Kind::Miscomputes => 800,
            Kind::Hangs => 60,
            Kind::FailsSteps => 400,
            Kind::Slows => 16,
            Kind::Resists => 8,
            Kind::Delays => 3_000,
            Kind::SlowsStorage => 12_000,
            Kind::LimitsTime => 40_000,
            // Moments.
            _ => 8,
        }
    }
}

/// What goes wrong, until [`until_ms`](Faults::until_ms): then the world is left in peace to finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// When it ends.
    pub until_ms: u64,
    /// Mean time between failures of one worker, in milliseconds; it comes back. 0: none fails.
    pub mtbf_ms: u64,
    /// Whether what has its moments waits for a driver to take a step, such as a barrier, and not for a time.
    pub lies_in_wait: bool,
    pub(crate) strengths: [u64; Kind::N],
}

impl Faults {
    /// The same with so much of a kind.
    pub fn with(mut self, kind: Kind, strength: u64) -> Faults {
        self.strengths[kind as usize] = strength;
        self
    }
}

/// How much of a kind there is; 0 where it is left out.
impl Index<Kind> for Faults {
    type Output = u64;

    fn index(&self, kind: Kind) -> &u64 {
        &self.strengths[kind as usize]
    }
}

/// Faults happen within the first minute ...
const UNTIL_MS: u64 = 60_000;
/// ... or, in every other run, about while there is work, and so long after it.
const AFTER_WORK_MS: u64 = 10_000;

impl Scenario {
    /// The scenario of a seed. Most have few kinds of fault, so that each is also met alone; a tenth has none, and some have all.
    pub fn of_seed(seed: u64) -> Scenario {
        let mut dice = Dice::new(seed ^ 0x5ce_a410);
        let n_workers = dice.pick(1..7) as u32;
        let n_rounds = dice.pick(1..4);
        let rounds: Vec<u64> = (0..n_rounds).map(|_| dice.pick(0..40)).collect();
        let task_ms = if dice.happens(100) {
            dice.pick(1..200)
        } else {
            dice.pick(200..6_000)
        };
        let work_ms = rounds.iter().sum::<u64>() * task_ms / u64::from(n_workers);
        let until_ms = if dice.happens(500) {
            UNTIL_MS
        } else {
            UNTIL_MS.min(work_ms + AFTER_WORK_MS)
        };
        let one_machine = dice.happens(100);
        Scenario {
            seed,
            n_workers,
            n_drivers: dice.pick(1..4) as u32,
            rounds,
            task_ms,
            assign: if dice.happens(300) {
                Assign::RoundRobin { n_workers }
            } else {
                Assign::Dynamic
            },
            backups: dice.happens(900),
            look_ahead: dice.happens(500),
            one_machine,
            when_full: if dice.happens(300) {
                WhenFull::Stop
            } else {
                WhenFull::Wait
            },
            last_worker: match dice.pick(0..10) {
                _ if n_workers == 1 || one_machine => LastWorker::Able,
                0 => LastWorker::LacksCode,
                1 => LastWorker::TooSmall,
                _ => LastWorker::Able,
            },
            delay_ms: 20,
            checks: true,
            faults: faults(&mut dice, until_ms),
        }
    }

    /// The same without faults.
    pub fn in_peace(self) -> Scenario {
        Scenario {
            one_machine: false,
            last_worker: LastWorker::Able,
            delay_ms: 2,
            faults: Faults::default(),
            ..self
        }
    }
}

fn faults(dice: &mut Dice, until_ms: u64) -> Faults {
    let density = dice.pick(0..1_001).min(dice.pick(0..1_001));
    let mut faults = Faults {
        until_ms,
        lies_in_wait: dice.happens(300),
        ..Faults::default()
    };
    for kind in Kind::ALL {
        if dice.happens(density) {
            faults = faults.with(kind, kind.most() >> dice.pick(0..4));
        }
    }
    faults
}
