//! The driver process: it waits for the lease, and drives all jobs of the cluster while it has it.

use super::TILEWORK;
use super::board::{Board, DriverOnBoard, JobOnBoard, KEY};
use super::conductor::{Begin, Ground, OpenedJob, Order, Told, conduct, name_of, request_of};
use super::events::{Gathered, JobEvent};
use super::fleet::{self, FleetView};
use super::joining::{name_here, unreachable};
use super::protocol::{self, Cancel, Empty, Join, Planned, Submit, Submitted, Welcome, answer, read_ask};
use super::record::{JobRecord, JobStands, PlannedFor, key_of, unix_ms};
use crate::failure::{CliError, Exit};
use crate::product::report::{plan_json, write_plan};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tilework_core::alarm::{Alarm, AlarmKind};
use tilework_core::driver::{Driver, DriverEvent};
use tilework_core::failure::{JobEnd, StopCause};
use tilework_core::ids::JobId;
use tilework_core::lease::DriverIdx;
use tilework_core::message::WorkerReport;
use tilework_core::task_table::TaskStatus;
use tilework_kernel::Simd;
use tilework_nats::Request;
use tilework_nats::{Bucket, Control, JoinFile, LeaseKeeper, NatsDriverPort, NatsOptions, Role};
use tilework_runtime::alarm_log::AlarmLog;
use tilework_runtime::engine::DriverPort;
use tilework_runtime::steps::Step;
use tilework_runtime::{DriverHost, LoggedAlarm, StopSwitch, drive};
use tilework_store::data_roots::DataRoots;
use tilework_store::disk::Disk;
use tilework_store::element_type::Dtype;
use tilework_store::lock::Owner;

/// How often the board is written when something has changed ...
const BOARD_PERIOD: Duration = Duration::from_secs(1);
/// ... and when nothing has.
const BOARD_PERIOD_IDLE: Duration = Duration::from_secs(2);
/// Ended jobs that the board shows.
const ENDED_SHOWN_MAX: usize = 100;
/// How long the cluster knows of an ended job.
const ENDED_KEPT_MS: u64 = 7 * 24 * 3600 * 1000;
/// How long a standby waits for a change before it looks whether it should end.
const STANDBY_POLL: Duration = Duration::from_millis(200);
/// Pause after the cluster could not be reached, before the next try.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a driver is started with.
pub struct DriverSettings {
    /// How it joins.
    pub join: JoinFile,
    /// Where matrices are.
    pub roots: Arc<DataRoots>,
    /// Instruction set that plans count on.
    pub simd: Simd,
}

/// Drives whenever it has the lease, until it is told to stop.
pub fn run(settings: &DriverSettings, stop: &StopSwitch) -> Result<(), CliError> {
    let name = name_here(Role::Driver);
    let control = super::joining::connect(&settings.join, &name)?;
    while let Err(error) = control.create_stores() {
        if stop.requested().is_some() {
            return Ok(());
        }
        tracing::warn!(%error, "the cluster's stores can't be made yet");
        thread::sleep(RETRY_PAUSE);
    }
    let keeper = LeaseKeeper::start(Arc::clone(&control), driver_idx(), name.clone());
    let keeper = Arc::new(keeper);
    tracing::info!(name, "waits for the lease");
    while stop.requested().is_none() {
        if !keeper.changed(STANDBY_POLL) {
            continue;
        }
        tracing::info!(name, "drives");
        if let Err(error) = lead(settings, &name, &control, &keeper, stop) {
            tracing::error!("can't drive: {}", error.message);
            thread::sleep(RETRY_PAUSE);
        }
        tracing::info!(name, "drives no more");
    }
    Ok(())
}

/// A number that no other driver has: the lease only tells whose it is by it.
fn driver_idx() -> DriverIdx {
    let name = format!("{:?} {}", Owner::current(), unix_ms());
    let hash = tilework_store::journal::recover::job_id(name.as_bytes());
    DriverIdx(u32::from_le_bytes([hash.0[0], hash.0[1], hash.0[2], hash.0[3]]))
}

fn lead(
    settings: &DriverSettings,
    name: &str,
    control: &Arc<Control>,
    keeper: &Arc<LeaseKeeper>,
    stop: &StopSwitch,
) -> Result<(), CliError> {
    let kept = |error| super::joining::unanswered(&error);
    let options = NatsOptions::joining(&settings.join, format!("{name}-drives"));
    let mut port = NatsDriverPort::connect(&options).map_err(unreachable)?;
    let leads = {
        let keeper = Arc::clone(keeper);
        Arc::new(move || keeper.is_leader())
    };
    let ground = Ground {
        control: Arc::clone(control),
        roots: Arc::clone(&settings.roots),
        simd: settings.simd,
        leads,
    };
    let requests = control.requests().map_err(kept)?;
    let (to_host, asked) = channel();
    let closing = Arc::new(AtomicBool::new(false));
    let desk = {
        let (control, closing, inbox) = (Arc::clone(control), Arc::clone(&closing), port.inbox());
        thread::spawn(move || {
            while !closing.load(Ordering::Relaxed) {
                let Some(request) = requests.next(STANDBY_POLL) else {
                    continue;
                };
                if let Some(asked) = receive(&control, request) {
                    let _ = to_host.send(asked);
                    let _ = inbox.send(DriverEvent::Tick);
                }
            }
        })
    };
    let admitted = fleet::admitted(control).map_err(kept)?;
    let mut host = ClusterHost::new(ground, keeper, stop, asked, admitted, name);
    host.take_over_all(&port.inbox()).map_err(kept)?;
    drive(&mut port, &mut host);
    closing.store(true, Ordering::Relaxed);
    host.close();
    let _ = desk.join();
    Ok(())
}

/// What is asked of the driver, beyond what its front desk answers itself.
enum Asked {
    Joined(tilework_core::ids::WorkerIdx, Join),
    Submit(Box<Submit>, Request),
    Plan(Box<Submit>, Request),
    Cancel(Cancel, Request),
}

/// Answers what can be answered at once.
fn receive(control: &Control, request: Request) -> Option<Asked> {
    let refused = |request: Request, error: CliError| {
        tracing::info!(subject = request.subject, "refused: {}", error.message);
        request.answer(answer::<Empty>(Err(error)));
        None
    };
    macro_rules! read {
        ($body:ty) => {
            match read_ask::<$body>(&request.payload) {
                Ok(body) => body,
                Err(error) => return refused(request, error),
            }
        };
    }
    match request.subject.as_str() {
        protocol::JOIN => {
            let join = read!(Join);
            match fleet::admit(control, &join) {
                Ok(worker) => {
                    request.answer(answer(Ok(Welcome { worker: worker.0 })));
                    Some(Asked::Joined(worker, join))
                }
                Err(error) => refused(request, super::joining::unanswered(&error)),
            }
        }
        protocol::SUBMIT => Some(Asked::Submit(Box::new(read!(Submit)), request)),
        protocol::PLAN => Some(Asked::Plan(Box::new(read!(Submit)), request)),
        protocol::CANCEL => Some(Asked::Cancel(read!(Cancel), request)),
        protocol::PING => {
            read!(Empty);
            request.answer(answer(Ok(Empty {})));
            None
        }
        other => {
            let error = CliError::usage(format!("the driver knows no request `{other}`"));
            refused(request, error)
        }
    }
}

/// A job that is driven here.
struct Driven {
    orders: Sender<Order>,
    stop: Arc<AtomicBool>,
    shown: JobOnBoard,
    alarms: AlarmLog,
    cancelled: bool,
    /// When its time is up, until it has been told so.
    deadline_unix_ms: Option<u64>,
    n_committed_here: u64,
}

/// The driver's surroundings in a cluster.
struct ClusterHost<'a> {
    ground: Ground,
    keeper: &'a LeaseKeeper,
    stop: &'a StopSwitch,
    asked: Receiver<Asked>,
    to_here: Sender<Told>,
    told: Receiver<Told>,
    urgent: VecDeque<DriverEvent>,
    jobs: BTreeMap<JobId, Driven>,
    /// Outputs that are being opened or computed.
    ended: VecDeque<JobOnBoard>,
    fleet: FleetView,
    events: Gathered,
    board: BoardWriter,
    driver: DriverOnBoard,
    board_written: Instant,
    board_changed: bool,
    threads: Vec<JoinHandle<()>>,
}

impl<'a> ClusterHost<'a> {
    fn new(
        ground: Ground,
        keeper: &'a LeaseKeeper,
        stop: &'a StopSwitch,
        asked: Receiver<Asked>,
        admitted: BTreeMap<tilework_core::ids::WorkerIdx, Join>,
        name: &str,
    ) -> ClusterHost<'a> {
        let (to_here, told) = channel();
        let owner = Owner::current();
        let driver = DriverOnBoard {
            name: name.to_owned(),
            host: owner.host,
            pid: owner.pid,
            data_roots: ground.roots.places(),
        };
        let board = BoardWriter::start(Arc::clone(&ground.control));
        ClusterHost {
            ground,
            keeper,
            stop,
            asked,
            to_here,
            told,
            urgent: VecDeque::new(),
            jobs: BTreeMap::new(),
            ended: VecDeque::new(),
            fleet: FleetView::new(admitted),
            events: Gathered::default(),
            board,
            driver,
            board_written: Instant::now() - BOARD_PERIOD_IDLE,
            board_changed: true,
            threads: Vec::new(),
        }
    }

    /// Goes on with the jobs that the last driver left, and remembers how the others ended.
    fn take_over_all(&mut self, inbox: &Sender<DriverEvent>) -> Result<(), tilework_nats::ControlError> {
        let control = Arc::clone(&self.ground.control);
        let mut ended = Vec::new();
        for key in control.keys(Bucket::Jobs)? {
            let Some(entry) = control.get(Bucket::Jobs, &key)? else {
                continue;
            };
            match JobRecord::from_bytes(&key, &entry.value) {
                Ok(record) if record.stands == JobStands::Running => {
                    self.begin(Begin::TakenOver(Box::new(record)), inbox);
                }
                Ok(record) if is_expired(&record) => control.delete(Bucket::Jobs, &key)?,
                Ok(record) => ended.push(on_board(&record, None)),
                Err(cause) => tracing::warn!(key, cause, "a job's record can't be read"),
            }
        }
        ended.sort_by_key(|job| std::cmp::Reverse(job.submitted_unix_ms));
        ended.truncate(ENDED_SHOWN_MAX);
        self.ended = ended.into();
        Ok(())
    }

    fn begin(&mut self, begin: Begin, inbox: &Sender<DriverEvent>) {
        let (ground, to_here, inbox) = (self.ground.clone(), self.to_here.clone(), inbox.clone());
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread::spawn(move || {
            conduct(&ground, begin, &to_here, &inbox);
            let _ = inbox.send(DriverEvent::Tick);
        }));
    }

    /// Ends the threads of all jobs without ending the jobs.
    fn close(mut self) {
        self.events.publish(&self.ground.control);
        for job in self.jobs.values() {
            job.stop.store(true, Ordering::Relaxed);
        }
        self.jobs.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    fn on_told(&mut self, told: Told) {
        // Watchers wait for this.
        self.board_written = Instant::now() - BOARD_PERIOD_IDLE;
        match told {
            Told::Opened(opened) => self.on_opened(*opened),
            Told::Ended(record) => {
                let shown = self.jobs.remove(&record.id()).map(|job| job.shown);
                let shown = on_board(&record, shown);
                self.ended.push_front(shown);
                self.ended.truncate(ENDED_SHOWN_MAX);
            }
        }
    }

    fn on_opened(&mut self, opened: OpenedJob) {
        let OpenedJob {
            start,
            record,
            orders,
            stop,
            kind,
            files,
            n_resumed,
        } = opened;
        let id = start.job;
        let shown = JobOnBoard {
            kind,
            tasks: start.n_tasks,
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
            orders,
            stop,
            shown,
            alarms: AlarmLog::beside(disk, &files),
            cancelled: false,
            deadline_unix_ms: record.deadline_unix_ms,
            n_committed_here: 0,
        };
        self.jobs.insert(id, driven);
        self.urgent.push_back(DriverEvent::Submitted(start));
    }

    fn on_asked(&mut self, asked: Asked, inbox: &Sender<DriverEvent>) {
        match asked {
            Asked::Joined(worker, join) => {
                self.fleet.on_joined(worker, join);
                self.board_changed = true;
            }
            Asked::Submit(submit, request) => self.on_submit(submit, request, inbox),
            Asked::Plan(submit, request) => {
                let planned_for = self.planned_for(&submit);
                let ground = self.ground.clone();
                self.threads.push(thread::spawn(move || {
                    let planned = planned_for
                        .ok_or_else(no_workers)
                        .and_then(|planned_for| plan(&ground, &submit, planned_for));
                    request.answer(answer(planned));
                }));
            }
            Asked::Cancel(cancel, request) => {
                let answered = self.on_cancel(&cancel.job);
                request.answer(answer(answered));
            }
        }
    }

    fn planned_for(&self, submit: &Submit) -> Option<PlannedFor> {
        let workers = self.fleet.planned_for()?;
        let allowed = submit.memory_bytes.unwrap_or(u64::MAX);
        Some(PlannedFor {
            memory_bytes: workers.memory_bytes.min(allowed),
            ..workers
        })
    }

    fn on_submit(&mut self, submit: Box<Submit>, request: Request, inbox: &Sender<DriverEvent>) {
        let refuse = |request: Request, error| request.answer(answer::<Submitted>(Err(error)));
        let Some(planned_for) = self.planned_for(&submit) else {
            return refuse(request, no_workers());
        };
        let Some(output) = &submit.output else {
            return refuse(request, CliError::usage("a job needs an output"));
        };
        let output = match name_of(&self.ground.roots, output) {
            Ok(output) => output,
            Err(error) => return refuse(request, error),
        };
        let mut running = self.jobs.iter().filter(|(_, job)| job.shown.output == output);
        let running = running.next().map(|(id, _)| *id);
        let begin = Begin::Submitted {
            submit,
            output,
            planned_for,
            running,
            request,
        };
        self.begin(begin, inbox);
    }

    fn on_cancel(&mut self, named: &str) -> Result<Submitted, CliError> {
        let board = self.board(None);
        let found = board.find(named).map_err(|ids| ambiguous(named, &ids))?;
        let shown = found.ok_or_else(|| no_such_job(named))?.clone();
        let driven = self.jobs.iter_mut().find(|(_, job)| job.shown.id == shown.id);
        let Some((id, job)) = driven else {
            let message = format!("the job `{named}` is {} already", shown.state);
            return Err(CliError::usage(message).with_next("see all jobs: tilework jobs"));
        };
        job.cancelled = true;
        job.stop.store(true, Ordering::Relaxed);
        self.urgent
            .push_back(DriverEvent::StopRequested(*id, StopCause::Interrupted));
        Ok(Submitted {
            job: shown.id,
            run: shown.run,
            output: shown.output,
            tasks: shown.tasks,
            tasks_resumed: shown.tasks_committed,
            was_running: true,
            notes: Vec::new(),
        })
    }

    fn stop_overdue(&mut self) {
        let now = unix_ms();
        for (id, job) in &mut self.jobs {
            if job.deadline_unix_ms.is_some_and(|deadline| now >= deadline) {
                job.deadline_unix_ms = None;
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
                    shown.waits_for = machine.stalled(*id).map(|stall| stall.to_string());
                    if let Some(tasks) = machine.tasks(*id) {
                        shown.tasks_committed = tasks.n_committed();
                    }
                }
                shown
            })
            .collect();
        jobs.extend(self.ended.iter().cloned());
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
            let gone = self.fleet.forget_gone();
            self.board.write(self.board(Some(machine)), gone);
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

    fn on_tick(&mut self, port: &mut dyn DriverPort) {
        let inbox = port.inbox();
        while let Ok(asked) = self.asked.try_recv() {
            self.on_asked(asked, &inbox);
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
        let concerned = |id: &JobId| alarm.job.is_none_or(|job| job == *id);
        for (id, job) in self.jobs.iter_mut().filter(|(id, _)| concerned(id)) {
            let logged = LoggedAlarm::now(alarm, tilework_core::ids::RunEpoch(job.shown.run));
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
                let host = self.fleet.host(tilework_core::ids::WorkerIdx(*worker));
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
        let order = Order::End {
            end,
            cancelled: driven.cancelled,
            facts,
        };
        let _ = driven.orders.send(order);
    }

    fn is_over(&self) -> bool {
        !self.keeper.is_leader() || self.stop.requested().is_some()
    }
}

/// Writes boards without keeping the driver: only the latest counts.
struct BoardWriter {
    shared: Arc<(Mutex<Next>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Next {
    board: Option<Board>,
    gone: BTreeSet<tilework_core::ids::WorkerIdx>,
    closed: bool,
}

impl BoardWriter {
    fn start(control: Arc<Control>) -> BoardWriter {
        let shared: Arc<(Mutex<Next>, Condvar)> = Arc::default();
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || write_boards(&control, &of_thread));
        BoardWriter {
            shared,
            thread: Some(thread),
        }
    }

    fn write(&self, board: Board, gone: Vec<tilework_core::ids::WorkerIdx>) {
        let (next, news) = &*self.shared;
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        next.board = Some(board);
        next.gone.extend(gone);
        news.notify_one();
    }
}

impl Drop for BoardWriter {
    fn drop(&mut self) {
        let (next, news) = &*self.shared;
        next.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        news.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_boards(control: &Control, shared: &(Mutex<Next>, Condvar)) {
    let (next, news) = shared;
    for n_written in 1.. {
        let guard = next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = news
            .wait_while(guard, |next| next.board.is_none() && !next.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let (board, gone) = (guard.board.take(), std::mem::take(&mut guard.gone));
        drop(guard);
        let Some(board) = board else { return };
        let board = Board { n_written, ..board };
        let bytes = serde_json::to_vec(&board).unwrap_or_default();
        if let Err(error) = control.put(Bucket::Workers, KEY, &bytes) {
            tracing::debug!(%error, "the board is not written");
        }
        let gone: Vec<_> = gone.into_iter().collect();
        fleet::dismiss(control, &gone);
    }
}

fn is_expired(record: &JobRecord) -> bool {
    record
        .ended_unix_ms
        .is_some_and(|ended| unix_ms().saturating_sub(ended) > ENDED_KEPT_MS)
}

/// How a job is shown, with what was known of its run if it was driven here.
fn on_board(record: &JobRecord, known: Option<JobOnBoard>) -> JobOnBoard {
    let description = crate::product::request::Description::from_text(record.job_text.as_bytes());
    let of_description = description.map(|description| JobOnBoard {
        kind: description.kind,
        tasks: description.plan.grid.n_tiles(),
        ..JobOnBoard::default()
    });
    let mut shown = known.unwrap_or_else(|| of_description.unwrap_or_default());
    shown.id = key_of(record.id());
    shown.output = record.output.clone();
    shown.state = record.stands.name().to_owned();
    shown.waits_for = None;
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

fn plan(ground: &Ground, submit: &Submit, planned_for: PlannedFor) -> Result<Planned, CliError> {
    // A plan needs no place for its output; where one is given, it is only looked at.
    let output = match &submit.output {
        Some(output) => name_of(&ground.roots, output)?,
        None => String::new(),
    };
    let (request, inputs) = request_of(ground, submit, &output, planned_for)?;
    let resources = request.resources;
    let plan = match inputs.spec.dtype {
        Dtype::F64 => resources.plan::<f64>(&inputs, request.algorithm, None),
        Dtype::F32 => resources.plan::<f32>(&inputs, request.algorithm, None),
    }?;
    if submit.output.is_some() {
        request.check_output(&*ground.roots, &inputs)?;
        request.check_disk(&*ground.roots, &plan, &inputs)?;
    }
    let mut json = plan_json(&plan, &inputs);
    json["workers"] = json!(planned_for.workers);
    let mut text = Vec::new();
    let _ = write_plan(&mut text, &plan, &inputs);
    let text = format!(
        "{}\nworkers {}, each with {} threads",
        String::from_utf8_lossy(&text).trim_end(),
        planned_for.workers,
        planned_for.threads
    );
    Ok(Planned { json, text })
}

fn no_workers() -> CliError {
    CliError::new(Exit::Unreachable, "the cluster has no workers")
        .with_next("start one: tilework worker --cluster worker.join --data-root NAME=DIR")
}

/// A job that nobody knows.
pub fn no_such_job(named: &str) -> CliError {
    CliError::usage(format!("the cluster knows no job `{named}`")).with_next("see all jobs: tilework jobs")
}

/// A beginning of several ids.
pub fn ambiguous(named: &str, ids: &[String]) -> CliError {
    CliError::usage(format!("`{named}` may be any of {}", ids.join(", "))).with_next("write more of the id")
}
