//! Driver processes: the lease, the machine, and the driver's own steps.

use super::*;

impl World {
    pub(super) fn at_driver(&mut self, i: usize, input: DriverInput) {
        match input {
            DriverInput::Event(event) => self.drive(i, event),
            DriverInput::Wake(at) => {
                if self.drivers[i].life.timer.rings(at) {
                    self.drive(i, DriverEvent::Tick);
                }
            }
            DriverInput::Lease(event) => self.step_lease(i, event),
            DriverInput::LeaseWake(at) => {
                if self.drivers[i].lease_timer.rings(at) {
                    self.step_lease(i, LeaseEvent::Tick);
                }
            }
            DriverInput::Lead => {
                // Whoever begins a run looks at the clock first: it may have slept.
                self.step_lease(i, LeaseEvent::Tick);
                if self.drivers[i].lease.is_leader() && !self.drives(i) {
                    self.lead(i);
                }
            }
            DriverInput::AskAgain => {
                let leading = self.drivers[i].leading.as_ref();
                if let Some(epoch) = leading.map(|leading| leading.epoch).filter(|_| self.drives(i)) {
                    let start = self.job_start(i, epoch);
                    self.drive(i, DriverEvent::Submitted(start));
                }
            }
            DriverInput::Cancel => self.drive(i, DriverEvent::StopRequested(job(), StopCause::Interrupted)),
            DriverInput::Step(epoch, step) => {
                let leading = self.drivers[i].leading.as_ref();
                if leading.is_some_and(|leading| leading.epoch == epoch) {
                    let event = self
                        .take_step(i, step)
                        .unwrap_or_else(|failure| DriverEvent::StepFailed(job(), failure));
                    self.drive(i, event);
                }
            }
        }
    }

    /// Whether the driver has the job's run in its hands.
    pub(super) fn drives(&self, i: usize) -> bool {
        let leading = self.drivers[i].leading.as_ref();
        leading.is_some_and(|leading| leading.machine.round(job()).is_some())
    }

    pub(super) fn step_lease(&mut self, i: usize, event: LeaseEvent) {
        let now = self.agenda.now();
        let lease = &self.drivers[i].lease;
        let name = coverage::name_of_lease_event(&event, DriverIdx(i as u32));
        self.meet(Machine::Lease, lease.state(), name);
        let driver = &mut self.drivers[i];
        let (clock, incarnation) = (driver.life.clock(now), driver.life.incarnation);
        let mut effects = Vec::new();
        driver.lease.on_event(clock, event, &mut effects);
        let (node, driver) = (Node::Driver(i as u32), i as u32);
        for effect in effects {
            match effect {
                LeaseEffect::Read => self.ask_server(node, Request::ReadLease(driver, incarnation)),
                LeaseEffect::CompareAndSet { expected, asked } => {
                    self.ask_server(node, Request::SetLease(driver, incarnation, expected, asked));
                }
                LeaseEffect::Lead => self.lead(i),
                LeaseEffect::StepDown => self.drivers[i].leading = None,
                LeaseEffect::WakeAt(at) => {
                    let at = self.drivers[i].life.when(at).max(now);
                    if self.drivers[i].lease_timer.set(at) {
                        let wake = DriverInput::LeaseWake(at);
                        self.agenda.at(at, Happening::AtDriver(driver, incarnation, wake));
                    }
                }
            }
        }
    }

    /// At most one driver holds itself for the leader. Two kinds of overlap no lease can prevent, and run epochs fence what is done in
    /// them; no other is excused:
    /// - A driver that is stopped knows nothing of the time; it counts again once that instant is over in which it wakes.
    /// - A standby whose clock jumped while it watched the revision that it then replaced may have waited too short. The leader
    ///   before it steps down in time after its last renewal all the same, and so the excuse ends then.
    pub(super) fn check_leaders(&mut self) {
        let now = self.agenda.now();
        let leads = |driver: &&DriverProcess| driver.life.is_awake(now) && driver.lease.is_leader();
        if self.drivers.iter().filter(leads).count() > 1 {
            if now <= self.lease.two_until {
                self.counts.n_overlaps += 1;
            } else {
                self.violate(Violation::TwoLeaders);
            }
        }
    }

    /// Begins to drive: a run of its own, from what the journal says. The machine may have driven the job before.
    pub(super) fn lead(&mut self, i: usize) {
        let incarnation = self.drivers[i].life.incarnation;
        let Ok((epoch, segment)) = self.storage.open_segment() else {
            let again = Happening::AtDriver(i as u32, incarnation, DriverInput::Lead);
            self.agenda.after(1_000, again);
            return;
        };
        let start = self.job_start(i, epoch);
        self.counts.n_take_overs += 1;
        let before = self.drivers[i].leading.take();
        self.drivers[i].leading = Some(Leading {
            machine: before.map_or_else(Driver::new, |before| before.machine),
            epoch,
            segment,
        });
        self.drivers[i].life.timer = Timer::default();
        self.ask_server(Node::Driver(i as u32), Request::Purge);
        self.drive(i, DriverEvent::Submitted(start));
    }

    pub(super) fn job_start(&mut self, i: usize, epoch: RunEpoch) -> JobStart {
        let n_rounds = self.scenario.rounds.len() as u32;
        let open = (0..n_rounds).find(|round| self.storage.barrier(RoundIdx(*round)).is_none());
        let round = RoundIdx(open.unwrap_or(n_rounds - 1));
        JobStart {
            job: job(),
            epoch,
            adopts_from: self.storage.fresh_since,
            round,
            n_tasks: self.scenario.rounds[round.0 as usize],
            needs: self.needs(),
            committed: self.committed(round),
            resumed: true,
            took_over: epoch > self.storage.fresh_since,
            one_machine: self.scenario.one_machine,
            assign: self.scenario.assign,
            backups: self.scenario.backups,
            when_full: self.scenario.when_full,
            deadline: self.deadline(i),
            unable: self.unable(),
        }
    }

    fn deadline(&self, i: usize) -> Option<Millis> {
        let (now, limit_ms) = (self.agenda.now(), self.scenario.faults[Kind::LimitsTime]);
        let is_limited = limit_ms > 0 && !self.in_peace();
        is_limited.then(|| Millis(self.drivers[i].life.clock(now).0 + limit_ms))
    }

    /// Workers that lack the job's code, all that ever were: whoever joins says what it knows, and drivers tell each other.
    fn unable(&self) -> BTreeSet<WorkerIdx> {
        let last = self.scenario.n_workers - 1;
        if lacks_of(&self.scenario, last) != LastWorker::LacksCode {
            return BTreeSet::new();
        }
        let incarnations = 0..=self.workers[last as usize].life.incarnation;
        incarnations
            .map(|incarnation| worker_idx(&self.scenario, last, incarnation))
            .collect()
    }

    pub(super) fn committed(&mut self, round: RoundIdx) -> Vec<TaskIdx> {
        let winners = self.winners(round).into_iter();
        winners.map(|(task, _)| task).collect()
    }

    /// What the journal says of a round: a driver builds on it, and so it must be durable.
    fn winners(&mut self, round: RoundIdx) -> Vec<(TaskIdx, Winner)> {
        let winners = self.storage.winners(round);
        let tasks = winners.iter().map(|(task, _)| (round, *task));
        if let Some((round, task)) = self.storage.first_lost(tasks) {
            self.violate(Violation::CountedWithoutRecord(round, task));
        }
        winners
    }

    pub(super) fn needs(&self) -> Needs {
        Needs {
            memory_bytes: MEMORY_BYTES,
            expected_ms: self.scenario.task_ms,
            deadline_ms: None,
        }
    }

    /// Gives the driver's machine an event and does what it asks for.
    pub(super) fn drive(&mut self, i: usize, event: DriverEvent) {
        let now = self.agenda.now();
        if self.scenario.checks {
            self.meet_at_driver(i, &event);
        }
        let driver = &mut self.drivers[i];
        let (clock, incarnation) = (driver.life.clock(now), driver.life.incarnation);
        let Some(leading) = &mut driver.leading else {
            return;
        };
        let epoch = leading.epoch;
        let heard = match &event {
            DriverEvent::Received(message) if self.scenario.checks => Some(message.body.clone()),
            _ => None,
        };
        let n_committed_before = leading.machine.tasks(job()).map(TaskTable::n_committed);
        let mut effects = Vec::new();
        leading.machine.on_event(clock, event, &mut effects);
        if self.scenario.checks {
            leading.machine.check_invariants();
        }
        self.counts.n_events += 1;
        if let Some(heard) = heard {
            self.check_heard(i, n_committed_before, &heard);
        }
        let Some(leading) = &self.drivers[i].leading else {
            return;
        };
        let is_committed = |task| {
            let tasks = leading.machine.tasks(job());
            tasks.and_then(|tasks| tasks.status(task)) == Some(TaskStatus::Committed)
        };
        self.failures
            .retain(|(of, task), _| *of != epoch || !is_committed(*task));
        let n_backups = leading.machine.n_backups(job());
        self.counts.n_backups = self.counts.n_backups.max(n_backups);
        let n_tasks = self.scenario.rounds.iter().max().copied().unwrap_or(0);
        if n_backups > (n_tasks / 20).max(1) {
            self.violate(Violation::TooManyBackups(n_backups));
        }
        for effect in effects {
            if !matches!(effect, DriverEffect::WakeAt(_)) {
                self.note(&(i, &effect));
            }
            self.do_for_driver(i, incarnation, epoch, effect);
        }
    }

    fn meet_at_driver(&mut self, i: usize, event: &DriverEvent) {
        let Some(Leading { machine, .. }) = &self.drivers[i].leading else {
            return;
        };
        let of_job = (machine.state(job()), coverage::name_of_driver_event(event));
        let of_attempts: Vec<_> = match event {
            DriverEvent::Received(message) => coverage::reports_of(&message.body)
                .into_iter()
                .map(|(attempt, name)| (machine.state_of(attempt), name))
                .collect(),
            _ => Vec::new(),
        };
        self.meet(Machine::Job, of_job.0, of_job.1);
        for (state, name) in of_attempts {
            self.meet(Machine::Report, state, name);
        }
    }

    /// What a report may have led to.
    pub(super) fn check_heard(&mut self, i: usize, n_committed_before: Option<u64>, heard: &WorkerReport) {
        let Some(leading) = &self.drivers[i].leading else {
            return;
        };
        let n_committed = leading.machine.tasks(job()).map(TaskTable::n_committed);
        let has_counted = n_committed > n_committed_before;
        if let WorkerReport::Committed(attempt) = heard {
            let (round, task) = (attempt.attempt.round, attempt.attempt.task);
            if has_counted && attempt.attempt.epoch < self.storage.fresh_since {
                self.violate(Violation::StaleAttempt(round, task));
                return;
            }
            let status = leading.machine.tasks(job()).and_then(|tasks| tasks.status(task));
            let is_current = leading.machine.round(job()) == Some(round);
            let is_counted = is_current && status == Some(TaskStatus::Committed);
            if is_counted && self.storage.first_lost(std::iter::once((round, task))).is_some() {
                self.violate(Violation::CountedWithoutRecord(round, task));
            }
        }
    }

    /// A task that failed will be tried again. Reports that come when the driver has given their attempt up are no failures to it, and so
    /// what counts is how often it says this.
    fn check_retry(&mut self, epoch: RunEpoch, task: TaskIdx, failure: &Failure, delay_ms: u64) {
        let n_failed = self.failures.entry((epoch, task)).or_default();
        let (n_failed, n_max) = match failure.remedy {
            Remedy::Retry if failure.cause == Cause::Hung => (&mut n_failed[2], ATTEMPTS_MAX_LOST),
            Remedy::Retry => (&mut n_failed[0], ATTEMPTS_MAX_RETRY),
            Remedy::Corrupt => (&mut n_failed[1], ATTEMPTS_MAX_CORRUPT),
            // Where it failed, that is: what a machine has to do with may go well on another one.
            Remedy::Fatal if failure.cause.is_of_machine() => {
                self.counts.n_elsewhere += 1;
                return;
            }
            Remedy::Fatal => return self.violate(Violation::TriedTooOften(task)),
        };
        *n_failed += 1;
        if *n_failed >= n_max {
            self.violate(Violation::TriedTooOften(task));
        }
        if delay_ms > BACKOFF_MAX_MS {
            self.violate(Violation::WaitsTooLong(delay_ms));
        }
    }

    pub(super) fn do_for_driver(
        &mut self,
        i: usize,
        incarnation: u32,
        epoch: RunEpoch,
        effect: DriverEffect,
    ) {
        let node = Node::Driver(i as u32);
        match effect {
            DriverEffect::Release(attempt, queue) => self.ask_server(node, Request::Publish(attempt, queue)),
            DriverEffect::Send(worker, message) => {
                let (slot, of) = slot_of(&self.scenario, worker);
                let input = WorkerInput::Event(WorkerEvent::Received(message));
                self.send(node, Node::Worker(slot), Happening::AtWorker(slot, of, input));
            }
            DriverEffect::Advance(_, round) => self.begin_step(i, epoch, Step::Advance(round)),
            DriverEffect::ReadCommits(_, round) => self.begin_step(i, epoch, Step::ReadCommits(round)),
            DriverEffect::VerifyOutputs(_) => self.begin_step(i, epoch, Step::Verify),
            DriverEffect::FinishOutputs(_) => self.begin_step(i, epoch, Step::Finish),
            DriverEffect::Alarm(alarm) => match alarm.kind {
                AlarmKind::WorkerLost { .. } => self.counts.n_lost += 1,
                AlarmKind::TaskRetried {
                    task,
                    failure,
                    delay_ms,
                    ..
                } => self.check_retry(epoch, task, &failure, delay_ms),
                _ => {}
            },
            DriverEffect::WakeAt(at) => {
                let life = &mut self.drivers[i].life;
                let at = life.when(at).max(self.agenda.now());
                if life.timer.set(at) {
                    let wake = Happening::AtDriver(i as u32, incarnation, DriverInput::Wake(at));
                    self.agenda.at(at, wake);
                }
            }
            DriverEffect::End(_, JobEnd::Done) => self.end = Some(JobEnd::Done),
            DriverEffect::End(_, end) => self.submit_again(i, incarnation, end),
        }
    }

    /// As a user would: the job failed or was stopped, and what is committed is kept.
    pub(super) fn submit_again(&mut self, i: usize, incarnation: u32, end: JobEnd) {
        self.counts.n_resubmits += 1;
        if end == JobEnd::Stopped(StopCause::TimeLimit) {
            self.counts.fire(Kind::LimitsTime);
        }
        if let JobEnd::Failed(failure) = &end
            && failure.cause != Cause::DiskFull
        {
            self.n_failures += 1;
            self.n_failures_in_peace += u32::from(self.in_peace());
            if self.n_failures > FAILURES_MAX || self.n_failures_in_peace > FAILURES_IN_PEACE_MAX {
                self.violate(Violation::Failed(failure.text.clone()));
            }
        }
        let again = Happening::AtDriver(i as u32, incarnation, DriverInput::Lead);
        self.agenda.after(RESUBMIT_MS, again);
    }

    pub(super) fn begin_step(&mut self, i: usize, epoch: RunEpoch, step: Step) {
        let incarnation = self.drivers[i].life.incarnation;
        let ms = self.dice.pick(2..50) + self.storage_delay_ms();
        let step = Happening::AtDriver(i as u32, incarnation, DriverInput::Step(epoch, step));
        self.agenda.after(ms, step);
        self.on_step(ms);
    }

    pub(super) fn take_step(&mut self, i: usize, step: Step) -> Result<DriverEvent, Failure> {
        if self.strikes(Kind::FailsSteps) {
            return Err(Failure::retry(Cause::Storage, "a file could not be read"));
        }
        match step {
            Step::Advance(round) => self.advance(i, round),
            Step::ReadCommits(round) => {
                let tasks = self.committed(round);
                Ok(DriverEvent::CommitsRead(job(), tasks))
            }
            Step::Verify => {
                let last = RoundIdx(self.scenario.rounds.len() as u32 - 1);
                Ok(DriverEvent::OutputsVerified(job(), self.storage.damaged(last)))
            }
            Step::Finish => Ok(DriverEvent::OutputsFinished(job())),
        }
    }

    pub(super) fn advance(&mut self, i: usize, round: RoundIdx) -> Result<DriverEvent, Failure> {
        let n_tasks = self.scenario.rounds[round.0 as usize];
        let winners = self.winners(round);
        if winners.len() as u64 != n_tasks {
            let committed: BTreeSet<TaskIdx> = winners.iter().map(|(task, _)| *task).collect();
            let missing = (0..n_tasks).map(TaskIdx).filter(|task| !committed.contains(task));
            return Ok(DriverEvent::BarrierRefused(job(), missing.collect()));
        }
        let Some(leading) = &mut self.drivers[i].leading else {
            unreachable!("only a leader takes steps");
        };
        let barrier = Barrier {
            round,
            epoch: leading.epoch,
            winners: winners.into_iter().map(|(_, winner)| winner).collect(),
        };
        let barrier = self.storage.publish(barrier)?.clone();
        if *self.barriers.entry(round).or_insert_with(|| barrier.clone()) != barrier {
            self.violate(Violation::BarrierChanged(round));
        }
        if barrier.winners.len() as u64 != n_tasks {
            self.violate(Violation::BarrierIncomplete(round));
        }
        let Some(leading) = &mut self.drivers[i].leading else {
            unreachable!("only a leader takes steps");
        };
        self.storage
            .append(&mut leading.segment, Record::Barrier(barrier))?;
        self.storage.sync(&mut leading.segment)?;
        let next = RoundIdx(round.0 + 1);
        Ok(match self.scenario.rounds.get(next.0 as usize) {
            Some(n_tasks) => DriverEvent::RoundReady(
                job(),
                Round {
                    round: next,
                    n_tasks: *n_tasks,
                    needs: self.needs(),
                },
            ),
            None => DriverEvent::RoundsDone(job()),
        })
    }
}
