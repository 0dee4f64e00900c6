//! Worker processes: the machine, the task's work, its output and its record.

use super::*;

impl World {
    pub(super) fn at_worker(&mut self, slot: usize, input: WorkerInput) {
        match input {
            WorkerInput::Event(event) => self.work(slot, event),
            WorkerInput::Wake(at) => {
                if self.workers[slot].life.timer.rings(at) {
                    self.work(slot, WorkerEvent::Tick);
                }
            }
            WorkerInput::Sync(attempt) => {
                let synced = match &mut self.workers[slot].segment {
                    Some((_, segment)) => self.storage.sync(segment),
                    None => Ok(()),
                };
                self.work(slot, WorkerEvent::CommitDurable(attempt, synced));
            }
            WorkerInput::FetchAgain => {
                if self.workers[slot].fetching {
                    self.fetch(slot);
                }
            }
        }
    }

    pub(super) fn work(&mut self, slot: usize, event: WorkerEvent) {
        let now = self.agenda.now();
        if matches!(event, WorkerEvent::Assigned(_)) {
            self.workers[slot].fetching = false;
        }
        let incarnation = self.workers[slot].life.incarnation;
        if event == WorkerEvent::Received(ToWorker::Drain) {
            self.draining.insert((slot, incarnation));
        }
        let worker = &mut self.workers[slot];
        let clock = worker.life.clock(now);
        let mut effects = Vec::new();
        worker.machine.on_event(clock, event, &mut effects);
        if self.scenario.checks {
            worker.machine.check_invariants();
        }
        self.counts.n_events += 1;
        for effect in effects {
            if !matches!(effect, WorkerEffect::WakeAt(_)) {
                self.note(&(slot, &effect));
            }
            self.do_for_worker(slot, effect);
        }
    }

    pub(super) fn later(&mut self, slot: usize, ms: u64, input: WorkerInput) {
        let incarnation = self.workers[slot].life.incarnation;
        self.agenda
            .after(ms, Happening::AtWorker(slot as u32, incarnation, input));
    }

    pub(super) fn fetch(&mut self, slot: usize) {
        let incarnation = self.workers[slot].life.incarnation;
        self.workers[slot].fetching = true;
        self.ask_server(
            Node::Worker(slot as u32),
            Request::Fetch(slot as u32, incarnation),
        );
        self.later(slot, FETCH_AGAIN_MS, WorkerInput::FetchAgain);
    }

    pub(super) fn do_for_worker(&mut self, slot: usize, effect: WorkerEffect) {
        let node = Node::Worker(slot as u32);
        match effect {
            WorkerEffect::Fetch => self.fetch(slot),
            WorkerEffect::Prepare(_) => {}
            WorkerEffect::Run(attempt) => self.run_task(slot, attempt),
            WorkerEffect::CancelRun(attempt) if self.workers[slot].hangs == Some(attempt) => {}
            WorkerEffect::CancelRun(attempt) => {
                let ended = WorkerEvent::RunEnded(attempt, Err(Failure::cancelled()));
                self.later(slot, 10, WorkerInput::Event(ended));
            }
            // The process ends once the machine says so.
            WorkerEffect::GiveUpRun(_) => self.counts.n_hung += 1,
            WorkerEffect::WriteOutput(attempt) => self.write_output(slot, attempt),
            WorkerEffect::AppendCommit(attempt) => self.append_commit(slot, attempt),
            WorkerEffect::Renew(attempt) => self.ask_server(node, Request::Renew(attempt)),
            WorkerEffect::Ack(attempt) => self.ask_server(node, Request::Ack(attempt)),
            WorkerEffect::Send(message) => self.tell_drivers(slot, message),
            WorkerEffect::WakeAt(at) => {
                let life = &mut self.workers[slot].life;
                let at = life.when(at).max(self.agenda.now());
                if life.timer.set(at) {
                    let ms = at.0 - self.agenda.now().0;
                    self.later(slot, ms, WorkerInput::Wake(at));
                }
            }
            WorkerEffect::End => {
                self.workers[slot].life.alive = false;
                let start = Happening::Fault(Fault::StartWorker(slot as u32));
                self.agenda.after(5_000, start);
            }
        }
    }

    pub(super) fn run_task(&mut self, slot: usize, attempt: JobAttempt) {
        if self
            .draining
            .contains(&(slot, self.workers[slot].life.incarnation))
        {
            self.violate(Violation::DrainedWorkerWorks);
        }
        self.counts.n_started += 1;
        let worker = (slot, self.workers[slot].life.incarnation);
        let latest = self.latest_runs.entry(worker).or_default();
        let is_stale = attempt.attempt.epoch < *latest;
        *latest = attempt.attempt.epoch.max(*latest);
        if is_stale {
            self.violate(Violation::StaleAttempt(
                attempt.attempt.round,
                attempt.attempt.task,
            ));
        }
        let faults = self.scenario.faults;
        let slow = if slot == 0 { faults.slow_factor.max(1) } else { 1 };
        let ms = self.scenario.task_ms * slow * self.dice.pick(80..120) / 100;
        if self.never_ends(slot, attempt, 2 * self.scenario.task_ms * slow) {
            return;
        }
        let result = self.result_of(slot, attempt.attempt.task);
        self.counts.n_failed += u64::from(result.is_err());
        self.later(
            slot,
            ms,
            WorkerInput::Event(WorkerEvent::RunEnded(attempt, result)),
        );
    }

    /// Whether an attempt goes on until it is told to stop, or longer. Where none does, nobody looks at the clock.
    fn never_ends(&mut self, slot: usize, attempt: JobAttempt, deadline_ms: u64) -> bool {
        let hanging = self.scenario.faults.hanging;
        if hanging == 0 {
            return false;
        }
        let began = self.workers[slot].life.clock(self.agenda.now());
        let begun = WorkerEvent::Begun(attempt, began, Some(deadline_ms));
        self.later(slot, 0, WorkerInput::Event(begun));
        let never_ends = self.dice.happens(hanging) && !self.in_peace();
        if never_ends && self.dice.happens(500) {
            self.workers[slot].hangs = Some(attempt);
        }
        self.counts.n_late += u64::from(never_ends);
        never_ends
    }

    /// How an attempt at a task will end.
    fn result_of(&mut self, slot: usize, task: TaskIdx) -> Result<(), Failure> {
        let faults = self.scenario.faults;
        let is_faulty = slot > 0 && slot + 1 == self.workers.len();
        let fails = self.dice.happens(faults.failing);
        let corrupt = self.dice.happens(faults.corrupt) || is_faulty && self.dice.happens(faults.faulty);
        // Of every ten tasks one, and of these every other one fails its check.
        let is_stubborn = faults.stubborn && task.0 % 10 == 3 && self.agenda.now().0 < faults.until_ms / 2;
        if self.in_peace() || !(fails || corrupt || is_stubborn) {
            Ok(())
        } else if corrupt || is_stubborn && task.0 % 20 == 3 {
            Err(Failure::corrupt("the check failed"))
        } else if slot == 0 && task.0.is_multiple_of(2) {
            // A machine with a stale copy: others see the input as it is.
            Err(Failure::fatal(Cause::InputChanged, "an input looks changed"))
        } else {
            Err(Failure::retry(Cause::Storage, "a read failed"))
        }
    }

    pub(super) fn write_output(&mut self, slot: usize, attempt: JobAttempt) {
        let (round, task) = (attempt.attempt.round, attempt.attempt.task);
        let lies = self.dice.happens(self.scenario.faults.lying) && !self.in_peace();
        let right = right_output(self.generation_of(attempt.attempt.epoch), round, task);
        let written = if attempt.attempt.epoch < self.storage.fresh_since {
            Ok(())
        } else {
            let output = if lies { !right } else { right };
            self.storage.write_output(round, task, output, !lies)
        };
        let ms = self.dice.pick(2..40);
        let event = WorkerEvent::OutputDurable(attempt, written);
        self.later(slot, ms, WorkerInput::Event(event));
    }

    pub(super) fn append_commit(&mut self, slot: usize, attempt: JobAttempt) {
        let appended = self.try_append(slot, attempt);
        let ms = self.dice.pick(1..12);
        let input = match appended {
            Ok(()) => WorkerInput::Sync(attempt),
            Err(failure) => WorkerInput::Event(WorkerEvent::CommitDurable(attempt, Err(failure))),
        };
        self.later(slot, ms, input);
    }

    pub(super) fn try_append(&mut self, slot: usize, attempt: JobAttempt) -> Result<(), Failure> {
        let incarnation = self.workers[slot].life.incarnation;
        let generation = self.generation_of(attempt.attempt.epoch);
        let commit = Commit {
            attempt: attempt.attempt,
            worker: worker_idx(&self.scenario, slot as u32, incarnation),
            checked: true,
            crc32c: right_output(generation, attempt.attempt.round, attempt.attempt.task),
            residual: 0.0,
            residual_bound: 1.0,
            seconds: 0.0,
            output: Vec::new(),
        };
        let held = self.workers[slot].segment.take();
        let mut segment = match held.filter(|(of, _)| *of == generation) {
            Some((_, segment)) => segment,
            None if generation < self.generations.len() => {
                return Err(Failure::retry(Cause::Storage, "the run's journal is gone"));
            }
            None => self.storage.open_segment()?.1,
        };
        let appended = self.storage.append(&mut segment, Record::Commit(commit));
        self.workers[slot].segment = Some((generation, segment));
        appended
    }

    pub(super) fn tell_drivers(&mut self, slot: usize, message: ToDriver) {
        if let WorkerReport::Committed(attempt) = &message.body {
            self.counts.n_committed += 1;
            if self.scenario.checks && attempt.attempt.epoch >= self.storage.fresh_since {
                let task = (attempt.attempt.round, attempt.attempt.task);
                self.acknowledged.insert(task);
                if self.storage.first_lost(std::iter::once(task)).is_some() {
                    self.violate(Violation::AcknowledgedButLost(task.0, task.1));
                }
            }
        }
        for i in 0..self.drivers.len() {
            let incarnation = self.drivers[i].life.incarnation;
            let input = DriverInput::Event(DriverEvent::Received(message.clone()));
            let happening = Happening::AtDriver(i as u32, incarnation, input);
            self.send(Node::Worker(slot as u32), Node::Driver(i as u32), happening);
        }
    }
}
