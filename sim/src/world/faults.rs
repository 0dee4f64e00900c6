//! What goes wrong, and when.

use super::*;

impl World {
    pub(super) fn plan_faults(&mut self) {
        self.plan_wear();
        let faults = self.scenario.faults;
        let kinds = [
            (faults.kills_workers, Fault::KillWorker),
            (faults.stops_workers, Fault::StopWorker),
            (faults.kills_drivers, Fault::KillDriver),
            (faults.stops_drivers, Fault::StopDriver),
            (faults.partitions, Fault::CutOff),
            (faults.cuts_drivers_off, Fault::CutDriverOff),
            (faults.power_cuts, Fault::PowerCut),
            (faults.fills_disk, Fault::FillDisk),
            (faults.clock_jumps, Fault::JumpClock),
            (faults.starts_afresh, Fault::StartAfresh),
        ];
        for (_, fault) in kinds.into_iter().filter(|(happens, _)| *happens) {
            for _ in 0..self.dice.pick(1..5) {
                let time = self.dice.pick(0..faults.until_ms);
                self.agenda.at(Millis(time), Happening::Fault(fault));
            }
        }
    }

    pub(super) fn plan_wear(&mut self) {
        let mtbf_ms = self.scenario.faults.mtbf_ms;
        if mtbf_ms > 0 {
            let ms = self.dice.wait(mtbf_ms as f64 / self.workers.len() as f64);
            self.agenda.after(ms as u64 + 1, Happening::Fault(Fault::WearOut));
        }
    }

    pub(super) fn any_worker(&mut self) -> usize {
        self.dice.pick(0..self.workers.len() as u64) as usize
    }

    pub(super) fn any_driver(&mut self) -> usize {
        self.dice.pick(0..self.drivers.len() as u64) as usize
    }

    pub(super) fn suffer(&mut self, fault: Fault) {
        let now = self.agenda.now();
        match fault {
            Fault::KillWorker => {
                let slot = self.any_worker();
                self.kill_worker(slot);
            }
            Fault::KillDriver => {
                let driver = self.any_driver();
                self.kill_driver(driver);
            }
            Fault::StopWorker => {
                let (slot, ms) = (self.any_worker(), self.dice.pick(500..40_000));
                self.workers[slot].life.stop_until(Millis(now.0 + ms));
                self.counts.n_stops += 1;
            }
            Fault::StopDriver => {
                let (driver, ms) = (self.any_driver(), self.dice.pick(500..40_000));
                self.drivers[driver].life.stop_until(Millis(now.0 + ms));
                self.counts.n_stops += 1;
            }
            Fault::CutOff => {
                let node = if self.dice.happens(300) {
                    Node::Driver(self.any_driver() as u32)
                } else {
                    Node::Worker(self.any_worker() as u32)
                };
                self.cut_off(node);
            }
            Fault::CutDriverOff => {
                let node = Node::Driver(self.any_driver() as u32);
                self.cut_off(node);
            }
            Fault::PowerCut => self.cut_power(),
            Fault::FillDisk => {
                self.storage.full = true;
                let ms = self.dice.pick(1_000..20_000);
                self.agenda.after(ms, Happening::Fault(Fault::EmptyDisk));
            }
            Fault::EmptyDisk => self.storage.full = false,
            Fault::JumpClock => {
                let ms = self.dice.pick(100..60_000);
                let (worker, slot, driver) = (self.dice.happens(500), self.any_worker(), self.any_driver());
                let life = if worker {
                    &mut self.workers[slot].life
                } else {
                    &mut self.drivers[driver].life
                };
                life.ahead_ms += ms;
                life.jumped = Some(now);
            }
            Fault::StartAfresh => self.start_afresh(),
            Fault::WearOut => {
                let slot = self.any_worker();
                self.kill_worker(slot);
                self.plan_wear();
            }
            Fault::StartDriver(i) => self.start_driver(i as usize),
            Fault::StartWorker(slot) => self.start_worker(slot as usize),
        }
    }

    fn cut_off(&mut self, node: Node) {
        let until = Millis(self.agenda.now().0 + self.dice.pick(500..30_000));
        self.network.cut_off(node, until);
    }

    pub(super) fn kill_worker(&mut self, slot: usize) {
        let worker = &mut self.workers[slot];
        if !worker.life.alive {
            return;
        }
        worker.life.alive = false;
        self.counts.n_kills += 1;
        self.queue
            .forget(worker_idx(&self.scenario, slot as u32, worker.life.incarnation));
        let ms = RESTART_MS + self.dice.pick(0..15_000);
        self.agenda
            .after(ms, Happening::Fault(Fault::StartWorker(slot as u32)));
    }

    pub(super) fn kill_driver(&mut self, i: usize) {
        let driver = &mut self.drivers[i];
        if !driver.life.alive {
            return;
        }
        driver.life.alive = false;
        driver.leading = None;
        self.counts.n_kills += 1;
        let ms = RESTART_MS + self.dice.pick(0..15_000);
        self.agenda
            .after(ms, Happening::Fault(Fault::StartDriver(i as u32)));
    }

    pub(super) fn cut_power(&mut self) {
        self.counts.n_power_cuts += 1;
        (0..self.workers.len()).for_each(|slot| self.kill_worker(slot));
        (0..self.drivers.len()).for_each(|driver| self.kill_driver(driver));
        self.queue = WorkQueue::default();
        self.storage.power_cut();
        let lost = self.storage.first_lost(self.acknowledged.iter().copied());
        if let Some((round, task)) = lost {
            self.violate(Violation::AcknowledgedButLost(round, task));
        }
    }

    /// As a user does who gives other inputs: whoever leads begins a new run, and nobody tells the workers.
    pub(super) fn start_afresh(&mut self) {
        if self.done {
            return;
        }
        self.storage.discard();
        self.generations.push(self.storage.fresh_since);
        self.acknowledged.clear();
        self.barriers.clear();
        for i in 0..self.drivers.len() {
            self.drivers[i].leading = None;
            let incarnation = self.drivers[i].life.incarnation;
            let again = Happening::AtDriver(i as u32, incarnation, DriverInput::Lead);
            self.agenda.after(1_000, again);
        }
    }

    /// How often the job had been started afresh when this run began.
    pub(super) fn generation_of(&self, epoch: RunEpoch) -> usize {
        self.generations.iter().filter(|since| epoch >= **since).count()
    }

    pub(super) fn start_worker(&mut self, slot: usize) {
        let worker = &mut self.workers[slot];
        if worker.life.alive {
            return;
        }
        let incarnation = worker.life.incarnation + 1;
        *worker = WorkerProcess {
            life: Life {
                incarnation,
                alive: true,
                ahead_ms: worker.life.ahead_ms,
                ..Life::default()
            },
            machine: Worker::new(worker_start(&self.scenario, slot as u32, incarnation)),
            segment: None,
            fetching: false,
            hangs: None,
        };
        self.at_worker(slot, WorkerInput::Event(WorkerEvent::Connected));
    }

    pub(super) fn start_driver(&mut self, i: usize) {
        let driver = &mut self.drivers[i];
        if driver.life.alive {
            return;
        }
        *driver = DriverProcess {
            life: Life {
                incarnation: driver.life.incarnation + 1,
                alive: true,
                ahead_ms: driver.life.ahead_ms,
                ..Life::default()
            },
            lease: Lease::new(DriverIdx(i as u32)),
            lease_timer: Timer::default(),
            leading: None,
        };
        self.at_driver(i, DriverInput::Lease(LeaseEvent::Tick));
    }
}
