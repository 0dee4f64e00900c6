//! Who the workers are: what they said when they joined, and what the driver heard of them since.

use super::board::WorkerOnBoard;
use super::protocol::Join;
use super::record::PlannedFor;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tilework_core::driver::DriverEvent;
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{ToDriver, WorkerReport};
use tilework_nats::{Bucket, Control, ControlError};

/// How long a lost worker stays on the board.
const SHOWN_LOST: Duration = Duration::from_secs(600);
/// Where the number of the next worker is kept.
const NEXT_KEY: &str = "next-worker";
/// Times that a number is asked for while other drivers hand out theirs.
const NUMBER_TRIES: u32 = 20;

fn key_of(worker: WorkerIdx) -> String {
    format!("worker.{worker}")
}

/// Gives a worker the number that it has already, or one that nobody else has, and keeps who it is for other drivers.
pub fn admit(control: &Control, join: &Join) -> Result<WorkerIdx, ControlError> {
    if let Some(worker) = join.worker.map(WorkerIdx)
        && claim(control, worker, join)?
    {
        return Ok(worker);
    }
    for _ in 0..NUMBER_TRIES {
        let entry = control.get(Bucket::Lock, NEXT_KEY)?;
        let (revision, next) = entry.map_or((0, 0), |entry| {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            (entry.revision, text.parse::<u32>().unwrap_or(0))
        });
        let text = (next + 1).to_string();
        match control.set(Bucket::Lock, NEXT_KEY, text.as_bytes(), revision) {
            // Where records were lost, numbers begin again, and some workers have theirs still.
            Ok(_) if claim(control, WorkerIdx(next), join)? => return Ok(WorkerIdx(next)),
            Ok(_) | Err(ControlError::Changed) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ControlError::Changed)
}

/// Keeps who has a number; whether nobody else does.
fn claim(control: &Control, worker: WorkerIdx, join: &Join) -> Result<bool, ControlError> {
    let said = Join {
        worker: Some(worker.0),
        ..join.clone()
    };
    let text = serde_json::to_vec(&said).unwrap_or_default();
    match control.set(Bucket::Lock, &key_of(worker), &text, 0) {
        Ok(_) => Ok(true),
        Err(ControlError::Changed) => {
            let known = control.get(Bucket::Lock, &key_of(worker))?;
            let known = known.and_then(|entry| serde_json::from_slice::<Join>(&entry.value).ok());
            Ok(known == Some(said))
        }
        Err(error) => Err(error),
    }
}

/// Who joined under other drivers.
pub fn admitted(control: &Control) -> Result<BTreeMap<WorkerIdx, Join>, ControlError> {
    let mut joined = BTreeMap::new();
    for key in control.keys(Bucket::Lock)? {
        let Some(worker) = key.strip_prefix("worker.").and_then(|number| number.parse().ok()) else {
            continue;
        };
        let entry = control.get(Bucket::Lock, &key)?;
        if let Some(join) = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()) {
            joined.insert(WorkerIdx(worker), join);
        }
    }
    Ok(joined)
}

#[derive(Debug)]
struct Member {
    is_working: bool,
    is_draining: bool,
    lost_since: Option<Instant>,
    n_done: u64,
}

/// The workers that this driver has heard.
#[derive(Debug, Default)]
pub struct FleetView {
    joined: BTreeMap<WorkerIdx, Join>,
    members: BTreeMap<WorkerIdx, Member>,
    /// Workers that left in good order, whose records are not needed any more.
    left: Vec<WorkerIdx>,
}

impl FleetView {
    /// Nobody heard yet, of those that joined under other drivers.
    pub fn new(joined: BTreeMap<WorkerIdx, Join>) -> FleetView {
        FleetView {
            joined,
            ..FleetView::default()
        }
    }

    /// Somebody joined.
    pub fn on_joined(&mut self, worker: WorkerIdx, join: Join) {
        self.joined.insert(worker, join);
    }

    /// The driver hears something. `is_new_commit`: a task is committed for the first time.
    pub fn on_event(&mut self, event: &DriverEvent, is_new_commit: bool) {
        match event {
            DriverEvent::Received(message) => self.on_report(message, is_new_commit),
            DriverEvent::WorkerLost(worker) => {
                self.members.remove(worker);
                self.joined.remove(worker);
                self.left.push(*worker);
            }
            _ => {}
        }
    }

    fn on_report(&mut self, message: &ToDriver, is_new_commit: bool) {
        let member = self.members.entry(message.worker).or_insert(Member {
            is_working: false,
            is_draining: false,
            lost_since: None,
            n_done: 0,
        });
        member.lost_since = None;
        match &message.body {
            WorkerReport::Heartbeat { holding, .. } => member.is_working = !holding.is_empty(),
            WorkerReport::Took(_) | WorkerReport::Started(_) => member.is_working = true,
            WorkerReport::Committed(_) => {
                member.n_done += u64::from(is_new_commit);
            }
            WorkerReport::Drained => member.is_draining = true,
            WorkerReport::Joined { .. }
            | WorkerReport::Failed(..)
            | WorkerReport::GaveBack(_)
            | WorkerReport::Left(_) => {}
        }
    }

    /// A worker was not heard in time.
    pub fn on_lost(&mut self, worker: WorkerIdx) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.lost_since = Some(Instant::now());
            member.is_working = false;
        }
    }

    /// What a plan for the workers that are there counts on: the least of each.
    pub fn planned_for(&self) -> Option<PlannedFor> {
        let there = self
            .members
            .iter()
            .filter(|(_, member)| member.lost_since.is_none() && !member.is_draining);
        let known: Vec<&Join> = there.filter_map(|(worker, _)| self.joined.get(worker)).collect();
        Some(PlannedFor {
            memory_bytes: known.iter().map(|join| join.memory_bytes).min()?,
            threads: known.iter().map(|join| join.threads).min()?,
            workers: known.len() as u32,
        })
    }

    /// Where a worker runs.
    pub fn host(&self, worker: WorkerIdx) -> String {
        self.joined
            .get(&worker)
            .map_or_else(|| "?".to_owned(), |join| join.host.clone())
    }

    /// Forgets who left, or was lost long ago; their records may go.
    pub fn forget_gone(&mut self) -> Vec<WorkerIdx> {
        let is_gone = |member: &Member| {
            member
                .lost_since
                .is_some_and(|since| since.elapsed() > SHOWN_LOST)
        };
        let gone: Vec<WorkerIdx> = self
            .members
            .iter()
            .filter(|(_, member)| is_gone(member))
            .map(|(worker, _)| *worker)
            .collect();
        for worker in &gone {
            self.members.remove(worker);
            self.joined.remove(worker);
        }
        let mut left = std::mem::take(&mut self.left);
        left.extend(gone);
        left
    }

    /// As anyone may see them.
    pub fn on_board(&self) -> Vec<WorkerOnBoard> {
        let shown = self.members.iter().map(|(worker, member)| {
            let join = self.joined.get(worker);
            let state = match member {
                Member {
                    lost_since: Some(_), ..
                } => "lost",
                Member {
                    is_draining: true, ..
                } => "draining",
                Member { is_working: true, .. } => "working",
                _ => "idle",
            };
            WorkerOnBoard {
                id: worker.0,
                tilework: join.map_or(String::new(), |join| join.tilework.clone()),
                host: self.host(*worker),
                pid: join.map_or(0, |join| join.pid),
                threads: join.map_or(0, |join| join.threads),
                memory_bytes: join.map_or(0, |join| join.memory_bytes),
                state: state.to_owned(),
                tasks_done: member.n_done,
                data_roots: join.map_or(Vec::new(), |join| join.data_roots.clone()),
            }
        });
        shown.collect()
    }
}

/// Removes what is kept of workers that are gone.
pub fn dismiss(control: &Control, workers: &[WorkerIdx]) {
    for worker in workers {
        if let Err(error) = control.delete(Bucket::Lock, &key_of(*worker)) {
            tracing::debug!(%worker, %error, "the record of a worker that is gone stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilework_core::ids::{Attempt, JobId};
    use tilework_core::message::{Holding, JobAttempt};

    fn join(memory_bytes: u64, threads: u32) -> Join {
        Join {
            tilework: "1".to_owned(),
            host: "h".to_owned(),
            pid: 7,
            threads,
            memory_bytes,
            data_roots: Vec::new(),
            started_unix_ms: 1,
            worker: None,
        }
    }

    fn says(fleet: &mut FleetView, worker: u32, body: WorkerReport) {
        let worker = WorkerIdx(worker);
        fleet.on_event(&DriverEvent::Received(ToDriver { worker, body }), true);
    }

    fn states(fleet: &FleetView) -> Vec<(u32, String, u64)> {
        let workers = fleet.on_board().into_iter();
        workers
            .map(|worker| (worker.id, worker.state, worker.tasks_done))
            .collect()
    }

    #[test]
    fn workers_are_shown_as_they_were_heard_last() {
        let mut fleet = FleetView::default();
        let attempt = JobAttempt {
            job: JobId([1; 16]),
            attempt: Attempt {
                epoch: Default::default(),
                round: Default::default(),
                task: Default::default(),
                attempt: Default::default(),
            },
        };
        for (worker, memory) in [(0, 5), (1, 3), (2, 9)] {
            fleet.on_joined(WorkerIdx(worker), join(memory, worker + 1));
        }
        assert_eq!(fleet.planned_for(), None);
        says(&mut fleet, 0, WorkerReport::Joined { memory_bytes: 5 });
        says(&mut fleet, 1, WorkerReport::Started(attempt));
        let planned_for = PlannedFor {
            memory_bytes: 3,
            threads: 1,
            workers: 2,
        };
        assert_eq!(fleet.planned_for(), Some(planned_for));
        says(&mut fleet, 1, WorkerReport::Committed(attempt));
        let holding = vec![Holding {
            attempt,
            started: true,
        }];
        says(
            &mut fleet,
            0,
            WorkerReport::Heartbeat {
                memory_bytes: 5,
                holding,
            },
        );
        let shown = |id, state: &str, n| (id, state.to_owned(), n);
        assert_eq!(states(&fleet), [shown(0, "working", 0), shown(1, "working", 1)]);
        fleet.on_lost(WorkerIdx(1));
        assert_eq!(states(&fleet)[1], shown(1, "lost", 1));
        assert_eq!(fleet.planned_for().map(|planned| planned.memory_bytes), Some(5));
        fleet.on_event(&DriverEvent::WorkerLost(WorkerIdx(0)), false);
        assert_eq!(fleet.forget_gone(), [WorkerIdx(0)]);
        assert_eq!(states(&fleet).len(), 1);
    }
}
