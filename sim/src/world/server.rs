//! The server: the work queue and the lease, and what the network does to messages.

use super::*;

impl World {
    pub(super) fn ask_server(&mut self, from: Node, request: Request) {
        let now = self.agenda.now();
        if self.network.connects(now, from, Node::Server) {
            let weather = self.weather();
            let delay = self.network.delay(&mut self.dice, weather);
            self.agenda.after(delay, Happening::AtServer(request));
        } else if let Request::SetLease(driver, incarnation, _, asked) = request
            && self.dice.happens(500)
        {
            // Who asks is told that no answer came.
            let refused = DriverInput::Lease(LeaseEvent::Refused { asked });
            let told = Happening::AtDriver(driver, incarnation, refused);
            self.agenda.after(LEASE_ANSWER_MS, told);
        }
    }

    pub(super) fn at_server(&mut self, request: Request) {
        let now = self.agenda.now();
        match request {
            Request::Publish(attempt, queue) => self.queue.publish(attempt, queue),
            Request::Purge => self.queue.purge(),
            Request::Fetch(slot, incarnation) => {
                let life = &self.workers[slot as usize].life;
                if life.alive && life.incarnation == incarnation {
                    self.queue.fetch(worker_idx(&self.scenario, slot, incarnation));
                }
            }
            Request::Ack(attempt) => self.queue.ack(attempt),
            Request::Renew(attempt) => self.queue.renew(now, attempt),
            Request::ReadLease(driver, incarnation) => {
                let event = LeaseEvent::Read(self.lease.state);
                self.answer_driver(driver, incarnation, DriverInput::Lease(event));
            }
            Request::SetLease(driver, incarnation, expected, asked) => {
                let event = if self.lease.state.revision == expected {
                    let revision = self.set_lease(driver);
                    LeaseEvent::Taken { revision, asked }
                } else {
                    LeaseEvent::Refused { asked }
                };
                self.answer_driver(driver, incarnation, DriverInput::Lease(event));
            }
        }
        self.deliver();
    }

    fn set_lease(&mut self, driver: u32) -> u64 {
        let (now, lease) = (self.agenda.now(), &mut self.lease);
        let jumped = self.drivers[driver as usize].life.jumped;
        if jumped.is_some_and(|jumped| jumped >= lease.set) {
            let excused = Millis(lease.set.0 + LEASE_STEP_DOWN_MS);
            lease.two_until = lease.two_until.max(excused);
        }
        lease.state = LeaseState {
            revision: lease.state.revision + 1,
            holder: Some(DriverIdx(driver)),
        };
        lease.set = now;
        lease.state.revision
    }

    pub(super) fn deliver(&mut self) {
        for (worker, attempt) in self.queue.deliver(self.agenda.now()) {
            let (slot, incarnation) = slot_of(&self.scenario, worker);
            let event = WorkerInput::Event(WorkerEvent::Assigned(attempt));
            self.send(
                Node::Server,
                Node::Worker(slot),
                Happening::AtWorker(slot, incarnation, event),
            );
        }
    }

    pub(super) fn answer_driver(&mut self, driver: u32, incarnation: u32, input: DriverInput) {
        let happening = Happening::AtDriver(driver, incarnation, input);
        self.send(Node::Server, Node::Driver(driver), happening);
    }

    /// Sends what may be lost, repeated or late.
    pub(super) fn send(&mut self, from: Node, to: Node, happening: Happening) {
        self.counts.n_messages += 1;
        if !self.network.connects(self.agenda.now(), from, to) {
            return;
        }
        let weather = self.weather();
        let delays = self.network.delays(&mut self.dice, weather);
        match delays[..] {
            [] => self.counts.fire(Kind::Loses),
            [_] => {}
            _ => self.counts.fire(Kind::Repeats),
        }
        for delay in delays {
            if delay > self.scenario.delay_ms {
                self.counts.fire(Kind::Delays);
            }
            self.agenda.after(delay, happening.clone());
        }
    }

    /// The engine knows that a worker's end of it is closed.
    pub(super) fn engine_tells_loss(&mut self, slot: usize) {
        if !self.scenario.checks {
            return;
        }
        let incarnation = self.workers[slot].life.incarnation;
        let lost = worker_idx(&self.scenario, slot as u32, incarnation);
        for i in 0..self.drivers.len() {
            let incarnation = self.drivers[i].life.incarnation;
            let told = DriverInput::Event(DriverEvent::WorkerLost(lost));
            let happening = Happening::AtDriver(i as u32, incarnation, told);
            self.send(Node::Server, Node::Driver(i as u32), happening);
        }
    }
}
