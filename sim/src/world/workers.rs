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
                    None => Err(Failure::retry(Cause::Storage, "the journal is closed")),
                };
                self.work(slot, WorkerEvent::CommitDurable(attempt, synced));
            }
            WorkerInput::FetchAgain(number) => {
                let worker = &self.workers[slot];
                if worker.fetching && worker.n_fetches == number {
                    self.fetch(slot);
                }
            }
            WorkerInput::Begins(number, deadline_ms) => {
                if let Some(run) = self.workers[slot].run.filter(|run| run.number == number) {
                    let began = self.workers[slot].life.clock(self.agenda.now());
                    self.work(slot, WorkerEvent::Begun(run.attempt, began, deadline_ms));
                }
            }
            WorkerInput::Ends(number, result) => {
                let run = &mut self.workers[slot].run;
                if let Some(run) = run.take_if(|run| run.number == number) {
                    self.work(slot, WorkerEvent::RunEnded(run.attempt, result));
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
        if self.scenario.checks {
            self.meet_at_worker(slot, &event);
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

    fn meet_at_worker(&mut self, slot: usize, event: &WorkerEvent) {
        let machine = &self.workers[slot].machine;
        let of_attempt = coverage::attempt_event(event);
        let of_attempt = of_attempt.map(|(attempt, name)| (machine.state_of(attempt), name));
        let of_worker = (machine.state(), coverage::name_of_worker_event(event));
        self.meet(Machine::Worker, of_worker.0, of_worker.1);
        if let Some((state, name)) = of_attempt {
            self.meet(Machine::Attempt, state, name);
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
        self.workers[slot].n_fetches += 1;
        let number = self.workers[slot].n_fetches;
        self.ask_server(
            Node::Worker(slot as u32),
            Request::Fetch(slot as u32, incarnation),
        );
        self.later(slot, FETCH_AGAIN_MS, WorkerInput::FetchAgain(number));
    }

    pub(super) fn do_for_worker(&mut self, slot: usize, effect: WorkerEffect) {
        let node = Node::Worker(slot as u32);
        match effect {
            WorkerEffect::Fetch => self.fetch(slot),
            WorkerEffect::Prepare(_) => {}
            WorkerEffect::Run(attempt) => self.run_task(slot, attempt),
            WorkerEffect::CancelRun(attempt) => {
                let run = self.workers[slot].run;
                if let Some(run) = run.filter(|run| run.attempt == attempt && !run.hangs) {
                    // Nobody tells those to stop that still open their inputs.
                    let opens_ms = run.opened.0.saturating_sub(self.agenda.now().0);
                    let ends = WorkerInput::Ends(run.number, Err(Failure::cancelled()));
                    self.later(slot, opens_ms.max(CANCEL_MS), ends);
                }
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
                self.engine_tells_loss(slot);
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
        let slow = match self.scenario.faults[Kind::Slows] {
            factor if factor > 1 && slot == 0 => {
                self.counts.fire(Kind::Slows);
                factor
            }
            _ => 1,
        };
        let task_ms = self.scenario.task_ms * slow;
        let ms = task_ms * self.dice.pick(80..120) / 100;
        let opens_ms = self.storage_delay_ms();
        let run = TaskRun {
            number: self.workers[slot].n_runs,
            attempt,
            opened: Millis(self.agenda.now().0 + opens_ms),
            hangs: false,
        };
        self.workers[slot].n_runs += 1;
        self.workers[slot].run = Some(run);
        if self.scenario.checks {
            // Where nothing hangs, nobody looks at the clock.
            let deadline_ms = (self.scenario.faults[Kind::Hangs] > 0).then_some(2 * task_ms);
            self.later(slot, opens_ms, WorkerInput::Begins(run.number, deadline_ms));
            if self.strikes(Kind::Hangs) {
                return self.hang(slot, run, opens_ms + 2 * task_ms);
            }
        }
        let result = self.result_of(slot, attempt.attempt.task);
        self.counts.n_failed += u64::from(result.is_err());
        self.later(slot, opens_ms + ms, WorkerInput::Ends(run.number, result));
    }

    /// An attempt that goes on until it is told to stop; every other one does not stop then, and may come to its end when nobody waits for it
    /// any more.
    fn hang(&mut self, slot: usize, run: TaskRun, deadline_ms: u64) {
        if self.dice.happens(500) {
            self.workers[slot].run = Some(TaskRun { hangs: true, ..run });
            let ends_ms = deadline_ms + self.dice.pick(0..12_000);
            let result = match self.dice.pick(0..3) {
                0 => Ok(()),
                1 => Err(Failure::cancelled()),
                _ => Err(Failure::retry(Cause::Storage, "a read failed, at last")),
            };
            self.later(slot, ends_ms, WorkerInput::Ends(run.number, result));
        }
    }

    /// How an attempt at a task will end.
    fn result_of(&mut self, slot: usize, task: TaskIdx) -> Result<(), Failure> {
        match lacks_of(&self.scenario, slot as u32) {
            LastWorker::Able => {}
            LastWorker::LacksCode => return Err(Failure::retry(Cause::Job, "the program knows no such job")),
            LastWorker::TooSmall => {
                return Err(Failure::fatal(Cause::OutOfMemory, "the task needs more memory"));
            }
        }
        let is_last = slot > 0 && slot + 1 == self.workers.len();
        let fails = self.strikes(Kind::Fails);
        let corrupt = self.strikes(Kind::Corrupts) || is_last && self.strikes(Kind::Miscomputes);
        // Of every ten tasks one, and of these every other one fails its check.
        let faults = &self.scenario.faults;
        let is_stubborn =
            faults[Kind::Resists] > 0 && task.0 % 10 == 3 && self.agenda.now().0 < faults.until_ms / 2;
        if is_stubborn {
            self.counts.fire(Kind::Resists);
        }
        if !(fails || corrupt || is_stubborn) {
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
        let lies = self.strikes(Kind::Lies);
        let right = right_output(self.generation_of(attempt.attempt.epoch), round, task);
        let written = if attempt.attempt.epoch < self.storage.fresh_since {
            Ok(())
        } else {
            let output = if lies { !right } else { right };
            self.storage.write_output(round, task, output, !lies)
        };
        let ms = self.dice.pick(2..40) + self.storage_delay_ms();
        let event = WorkerEvent::OutputDurable(attempt, written);
        self.later(slot, ms, WorkerInput::Event(event));
    }

    pub(super) fn append_commit(&mut self, slot: usize, attempt: JobAttempt) {
        let appended = self.try_append(slot, attempt);
        let ms = self.dice.pick(1..12) + self.storage_delay_ms();
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
        if generation < self.generations.len() {
            return Err(Failure::retry(Cause::Storage, "the run's journal is gone"));
        }
        let held = self.workers[slot].segment.take();
        let mut segment = match held.filter(|(of, _)| *of == generation) {
            Some((_, segment)) => segment,
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
