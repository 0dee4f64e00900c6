//! What a fault cost, as the events and the journal tell: a row of docs/failure-matrix.md. `cargo xtask failure-matrix` reads the lines that are
//! printed here.

use crate::harness::{Cluster, Job, begun, of_kind, recovered};
use serde_json::json;
use std::time::Duration;

/// What one fault cost. Times count from the fault; where something has to be started again, recovery counts from when it was.
pub(crate) struct Cost {
    row: &'static str,
    fault_ms: u64,
    noticed_ms: Option<u64>,
    recovered_ms: Option<u64>,
}

impl Cost {
    /// Of the fault of a row, when that came.
    pub(crate) fn of(row: &'static str, fault_ms: u64) -> Cost {
        Cost {
            row,
            fault_ms,
            noticed_ms: None,
            recovered_ms: None,
        }
    }

    /// When somebody noticed.
    pub(crate) fn noticed(mut self, unix_ms: u64) -> Cost {
        assert!(
            unix_ms >= self.fault_ms,
            "{}: noticed before it happened",
            self.row
        );
        self.noticed_ms = Some(unix_ms - self.fault_ms);
        self
    }

    /// When all went on as before; fails if that took too long.
    pub(crate) fn recovered(self, unix_ms: u64, allowed: Duration) -> Cost {
        let from = self.fault_ms;
        self.recovered_after(from, unix_ms, allowed)
    }

    /// The same, counted from when somebody did what recovery needs.
    pub(crate) fn recovered_after(mut self, from_ms: u64, unix_ms: u64, allowed: Duration) -> Cost {
        recovered(self.row, from_ms, unix_ms, allowed);
        self.recovered_ms = Some(unix_ms.saturating_sub(from_ms));
        self
    }

    /// Tells it, with what was begun when the fault came and counts nowhere: once the job has ended, and before its journal goes.
    pub(crate) fn tell(self, cluster: &Cluster, job: &mut Job) {
        let winners = cluster.winners(&job.output);
        let events = job.events();
        let n_before = events.partition_point(|event| event.unix_ms <= self.fault_ms);
        let lost: Vec<u64> = begun(&events[..n_before])
            .into_iter()
            .filter(|begun| winners.get(&begun.task) != Some(&(begun.run, begun.worker, begun.attempt)))
            .map(|begun| self.fault_ms - begun.unix_ms)
            .collect();
        self.tell_lost(&lost);
    }

    /// The same where it is known what was lost: how long each attempt had taken, in milliseconds.
    pub(crate) fn tell_lost(self, attempts_ms: &[u64]) {
        let told = json!({
            "row": self.row,
            "noticed_ms": self.noticed_ms,
            "recovered_ms": self.recovered_ms,
            "attempts_lost": attempts_ms.len(),
            "work_lost_ms": attempts_ms.iter().sum::<u64>(),
        });
        println!("measured {told}");
    }
}

impl Job {
    /// When the driver raised an alarm of this kind after the fault.
    pub(crate) fn alarmed(&mut self, kind: &str, after_ms: u64) -> u64 {
        self.wait_for(&format!("the alarm `{kind}`"), |events| {
            let mut alarms = of_kind(events, "alarm").filter(|event| event.unix_ms >= after_ms);
            let found = alarms.find(|event| event.alarm.as_ref().is_some_and(|alarm| alarm.kind == kind));
            found.map(|event| event.unix_ms)
        })
    }
}
