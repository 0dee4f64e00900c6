//! The surroundings of the driver machine in a cluster: jobs and their threads, the workers, events, the board.

mod requests;

use super::TILEWORK;
use super::board::{Board, DriverOnBoard, JobOnBoard};
use super::board_writer::BoardWriter;
use super::conductor::{Begin, conduct, leads_no_more};
use super::desk::Asked;
use super::ending::RunEnd;
use super::events::{Gathered, JobEvent};
use super::fleet::FleetView;
use super::ground::Ground;
use super::preparations::{Preparation, Preparations};
use super::protocol::KnownKind;
use super::record::{JobRecord, JobStands, key_of, unix_ms};
use super::to_host::{OpenedJob, Order, Ticket, ToHost, Told, UnderWay};
use super::undertaking::any_description;
use crate::job_state::is_product;
use crate::product::request::Description;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tilework_core::alarm::{Alarm, AlarmKind};
use tilework_core::driver::{Driver, DriverEvent};
use tilework_core::failure::{JobEnd, StopCause};
use tilework_core::ids::{JobId, RunEpoch, WorkerIdx};
use tilework_core::limits::HANG_GRACE_MS;
use tilework_core::message::WorkerReport;
use tilework_core::task_table::TaskStatus;
use tilework_nats::streams::job_of_token;
use tilework_nats::{Bucket, ControlError, LeaseKeeper};
use tilework_runtime::alarm_log::AlarmLog;
use tilework_runtime::engine::DriverPort;
use tilework_runtime::steps::Step;
use tilework_runtime::{DriverHost, LoggedAlarm, StopSwitch};
use tilework_store::disk::Disk;
use tilework_store::lock::Owner;

/// How often the board is written when something has changed ...
const BOARD_PERIOD: Duration = Duration::from_secs(1);
/// ... and when nothing has.
const BOARD_PERIOD_IDLE: Duration = Duration::from_secs(2);
/// Ended jobs that the board shows.
const ENDED_SHOWN_MAX: usize = 100;
/// Ended jobs that the cluster knows of, the latest ...
const ENDED_KEPT_MAX: usize = 1_000;
/// ... and for how long.
const ENDED_KEPT_MS: u64 = 7 * 24 * 3600 * 1000;
/// Jobs that are driven at a time.
const JOBS_MAX: usize = 1_000;
/// How long a driver that ends waits for its threads. One that is inside a job's own code, or waits for a file system, may never end: it is
/// left, and finds that it is late when it comes back, or ends with the process.
const CLOSE_GRACE: Duration = Duration::from_millis(HANG_GRACE_MS);
const CLOSE_POLL: Duration = Duration::from_millis(10);
/// Requests that wait for others, at most.
const WAITING_MAX: usize = 1_000;

/// A job that is driven here.
struct Driven {
    /// Of the thread that conducts it.
    ticket: Ticket,
    orders: Sender<Order>,
    under_way: Arc<UnderWay>,
    stop: Arc<AtomicBool>,
    shown: JobOnBoard,
    alarms: AlarmLog,
    cancelled: bool,
    /// Its run is over, and its record will say so.
    is_ending: bool,
    /// When its time is up, until it has been told so.
    deadline: Option<Instant>,
    n_committed_here: u64,
    /// What workers must have the code for.
    needs_code: Option<KnownKind>,
}

/// The driver's surroundings in a cluster.
pub(super) struct ClusterHost<'a> {
    ground: Ground,
    stop: &'a StopSwitch,
    keeper: &'a LeaseKeeper,
    asked: Receiver<Asked>,
    /// What is asked and has to wait for what is under way.
    waiting: VecDeque<Asked>,
    preparations: Preparations,
    inbox: Sender<DriverEvent>,
    to_here: Sender<Told>,
    told: Receiver<Told>,
    urgent: VecDeque<DriverEvent>,
    jobs: BTreeMap<JobId, Driven>,
    /// Jobs that have ended, the latest first.
    ended: VecDeque<JobOnBoard>,
    /// Those whose records are not needed any more.
    forgotten: Vec<JobId>,
    fleet: FleetView,
    events: Gathered,
    board: BoardWriter,
    driver: DriverOnBoard,
    board_written: Instant,
    board_changed: bool,
    threads: Vec<JoinHandle<()>>,
}

impl<'a> ClusterHost<'a> {
    pub(super) fn new(
        ground: Ground,
        stop: &'a StopSwitch,
        keeper: &'a LeaseKeeper,
        asked: Receiver<Asked>,
        fleet: FleetView,
        name: &str,
        inbox: Sender<DriverEvent>,
    ) -> ClusterHost<'a> {
        let (to_here, told) = channel();
        let owner = Owner::current();
        let driver = DriverOnBoard {
            name: name.to_owned(),
            host: owner.host,
            pid: owner.pid,
            drives_since_unix_ms: unix_ms(),
            data_roots: ground.roots.places(),
        };
        let board = BoardWriter::start(Arc::clone(&ground.control));
        ClusterHost {
            ground,
            stop,
            keeper,
            asked,
            waiting: VecDeque::new(),
            preparations: Preparations::default(),
            inbox,
            to_here,
            told,
            urgent: VecDeque::new(),
            jobs: BTreeMap::new(),
            ended: VecDeque::new(),
            forgotten: Vec::new(),
            fleet,
            events: Gathered::default(),
            board,
            driver,
            board_written: Instant::now() - BOARD_PERIOD_IDLE,
            board_changed: true,
            threads: Vec::new(),
        }
    }

    /// Goes on with the jobs that the last driver left, and remembers how the others ended.
    pub(super) fn take_over_all(&mut self) -> Result<(), ControlError> {
        let control = Arc::clone(&self.ground.control);
        let mut ended = Vec::new();
        for key in control.keys(Bucket::Jobs)? {
            // There may be many.
            self.keeper.alive();
            let Some(entry) = control.get(Bucket::Jobs, &key)? else {
                continue;
            };
            match JobRecord::from_bytes(&key, &entry.value) {
                Ok(record) if record.stands == JobStands::Running => self.take_over(record),
                Ok(record) => ended.push(on_board(&record, None)),
                Err(cause) => tracing::warn!(key, cause, "a job's record can't be read"),
            }
        }
        ended.sort_by_key(|job| std::cmp::Reverse(job.ended_unix_ms));
        self.ended = ended.into();
        Ok(())
    }

    fn take_over(&mut self, record: JobRecord) {
        let shown = JobOnBoard {
            waits_for: Some("a driver that has just begun to drive opens it".to_owned()),
            ..on_board(&record, None)
        };
        let preparation = Preparation {
            output: Some(record.output.clone()),
            job: Some((record.id(), Box::new(shown))),
            ..Preparation::default()
        };
        self.begin(preparation, Begin::TakenOver(Box::new(record)));
    }

    fn begin(&mut self, preparation: Preparation, begin: Begin) {
        let (ground, stop) = (self.ground.clone(), Arc::clone(&preparation.stop));
        self.prepare(preparation, move |to_host| conduct(&ground, begin, stop, to_host));
    }

    /// Does something that takes a while on a thread of its own.
    fn prepare(&mut self, preparation: Preparation, work: impl FnOnce(&ToHost) + Send + 'static) {
        let to_host = ToHost {
            ticket: self.preparations.begin(preparation),
            told: self.to_here.clone(),
            inbox: self.inbox.clone(),
        };
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread::spawn(move || work(&to_host)));
    }

    /// Ends the threads of all jobs, as far as they let it, without ending the jobs.
    pub(super) fn close(mut self) {
        self.events.publish(&self.ground.control);
        self.board.dismiss(self.fleet.forget_gone());
        for job in self.jobs.values() {
            job.stop.store(true, Ordering::Relaxed);
        }
        self.jobs.clear();
        self.preparations.stop_all();
        for asked in self.waiting.drain(..).chain(self.asked.try_iter()) {
            asked.refuse(leads_no_more());
        }
        // A job that has just been opened would wait for orders that nobody gives any more.
        drop(std::mem::replace(&mut self.told, channel().1));
        let until = Instant::now() + CLOSE_GRACE;
        while Instant::now() < until && !self.threads.iter().all(JoinHandle::is_finished) {
            thread::sleep(CLOSE_POLL);
        }
        let (ended, left): (Vec<_>, Vec<_>) = self.threads.drain(..).partition(JoinHandle::is_finished);
        for thread in ended {
            let _ = thread.join();
        }
        if !left.is_empty() {
            tracing::warn!(threads = left.len(), "jobs' threads that don't end are left");
        }
    }

    fn on_told(&mut self, told: Told) {
        // Watchers wait for this.
        self.board_written = Instant::now() - BOARD_PERIOD_IDLE;
        match told {
            Told::Waits(ticket, why) => self.preparations.waits(ticket, why),
            Told::Opened(ticket, opened) => {
                self.on_opened(ticket, *opened);
                self.ask_again();
            }
            Told::Ended(record) => {
                let shown = self.jobs.remove(&record.id()).map(|job| job.shown);
                let shown = on_board(&record, shown);
                self.ended.retain(|job| job.id != shown.id);
                self.ended.push_front(shown);
                self.ask_again();
            }
            Told::Over(ticket) => self.on_over(ticket),
        }
    }

    /// A thread has ended. If its job is still here, the thread died, or found that the job is another driver's.
    fn on_over(&mut self, ticket: Ticket) {
        self.preparations.end(ticket);
        let of_thread = |(id, job): (&JobId, &Driven)| (job.ticket == ticket).then_some(*id);
        if let Some(id) = self.jobs.iter().find_map(of_thread) {
            tracing::error!(job = key_of(id), "the job is left to the next driver");
            self.jobs.remove(&id);
            let stop = DriverEvent::StopRequested(id, StopCause::Interrupted);
            self.urgent.push_back(stop);
        }
        self.ask_again();
    }

    fn on_opened(&mut self, ticket: Ticket, opened: OpenedJob) {
        let Some(Preparation { stop, cancelled, .. }) = self.preparations.end(ticket) else {
            return;
        };
        let OpenedJob {
            start,
            record,
            orders,
            under_way,
            kind,
            needs_code,
            files,
            n_resumed,
        } = opened;
        let mut start = start;
        start.unable = needs_code
            .as_ref()
            .map(|needed| self.fleet.unable(needed))
            .unwrap_or_default();
        let id = start.job;
        let shown = JobOnBoard {
            kind,
            round: start.round.0,
            tasks: start.n_tasks,
            needs_bytes: start.needs.memory_bytes,
            needs_code: needs_code.clone(),
            tasks_committed: n_resumed,
            tasks_resumed: n_resumed,
            ..on_board(&record, None)
        };
        self.ended.retain(|job| job.id != shown.id);
        self.events.add(
            id,
            JobEvent::about_job("began", record.run, Some(self.driver.name.clone())),
        );
        let disk = Arc::clone(&self.ground.roots) as Arc<dyn Disk>;
        let driven = Driven {
            ticket,
            orders,
            under_way,
            stop,
            shown,
            alarms: AlarmLog::beside(disk, &files),
            cancelled,
            is_ending: false,
            deadline: record.deadline(),
            n_committed_here: 0,
            needs_code,
        };
        self.jobs.insert(id, driven);
        self.urgent.push_back(DriverEvent::Submitted(start));
        if cancelled {
            let stop = DriverEvent::StopRequested(id, StopCause::Interrupted);
            self.urgent.push_back(stop);
        }
    }

    fn stop_overdue(&mut self) {
        let now = Instant::now();
        for (id, job) in &mut self.jobs {
            if job.deadline.is_some_and(|deadline| now >= deadline) {
                job.deadline = None;
                job.stop.store(true, Ordering::Relaxed);
                self.urgent
                    .push_back(DriverEvent::StopRequested(*id, StopCause::TimeLimit));
            }
        }
    }

    fn board(&self, machine: Option<&Driver>) -> Board {
        let mut jobs: Vec<JobOnBoard> = self
            .jobs
            .iter()
            .map(|(id, job)| {
                let mut shown = job.shown.clone();
                if let Some(machine) = machine {
                    shown.n_backing_off = machine.n_backing_off(*id);
                    let stalled = machine.stalled(*id).map(|stall| stall.to_string());
                    shown.waits_for = stalled.or_else(|| job.under_way.waits_for(Instant::now()));
                    if let Some(tasks) = machine.tasks(*id) {
                        shown.round = machine.round(*id).map_or(shown.round, |round| round.0);
                        shown.tasks = tasks.n_tasks();
                        shown.tasks_committed = tasks.n_committed();
                    }
                }
                shown
            })
            .collect();
        jobs.extend(self.preparations.on_board().cloned());
        jobs.extend(self.ended.iter().take(ENDED_SHOWN_MAX).cloned());
        jobs.sort_by_key(|job| std::cmp::Reverse(job.submitted_unix_ms));
        Board {
            tilework: TILEWORK.to_owned(),
            unix_ms: unix_ms(),
            n_written: 0,
            driver: Some(self.driver.clone()),
            workers: self.fleet.on_board(),
            jobs,
        }
    }

    fn write_board_if_due(&mut self, machine: &Driver) {
        let age = self.board_written.elapsed();
        if age >= BOARD_PERIOD_IDLE || self.board_changed && age >= BOARD_PERIOD {
            self.board_written = Instant::now();
            self.board_changed = false;
            self.forget_ended();
            let gone = self.fleet.forget_gone();
            let forgotten = std::mem::take(&mut self.forgotten);
            self.board.write(self.board(Some(machine)), gone, forgotten);
        }
    }

    /// The latest jobs are remembered, and none for very long.
    fn forget_ended(&mut self) {
        while let Some(last) = self.ended.back() {
            if self.ended.len() <= ENDED_KEPT_MAX && !is_expired(last) {
                break;
            }
            self.forgotten.extend(job_of_token(&last.id));
            self.ended.pop_back();
        }
    }
}

impl DriverHost for ClusterHost<'_> {
    fn urgent(&mut self, machine: &Driver) -> Option<DriverEvent> {
        while let Ok(told) = self.told.try_recv() {
            self.on_told(told);
        }
        self.stop_overdue();
        self.events.publish_due(&self.ground.control);
        self.write_board_if_due(machine);
        self.urgent.pop_front()
    }

    fn on_event(&mut self, event: &DriverEvent, machine: &Driver) {
        let mut is_new_commit = false;
        if let DriverEvent::Received(message) = event
            && let WorkerReport::Committed(attempt) = &message.body
            && let Some(tasks) = machine.tasks(attempt.job)
        {
            is_new_commit = tasks.status(attempt.attempt.task) != Some(TaskStatus::Committed);
            if let Some(job) = self.jobs.get_mut(&attempt.job).filter(|_| is_new_commit) {
                job.n_committed_here += 1;
                *job.shown.by_worker.entry(message.worker.0).or_default() += 1;
            }
        }
        if let DriverEvent::RoundReady(job, round) = event
            && let Some(job) = self.jobs.get_mut(job)
        {
            job.shown.needs_bytes = round.needs.memory_bytes;
        }
        for (id, job) in &mut self.jobs {
            job.shown.retries = machine.n_retries(*id).max(job.shown.retries);
            job.shown.backups = machine.n_backups(*id).max(job.shown.backups);
        }
        self.fleet.on_event(event, is_new_commit);
        if let Some((job, event)) = JobEvent::reported(event) {
            self.events.add(job, event);
            self.board_changed = true;
        }
    }

    fn on_tick(&mut self, _port: &mut dyn DriverPort) {
        self.keeper.alive();
        while let Ok(asked) = self.asked.try_recv() {
            self.on_asked(asked);
        }
    }

    fn take_step(&mut self, job: JobId, step: Step, _port: &mut dyn DriverPort) {
        if let Some(job) = self.jobs.get(&job) {
            let _ = job.orders.send(Order::Step(step));
        }
    }

    fn on_alarm(&mut self, alarm: &Alarm) {
        if let AlarmKind::WorkerLost { worker, .. } = alarm.kind {
            self.fleet.on_lost(worker);
        }
        self.board_changed = true;
        tracing::warn!(kind = alarm.name(), "{}", alarm.text());
        if let Some(webhook) = &self.ground.webhook {
            let shown = alarm.job.and_then(|job| Some(&self.jobs.get(&job)?.shown));
            let run = RunEpoch(shown.map_or(0, |shown| shown.run));
            let output = shown.map(|shown| shown.output.as_str());
            webhook.send_of(output, alarm, &LoggedAlarm::now(alarm, run));
        }
        let concerned = |id: &JobId| alarm.job.is_none_or(|job| job == *id);
        for (id, job) in self.jobs.iter_mut().filter(|(id, _)| concerned(id)) {
            let logged = LoggedAlarm::now(alarm, RunEpoch(job.shown.run));
            self.events.add(*id, JobEvent::alarm(&logged));
            if let Err(error) = job.alarms.append(logged) {
                tracing::warn!(%error, "an alarm can't be written beside its output");
            }
        }
    }

    fn on_end(&mut self, job: JobId, end: JobEnd, _port: &mut dyn DriverPort) {
        self.board_changed = true;
        let Some(driven) = self.jobs.get_mut(&job) else {
            return;
        };
        let told = driven.alarms.told();
        let workers: Vec<serde_json::Value> = (driven.shown.by_worker.iter())
            .map(|(worker, n_tasks)| {
                let host = self.fleet.host(WorkerIdx(*worker));
                json!({ "worker": worker, "host": host, "tasks": n_tasks })
            })
            .collect();
        let facts = json!({
            "tasks_run": driven.n_committed_here,
            "tasks_resumed": driven.shown.tasks_resumed,
            "retries": driven.shown.retries,
            "backups": driven.shown.backups,
            "alarms": told.latest,
            "alarms_total": told.n_alarms,
            "workers": workers,
        });
        let text = match &end {
            JobEnd::Done => "done".to_owned(),
            JobEnd::Stopped(_) => "stopped".to_owned(),
            JobEnd::Failed(failure) => format!("failed: {}", failure.text),
        };
        let event = JobEvent::about_job("ended", driven.shown.run, Some(text));
        self.events.add(job, event);
        driven.is_ending = true;
        let order = Order::End(RunEnd {
            end,
            cancelled: driven.cancelled,
            facts,
        });
        let _ = driven.orders.send(order);
    }

    fn is_over(&self) -> bool {
        !(self.ground.leads)() || self.stop.requested().is_some()
    }
}

fn is_expired(job: &JobOnBoard) -> bool {
    job.ended_unix_ms
        .is_some_and(|ended| unix_ms().saturating_sub(ended) > ENDED_KEPT_MS)
}

/// Tasks of a product; how many another job has, only its own code can tell.
fn n_tasks(kind: &str, job_text: &str) -> u64 {
    let product = is_product(kind).then(|| Description::from_text(job_text.as_bytes()));
    match product {
        Some(Ok(description)) => description.plan.grid.n_tiles(),
        _ => 0,
    }
}

/// How a job is shown, with what was known of its run if it was driven here.
fn on_board(record: &JobRecord, known: Option<JobOnBoard>) -> JobOnBoard {
    let of_description = any_description(&record.job_text).map(|described| JobOnBoard {
        tasks: n_tasks(&described.kind, &record.job_text),
        kind: described.kind,
        ..JobOnBoard::default()
    });
    let mut shown = known.unwrap_or_else(|| of_description.unwrap_or_default());
    shown.id = key_of(record.id());
    shown.output = record.output.clone();
    shown.state = record.stands.name().to_owned();
    shown.waits_for = None;
    shown.n_backing_off = 0;
    shown.run = record.run;
    shown.submitted_unix_ms = record.submitted_unix_ms;
    shown.ended_unix_ms = record.ended_unix_ms;
    if record.stands == JobStands::Done {
        shown.tasks_committed = shown.tasks;
    }
    if let Some(failure) = &record.failure {
        shown.error = Some(failure.error.clone());
        shown.next = failure.next.clone();
    }
    shown
}
