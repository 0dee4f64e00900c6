//! What goes wrong, and when.

use super::*;

impl World {
    pub(super) fn plan_faults(&mut self) {
        self.plan_wear();
        let faults = self.scenario.faults;
        let with_moments = Kind::ALL.into_iter().filter(|kind| kind.has_moments());
        for kind in with_moments {
            for _ in 0..faults[kind] {
                if faults.lies_in_wait {
                    let step = self.dice.pick(0..STEPS_WATCHED);
                    self.in_wait.push((step, kind));
                    continue;
                }
                let time = self.dice.pick(0..faults.until_ms);
                self.agenda.at(Millis(time), Happening::Fault(Fault::Of(kind)));
            }
        }
    }

    /// A driver begins a step that takes so long: what waited for it happens meanwhile.
    pub(super) fn on_step(&mut self, ms: u64) {
        let number = self.n_steps;
        self.n_steps += 1;
        if self.in_peace() {
            return;
        }
        for (_, kind) in self
            .in_wait
            .extract_if(.., |(step, _)| *step == number)
            .collect::<Vec<_>>()
        {
            let ms = self.dice.pick(0..ms);
            self.agenda.after(ms, Happening::Fault(Fault::Of(kind)));
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
        match fault {
            Fault::Of(kind) => {
                if self.strike(kind) {
                    self.counts.fire(kind);
                }
            }
            Fault::EmptyDisk => self.storage.full = false,
            Fault::Reconnect(node) => self.reconnect(node),
            Fault::WearOut => {
                let slot = self.any_worker();
                self.kill_worker(slot);
                self.plan_wear();
            }
            Fault::StartDriver(i) => self.start_driver(i as usize),
            Fault::StartWorker(slot) => self.start_worker(slot as usize),
        }
    }

    /// Whether there was something to strike.
    fn strike(&mut self, kind: Kind) -> bool {
        let now = self.agenda.now();
        match kind {
            Kind::KillsWorkers => {
                let slot = self.any_worker();
                self.kill_worker(slot)
            }
            Kind::KillsDrivers => {
                let driver = self.any_driver();
                self.kill_driver(driver)
            }
            Kind::StopsWorkers => {
                let (slot, ms) = (self.any_worker(), self.dice.pick(500..40_000));
                self.workers[slot].life.stop_until(Millis(now.0 + ms));
                self.workers[slot].life.alive
            }
            Kind::StopsDrivers => {
                let (driver, ms) = (self.any_driver(), self.dice.pick(500..40_000));
                self.drivers[driver].life.stop_until(Millis(now.0 + ms));
                self.drivers[driver].life.alive
            }
            Kind::DrainsWorkers => {
                let slot = self.any_worker();
                let drain = WorkerEvent::Received(ToWorker::Drain);
                self.later(slot, 0, WorkerInput::Event(drain));
                self.workers[slot].life.alive
            }
            Kind::CutsOff => {
                let node = if self.dice.happens(300) {
                    Node::Driver(self.any_driver() as u32)
                } else {
                    Node::Worker(self.any_worker() as u32)
                };
                self.cut_off(node, 30_000)
            }
            Kind::CutsDriversOff => {
                let node = Node::Driver(self.any_driver() as u32);
                self.cut_off(node, 30_000)
            }
            Kind::LosesServer => self.lose_server(),
            Kind::CutsPower => self.cut_power(),
            Kind::FillsDisk => {
                let was_full = std::mem::replace(&mut self.storage.full, true);
                let ms = self.dice.pick(1_000..20_000);
                self.agenda.after(ms, Happening::Fault(Fault::EmptyDisk));
                !was_full
            }
            Kind::JumpsClocks => {
                let ms = self.dice.pick(100..60_000);
                let (worker, slot, driver) = (self.dice.happens(500), self.any_worker(), self.any_driver());
                let life = if worker {
                    &mut self.workers[slot].life
                } else {
                    &mut self.drivers[driver].life
                };
                life.ahead_ms += ms;
                life.jumped = Some(now);
                life.alive
            }
            Kind::StartsAfresh => self.start_afresh(),
            Kind::Cancels => self.ask_leaders(&DriverInput::Cancel),
            Kind::AsksAgain => self.ask_leaders(&DriverInput::AskAgain),
            _ => unreachable!("`{kind:?}` has no moments"),
        }
    }

    fn cut_off(&mut self, node: Node, ms_max: u64) -> bool {
        let until = Millis(self.agenda.now().0 + self.dice.pick(500..ms_max));
        self.network.cut_off(node, until);
        self.agenda.at(until, Happening::Fault(Fault::Reconnect(node)));
        true
    }

    /// Workers that were cut off, or may have missed something, begin anew with the engine.
    fn reconnect(&mut self, node: Node) {
        for slot in 0..self.workers.len() {
            let is_meant = node == Node::Worker(slot as u32) || node == Node::Server;
            if is_meant && self.network.connects(self.agenda.now(), node, Node::Server) {
                self.later(slot, 1, WorkerInput::Event(WorkerEvent::Connected));
            }
        }
    }

    /// The server is away for a while, and may come back without what it knew. Then a standby takes the lease at once, and the leader
    /// goes on until it must step down; revisions begin anew, so that its last question may still be taken, and that a standby which
    /// missed just one look may take the new lease for the old one. Run epochs fence what is done meanwhile.
    fn lose_server(&mut self) -> bool {
        self.cut_off(Node::Server, 15_000);
        if self.dice.happens(500) {
            self.queue = WorkQueue::default();
            self.lease.state = LeaseState {
                revision: 0,
                holder: None,
            };
            self.lease.two_until = Millis(self.agenda.now().0 + 2 * LEASE_STEP_DOWN_MS);
        }
        true
    }

    /// Whoever drives the job is asked for something.
    fn ask_leaders(&mut self, question: &DriverInput) -> bool {
        let drivers = 0..self.drivers.len();
        let leaders: Vec<usize> = drivers
            .filter(|i| self.drivers[*i].life.alive && self.drives(*i))
            .collect();
        for i in &leaders {
            let incarnation = self.drivers[*i].life.incarnation;
            let happening = Happening::AtDriver(*i as u32, incarnation, question.clone());
            self.agenda.after(0, happening);
        }
        !leaders.is_empty()
    }

    pub(super) fn kill_worker(&mut self, slot: usize) -> bool {
        let worker = &mut self.workers[slot];
        if !worker.life.alive {
            return false;
        }
        worker.life.alive = false;
        self.queue
            .forget(worker_idx(&self.scenario, slot as u32, worker.life.incarnation));
        let ms = RESTART_MS + self.dice.pick(0..15_000);
        self.agenda
            .after(ms, Happening::Fault(Fault::StartWorker(slot as u32)));
        if self.scenario.checks && self.dice.happens(300) {
            self.engine_tells_loss(slot);
        }
        true
    }

    pub(super) fn kill_driver(&mut self, i: usize) -> bool {
        let driver = &mut self.drivers[i];
        if !driver.life.alive {
            return false;
        }
        driver.life.alive = false;
        driver.leading = None;
        let ms = RESTART_MS + self.dice.pick(0..15_000);
        self.agenda
            .after(ms, Happening::Fault(Fault::StartDriver(i as u32)));
        true
    }

    pub(super) fn cut_power(&mut self) -> bool {
        for slot in 0..self.workers.len() {
            self.kill_worker(slot);
        }
        for driver in 0..self.drivers.len() {
            self.kill_driver(driver);
        }
        self.queue = WorkQueue::default();
        self.storage.power_cut();
        let lost = self.storage.first_lost(self.acknowledged.iter().copied());
        if let Some((round, task)) = lost {
            self.violate(Violation::AcknowledgedButLost(round, task));
        }
        true
    }

    /// As a user does who gives other inputs: whoever leads begins a new run, and nobody tells the workers.
    pub(super) fn start_afresh(&mut self) -> bool {
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
        true
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
            n_fetches: 0,
            run: None,
            n_runs: 0,
        };
        self.tell_what_it_lacks(slot);
        self.at_worker(slot, WorkerInput::Event(WorkerEvent::Connected));
    }

    /// Before a worker joins, whoever leads learns what its program knows.
    fn tell_what_it_lacks(&mut self, slot: usize) {
        if lacks_of(&self.scenario, slot as u32) != LastWorker::LacksCode {
            return;
        }
        let incarnation = self.workers[slot].life.incarnation;
        let worker = worker_idx(&self.scenario, slot as u32, incarnation);
        for i in 0..self.drivers.len() {
            let input = DriverInput::Event(DriverEvent::LacksCode(job(), worker));
            let incarnation = self.drivers[i].life.incarnation;
            let happening = Happening::AtDriver(i as u32, incarnation, input);
            self.agenda.after(1, happening);
        }
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
