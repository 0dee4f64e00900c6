//! How a job of a cluster stands, in words: why, what it waits for, who works on it, what happens next and the command for it.
//!
//! Told from what anyone may see: the board, the job's record and its latest events. Nothing is asked of the driver.

use super::board::{Board, JobOnBoard, WorkerOnBoard};
use super::events::JobEvent;
use super::protocol::KnownKind;
use super::record::JobRecord;
use crate::human;
use crate::job_state::is_product;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use tilework_runtime::LoggedAlarm;

/// Tasks in hand that are named for each worker.
const HELD_SHOWN_MAX: usize = 8;

/// What is known of a job.
#[derive(Debug)]
pub struct Known<'a> {
    /// All that the driver showed last.
    pub board: &'a Board,
    /// The job there.
    pub job: &'a JobOnBoard,
    /// Why nobody drives, if nobody does.
    pub driver_trouble: Option<&'static str>,
    /// The job's record.
    pub record: Option<&'a JobRecord>,
    /// What happened to it lately.
    pub events: &'a [JobEvent],
    /// Now, in milliseconds since 1970.
    pub now_unix_ms: u64,
}

/// A job in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// Why it stands as it does.
    pub why: Vec<String>,
    /// What it waits for, if it can't go on.
    pub waits_for: Vec<String>,
    /// Who worked on it, and who does.
    pub workers: Vec<WorkerOnJob>,
    /// What was told of it.
    pub alarms: Vec<LoggedAlarm>,
    /// What happens next.
    pub then: String,
    /// The command for it.
    pub next: Option<String>,
}

/// A worker's part in a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerOnJob {
    /// Its number.
    pub worker: u32,
    /// Its host, where that is known still.
    pub host: Option<String>,
    /// As on the board, or `gone`.
    pub state: String,
    /// Tasks of this job that it committed under the driver that is there now.
    pub tasks: u64,
    /// Tasks that it took or runs, as far as was heard.
    pub holds: Vec<u64>,
}

impl Known<'_> {
    /// Tells it.
    pub fn account(&self) -> Account {
        let waits = self.waits_for();
        let (then, next) = self.outlook(waits.first());
        Account {
            why: self.why(),
            waits_for: waits.into_iter().map(|wait| wait.what).collect(),
            workers: self.workers(),
            alarms: self.alarms(),
            then: then.to_owned(),
            next,
        }
    }

    fn is_running(&self) -> bool {
        self.job.ended_unix_ms.is_none()
    }

    fn code_that_nobody_has(&self) -> Option<&KnownKind> {
        let needed = self.job.needs_code.as_ref()?;
        let is_known = self.there().any(|worker| worker.kinds.contains(needed));
        (!is_known).then_some(needed)
    }

    fn is_computed(&self) -> bool {
        self.job.tasks > 0 && self.job.tasks_committed >= self.job.tasks
    }

    fn there(&self) -> impl Iterator<Item = &WorkerOnBoard> {
        let is_there = |worker: &&WorkerOnBoard| worker.state != "lost" && worker.state != "draining";
        self.board.workers.iter().filter(is_there)
    }

    fn why(&self) -> Vec<String> {
        let job = self.job;
        let ago = |unix_ms: u64| human::seconds(self.now_unix_ms.saturating_sub(unix_ms) as f64 / 1e3);
        let mut why = vec![format!(
            "submitted {} ago; run {}",
            ago(job.submitted_unix_ms),
            job.run
        )];
        if let Some(ended) = job.ended_unix_ms {
            why.push(format!("ended {} ago", ago(ended)));
        }
        match &job.error {
            Some(error) => why.push(error.clone()),
            None if !self.is_running() => {
                why.push("all tasks are committed and the output has its name".to_owned());
            }
            None if self.is_computed() => {
                why.push("all tasks are committed; the output is read back".to_owned())
            }
            None => {
                let n_missing = job.tasks.saturating_sub(job.tasks_committed);
                why.push(format!("{} not committed yet", human::counted(n_missing, "task")));
            }
        }
        let counts = [
            (job.tasks_resumed, "kept from earlier runs"),
            (job.retries, "tried again"),
            (job.backups, "done twice for speed"),
        ];
        let told = counts.into_iter().filter(|(n, _)| *n > 0);
        let told: Vec<String> = told.map(|(n, what)| format!("{n} {what}")).collect();
        if !told.is_empty() {
            why.push(format!("tasks: {}", told.join(", ")));
        }
        why
    }

    fn waits_for(&self) -> Vec<Wait> {
        if !self.is_running() {
            return Vec::new();
        }
        let mut waits = Vec::new();
        let mut add = |what: String, next: Option<String>| waits.push(Wait { what, next });
        if let Some(trouble) = self.driver_trouble {
            let next = "tilework driver --cluster driver.join --data-root NAME=DIR";
            add(format!("a driver: {trouble}"), Some(next.to_owned()));
        }
        let largest_bytes = self.there().map(|worker| worker.memory_bytes).max();
        match largest_bytes {
            // What is computed needs no worker any more.
            _ if self.is_computed() => {
                if let Some(wait) = &self.job.waits_for {
                    add(wait.clone(), Some(format!("tilework logs {}", self.short_id())));
                }
            }
            None => {
                let next = "tilework worker --cluster worker.join --data-root NAME=DIR";
                add("a worker: none is there".to_owned(), Some(next.to_owned()));
            }
            Some(largest_bytes) if largest_bytes < self.job.needs_bytes => {
                let needed = self.job.needs_bytes;
                let what = format!(
                    "a worker with more memory: a task needs {}, the largest worker has {}",
                    human::bytes(needed),
                    human::bytes(largest_bytes)
                );
                let next = format!(
                    "tilework worker --cluster worker.join --data-root NAME=DIR --memory {}",
                    human::size_option(needed)
                );
                add(what, Some(next));
            }
            Some(_) if let Some(needed) = self.code_that_nobody_has() => {
                let what = format!(
                    "a worker that knows the job: no worker's program has `{}` of version {}",
                    needed.name, needed.version
                );
                let next = "start one with the program that has it: PROGRAM worker --cluster worker.join --data-root NAME=DIR";
                add(what, Some(next.to_owned()));
            }
            Some(_) => {
                if self.job.n_backing_off > 0 {
                    let tasks = human::counted(self.job.n_backing_off, "task");
                    add(
                        format!("{tasks} that failed and will be tried again within a second"),
                        None,
                    );
                }
                if let Some(stall) = &self.job.waits_for {
                    let next = format!("tilework logs {}", self.short_id());
                    add(stall.clone(), Some(next));
                }
            }
        }
        waits
    }

    fn outlook(&self, first: Option<&Wait>) -> (&'static str, Option<String>) {
        let job = self.job;
        if !self.is_running() {
            return match job.state.as_str() {
                "done" if !is_product(&job.kind) => ("nothing", None),
                "done" => (
                    "nothing; it can be verified at any time, where its file is",
                    Some(format!("tilework verify {}", human::shell_word(&self.place()))),
                ),
                _ => (
                    "what is committed is kept; a resume runs the tasks that are missing",
                    Some(format!("tilework resume {}", human::shell_word(&job.output))),
                ),
            };
        }
        match first {
            Some(Wait { next: Some(next), .. }) => (
                "it goes on by itself as soon as that is there; what is committed is kept",
                Some(next.clone()),
            ),
            _ if self.is_computed() => (
                "the driver reads the output back, then it gets its name",
                Some(format!("tilework watch {}", self.short_id())),
            ),
            _ => (
                "the missing tasks are computed, the output is read back, then it gets its name",
                Some(format!("tilework watch {}", self.short_id())),
            ),
        }
    }

    fn short_id(&self) -> &str {
        self.job.id.get(..12).unwrap_or(&self.job.id)
    }

    /// The output as the driver's machine calls it.
    fn place(&self) -> String {
        let output = &self.job.output;
        let place = output.split_once(":/").and_then(|(root, inner)| {
            let dir = self.board.driver.as_ref()?.data_roots.get(root)?;
            Some(format!("{dir}/{inner}"))
        });
        place.unwrap_or_else(|| output.clone())
    }

    fn workers(&self) -> Vec<WorkerOnJob> {
        let ids = self.job.by_worker.keys().copied();
        let held: BTreeSet<(u32, u64)> = if self.is_running() {
            self.held()
        } else {
            BTreeSet::new()
        };
        let ids: BTreeSet<u32> = ids.chain(held.iter().map(|(worker, _)| *worker)).collect();
        let of = |id: u32| {
            let shown = self.board.workers.iter().find(|worker| worker.id == id);
            let state = shown.map_or("gone", |worker| &worker.state);
            let holds = held.iter().filter(|(worker, _)| *worker == id);
            WorkerOnJob {
                worker: id,
                host: shown.map(|worker| worker.host.clone()),
                state: state.to_owned(),
                tasks: self.job.by_worker.get(&id).copied().unwrap_or_default(),
                holds: match state {
                    // What it had is given to others.
                    "lost" | "gone" => Vec::new(),
                    _ => holds.map(|(_, task)| *task).take(HELD_SHOWN_MAX).collect(),
                },
            }
        };
        ids.into_iter().map(of).collect()
    }

    /// Worker and task of what was taken and not ended since.
    fn held(&self) -> BTreeSet<(u32, u64)> {
        let mut held = BTreeSet::new();
        for event in self.events {
            let (Some(worker), Some(task)) = (event.worker, event.task) else {
                continue;
            };
            match event.what.as_str() {
                "took" | "started" => {
                    held.insert((worker, task));
                }
                _ => {
                    held.remove(&(worker, task));
                }
            }
        }
        held
    }

    /// Those of the latest events; of a job that ended longer ago those of its report.
    fn alarms(&self) -> Vec<LoggedAlarm> {
        let heard = self.events.iter().filter_map(|event| event.alarm.clone());
        let heard: Vec<LoggedAlarm> = heard.collect();
        if !heard.is_empty() {
            return heard;
        }
        let reported = self.record.and_then(|record| {
            let of_report = record.report.as_ref().and_then(|report| report.get("alarms"));
            let of_failure = || record.failure.as_ref()?.facts.get("alarms");
            of_report.or_else(of_failure)
        });
        let reported = reported.and_then(Value::as_array).into_iter().flatten();
        reported
            .filter_map(|alarm| serde_json::from_value(alarm.clone()).ok())
            .collect()
    }
}

/// Something that a job waits for, and how to bring it about.
struct Wait {
    what: String,
    next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: u32, state: &str, memory_bytes: u64) -> WorkerOnBoard {
        WorkerOnBoard {
            id,
            state: state.to_owned(),
            memory_bytes,
            host: format!("h{id}"),
            ..WorkerOnBoard::default()
        }
    }

    fn board(workers: Vec<WorkerOnBoard>, job: JobOnBoard) -> Board {
        Board {
            workers,
            jobs: vec![JobOnBoard {
                id: "abcdef0123456789".to_owned(),
                output: "data:/C.npy".to_owned(),
                tasks: 10,
                ..job
            }],
            ..Board::default()
        }
    }

    fn account_of(board: &Board, driver_trouble: Option<&'static str>, events: &[JobEvent]) -> Account {
        let known = Known {
            board,
            job: &board.jobs[0],
            driver_trouble,
            record: None,
            events,
            now_unix_ms: 5_000,
        };
        known.account()
    }

    fn running() -> JobOnBoard {
        JobOnBoard {
            state: "running".to_owned(),
            needs_bytes: 300,
            tasks_committed: 3,
            ..JobOnBoard::default()
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_brings_it() {
        let lost = board(vec![worker(0, "lost", 900)], running());
        let account = account_of(&lost, Some("the cluster has no driver"), &[]);
        assert_eq!(
            account.waits_for,
            ["a driver: the cluster has no driver", "a worker: none is there"]
        );
        assert!(account.next.unwrap().starts_with("tilework driver"));

        let small = board(vec![worker(0, "idle", 200)], running());
        let account = account_of(&small, None, &[]);
        assert_eq!(
            account.waits_for,
            ["a worker with more memory: a task needs 300 B, the largest worker has 200 B"]
        );
        assert!(account.next.unwrap().ends_with("--memory 1MiB"));

        let unknown = JobOnBoard {
            needs_code: Some(KnownKind {
                name: "pi".to_owned(),
                version: 2,
            }),
            needs_bytes: 0,
            ..running()
        };
        let account = account_of(&board(vec![worker(0, "idle", 900)], unknown), None, &[]);
        assert_eq!(
            account.waits_for,
            ["a worker that knows the job: no worker's program has `pi` of version 2"]
        );

        let backing_off = JobOnBoard {
            n_backing_off: 2,
            ..running()
        };
        let account = account_of(&board(vec![worker(0, "idle", 300)], backing_off), None, &[]);
        assert!(
            account.waits_for[0].starts_with("2 tasks that failed"),
            "{account:?}"
        );
        assert_eq!(account.next.unwrap(), "tilework watch abcdef012345");
    }

    #[test]
    fn a_job_that_is_computed_waits_for_no_worker() {
        let computed = JobOnBoard {
            tasks_committed: 10,
            ..running()
        };
        let account = account_of(&board(Vec::new(), computed), None, &[]);
        assert_eq!(account.waits_for, Vec::<String>::new());
        assert!(account.then.starts_with("the driver reads"), "{account:?}");
        let hangs = JobOnBoard {
            tasks_committed: 10,
            waits_for: Some("its own code".to_owned()),
            ..running()
        };
        let account = account_of(&board(Vec::new(), hangs), None, &[]);
        assert_eq!(account.waits_for, ["its own code"]);
    }

    #[test]
    fn workers_hold_what_they_took_and_have_not_ended() {
        let event = |what: &str, worker, task| JobEvent {
            what: what.to_owned(),
            worker: Some(worker),
            task: Some(task),
            ..JobEvent::default()
        };
        let events = [
            event("took", 0, 4),
            event("started", 0, 4),
            event("took", 0, 5),
            event("committed", 0, 4),
            event("started", 1, 6),
        ];
        let job = JobOnBoard {
            by_worker: [(0, 3), (2, 1)].into(),
            ..running()
        };
        let workers = vec![worker(0, "working", 300), worker(1, "lost", 300)];
        let account = account_of(&board(workers, job), None, &events);
        let told: Vec<_> = account
            .workers
            .iter()
            .map(|on_job| {
                (
                    on_job.worker,
                    on_job.state.as_str(),
                    on_job.tasks,
                    on_job.holds.clone(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (0, "working", 3, vec![5]),
                (1, "lost", 0, vec![]),
                (2, "gone", 1, vec![])
            ]
        );
    }

    #[test]
    fn an_ended_job_says_how_to_go_on() {
        let ended = |state: &str, error: Option<&str>| JobOnBoard {
            kind: "multiply".to_owned(),
            state: state.to_owned(),
            ended_unix_ms: Some(1),
            error: error.map(str::to_owned),
            ..JobOnBoard::default()
        };
        let failed = account_of(&board(Vec::new(), ended("failed", Some("disk full"))), None, &[]);
        assert!(failed.why.contains(&"disk full".to_owned()), "{failed:?}");
        assert_eq!(failed.next.as_deref(), Some("tilework resume data:/C.npy"));
        let done = account_of(&board(Vec::new(), ended("done", None)), None, &[]);
        assert_eq!(done.next.as_deref(), Some("tilework verify data:/C.npy"));
        let own = JobOnBoard {
            kind: "pi".to_owned(),
            ..ended("done", None)
        };
        assert_eq!(account_of(&board(Vec::new(), own), None, &[]).next, None);
    }
}
