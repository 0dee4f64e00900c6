//! What a seed stands for: how large the world is, how fast, and what goes wrong in it.

use crate::dice::Dice;
use tilework_core::driver::Assign;

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
    /// What goes wrong.
    pub faults: Faults,
    /// Whether everything is checked at every step, on the real journal; otherwise the run is only as exact as planning needs.
    pub checks: bool,
}

/// What goes wrong, until [`until_ms`](Faults::until_ms): then the world is left in peace to finish. All chances are per thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// When it ends.
    pub until_ms: u64,
    /// Messages that are lost ...
    pub lost: u64,
    /// ... or arrive twice.
    pub repeated: u64,
    /// Longest delay of a message.
    pub delay_ms_max: u64,
    /// Attempts that fail with an error that may pass ...
    pub failing: u64,
    /// ... that fail their check ...
    pub corrupt: u64,
    /// ... that fail it on the last worker, whose machine is faulty ...
    pub faulty: u64,
    /// ... or whose output changes after the check.
    pub lying: u64,
    /// Some tasks fail whoever tries them, for the first half of the time.
    pub stubborn: bool,
    /// Attempts that don't end: one half stops when it is told to, the other does not.
    pub hanging: u64,
    /// The first worker takes so many times as long.
    pub slow_factor: u64,
    /// Mean time between failures of one worker, in milliseconds; it comes back. 0: none fails.
    pub mtbf_ms: u64,
    /// Worker processes are killed, and come back.
    pub kills_workers: bool,
    /// Worker processes stop for a while, and wake.
    pub stops_workers: bool,
    /// Driver processes are killed, and come back.
    pub kills_drivers: bool,
    /// Driver processes stop for a while, and wake.
    pub stops_drivers: bool,
    /// Processes are cut off from all others.
    pub partitions: bool,
    /// Drivers are.
    pub cuts_drivers_off: bool,
    /// The power fails, and writes are torn.
    pub power_cuts: bool,
    /// The disk is full for a while.
    pub fills_disk: bool,
    /// The job is discarded and started afresh, with other inputs.
    pub starts_afresh: bool,
    /// Clocks jump ahead.
    pub clock_jumps: bool,
}

impl Scenario {
    /// The scenario of a seed. Each kind of fault is left out more often than not, so that each is also met alone.
    pub fn of_seed(seed: u64) -> Scenario {
        let mut dice = Dice::new(seed ^ 0x5ce_a410);
        let n_workers = dice.pick(1..7) as u32;
        let n_rounds = dice.pick(1..3);
        let assign = if dice.happens(300) {
            Assign::RoundRobin { n_workers }
        } else {
            Assign::Dynamic
        };
        let mut some = |per_mille: u64| if dice.happens(350) { per_mille } else { 0 };
        let (lost, repeated, failing, corrupt, lying, slow) =
            (some(50), some(100), some(60), some(40), some(30), some(10));
        let mut whether = || some(1) > 0;
        let (faulty, stubborn) = (if whether() { 500 } else { 0 }, whether());
        let faults = Faults {
            until_ms: 60_000,
            lost,
            repeated,
            failing,
            corrupt,
            faulty,
            lying,
            stubborn,
            slow_factor: slow.max(1),
            mtbf_ms: 0,
            kills_workers: whether(),
            stops_workers: whether(),
            kills_drivers: whether(),
            stops_drivers: whether(),
            partitions: whether(),
            cuts_drivers_off: whether(),
            power_cuts: whether(),
            fills_disk: whether(),
            clock_jumps: whether(),
            starts_afresh: whether(),
            delay_ms_max: 0,
            hanging: if whether() { 15 } else { 0 },
        };
        Scenario {
            seed,
            n_workers,
            n_drivers: dice.pick(1..4) as u32,
            rounds: (0..n_rounds).map(|_| dice.pick(0..40)).collect(),
            task_ms: dice.pick(200..6_000),
            assign,
            backups: true,
            look_ahead: dice.happens(500),
            checks: true,
            faults: Faults {
                delay_ms_max: if dice.happens(200) { 3_000 } else { 20 },
                ..faults
            },
        }
    }

    /// The same without faults.
    pub fn in_peace(self) -> Scenario {
        Scenario {
            faults: Faults {
                delay_ms_max: 2,
                slow_factor: self.faults.slow_factor.max(1),
                ..Faults::default()
            },
            ..self
        }
    }
}
