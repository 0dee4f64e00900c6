//! What anyone of the cluster may see of it: the driver, the workers, the jobs. The driver writes it, about once a second.

use super::clients::Client;
use super::protocol::KnownKind;
use crate::failure::CliError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tilework_nats::JoinFile;

/// The key under which it is kept.
pub const KEY: &str = "board";
/// Where each new one can be heard.
pub const HEARD_AT: &str = "tw.kv.workers.board";

/// The cluster as its driver sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// Release of the driver.
    pub tilework: String,
    /// When it was written, in milliseconds since 1970 by the driver's clock.
    pub unix_ms: u64,
    /// Counts what was written, so that a watcher sees whether a driver is at work whatever the clocks say.
    pub n_written: u64,
    /// Who drives.
    pub driver: Option<DriverOnBoard>,
    /// The workers that are there, and those that were lost lately.
    pub workers: Vec<WorkerOnBoard>,
    /// Jobs, the latest first.
    pub jobs: Vec<JobOnBoard>,
}

/// A driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverOnBoard {
    /// Its name as a client of NATS.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// Since when it drives, in milliseconds since 1970 by its clock: the same process may lose the lease and win it again.
    #[serde(default)]
    pub drives_since_unix_ms: u64,
    /// Its data roots: name and directory.
    pub data_roots: BTreeMap<String, String>,
}

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerOnBoard {
    /// Its number.
    pub id: u32,
    /// Its release.
    #[serde(default)]
    pub tilework: String,
    /// Its host.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// Threads that compute.
    pub threads: u32,
    /// Memory of the process.
    pub memory_bytes: u64,
    /// `idle`, `working`, `lost` or `draining`.
    pub state: String,
    /// Tasks that it committed.
    pub tasks_done: u64,
    /// Names of its data roots.
    #[serde(default)]
    pub data_roots: Vec<String>,
    /// Jobs of its program's own.
    #[serde(default)]
    pub kinds: Vec<KnownKind>,
}

/// A job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobOnBoard {
    /// Its id.
    pub id: String,
    /// What it computes: `multiply`, `gram`, or a job of a program's own.
    pub kind: String,
    /// Its output, as it is called in the cluster.
    pub output: String,
    /// `running`, `done`, `failed`, `cancelled` or `stopped`.
    pub state: String,
    /// What it waits for, if it stands still.
    pub waits_for: Option<String>,
    /// Memory that a worker must have for its tasks; 0 where that is not known any more.
    #[serde(default)]
    pub needs_bytes: u64,
    /// What workers must have the code for, beyond what all programs know.
    #[serde(default)]
    pub needs_code: Option<KnownKind>,
    /// Tasks that failed and wait a moment before they are tried again.
    #[serde(default)]
    pub n_backing_off: u64,
    /// The last run.
    pub run: u32,
    /// The round, from 0.
    #[serde(default)]
    pub round: u32,
    /// Tasks of the round.
    pub tasks: u64,
    /// Those of them that are committed, by all runs.
    pub tasks_committed: u64,
    /// Tasks that runs before this driver's had committed.
    pub tasks_resumed: u64,
    /// Attempts that were made again.
    pub retries: u64,
    /// Backup attempts.
    pub backups: u64,
    /// Tasks that each worker committed, as this driver heard.
    pub by_worker: BTreeMap<u32, u64>,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_unix_ms: u64,
    /// When it ended.
    pub ended_unix_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// What to do next.
    pub next: Option<String>,
}

/// The board as it is now; `None` if no driver has shown one yet.
///
/// # Errors
/// If the server can't be reached or refuses.
pub fn look(join: &JoinFile) -> Result<Option<Board>, CliError> {
    Client::joined(join)?.board()
}

impl Board {
    /// The job that a user names by its id, the beginning of it, or `NAME:/path`, its output; of several runs to one output the latest.
    /// A path without the root's name is none of these: it may as well mean a file in another directory.
    ///
    /// # Errors
    /// The ids of all that it may mean.
    pub fn find(&self, named: &str) -> Result<Option<&JobOnBoard>, Vec<String>> {
        let by_id: Vec<&JobOnBoard> = self.jobs.iter().filter(|job| job.id.starts_with(named)).collect();
        match by_id[..] {
            [job] if !named.is_empty() => Ok(Some(job)),
            [] => Ok(self.with_output(named)),
            _ if named.is_empty() => Ok(None),
            _ => Err(by_id.iter().map(|job| job.id.clone()).collect()),
        }
    }

    /// The latest job with this output, written `NAME:/path` or `NAME:path`.
    fn with_output(&self, named: &str) -> Option<&JobOnBoard> {
        let (root, path) = named.split_once(':')?;
        let path = path.trim_start_matches('/');
        let is_it = |output: &str| output.split_once(":/") == Some((root, path));
        self.jobs.iter().find(|job| is_it(&job.output))
    }

    /// The latest job whose output is at this place, as the driver's machine calls it: an absolute path without links.
    pub fn at_place(&self, place: &Path) -> Option<&JobOnBoard> {
        let roots = &self.driver.as_ref()?.data_roots;
        roots.iter().find_map(|(root, dir)| {
            let inner = place.strip_prefix(dir).ok()?;
            self.with_output(&format!("{root}:/{}", inner.to_str()?))
        })
    }

    /// An output with this path in its root, for one who may have forgotten the root's name.
    pub fn output_like(&self, named: &str) -> Option<&str> {
        let path = named.trim_start_matches("./");
        let outputs = self.jobs.iter().map(|job| job.output.as_str());
        outputs
            .into_iter()
            .find(|output| output.split_once(":/").is_some_and(|(_, inner)| inner == path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_found_by_prefix_and_by_output() {
        let job = |id: &str, output: &str| JobOnBoard {
            id: id.to_owned(),
            output: output.to_owned(),
            ..JobOnBoard::default()
        };
        let board = Board {
            jobs: vec![
                job("abcd", "data:/x/C.npy"),
                job("abff", "data:/C.npy"),
                job("0123", "data:/C.npy"),
            ],
            driver: Some(DriverOnBoard {
                data_roots: BTreeMap::from([
                    ("data".to_owned(), "/srv/m".to_owned()),
                    ("other".to_owned(), "/srv".to_owned()),
                ]),
                ..DriverOnBoard::default()
            }),
            ..Board::default()
        };
        let found = |named: &str| board.find(named).map(|job| job.map(|job| job.id.as_str()));
        assert_eq!(found("abc"), Ok(Some("abcd")));
        assert_eq!(found("data:/C.npy"), Ok(Some("abff")));
        assert_eq!(found("data:x/C.npy"), Ok(Some("abcd")));
        for elsewhere in ["x/C.npy", "C.npy", "/C.npy", "other:/C.npy", "data:/y/C.npy"] {
            assert_eq!(found(elsewhere), Ok(None), "{elsewhere}");
        }
        assert_eq!(found("ab"), Err(vec!["abcd".to_owned(), "abff".to_owned()]));
        assert_eq!(found("zz"), Ok(None));
        assert_eq!(found(""), Ok(None));
        let at = |place: &str| board.at_place(Path::new(place)).map(|job| job.id.as_str());
        assert_eq!(at("/srv/m/C.npy"), Some("abff"), "the latest");
        assert_eq!(at("/srv/m/x/C.npy"), Some("abcd"));
        for elsewhere in ["/srv/C.npy", "/home/C.npy", "C.npy", "/srv/m/y/C.npy", "/srv/m"] {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(board.output_like("./C.npy"), Some("data:/C.npy"));
        assert_eq!(board.output_like("D.npy"), None);
    }
}
