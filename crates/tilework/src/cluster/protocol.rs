//! Requests to the driver and its answers: JSON, with the release of whoever asks, for a cluster is of one release.

use super::TILEWORK;
use super::board::JobOnBoard;
use super::record::unix_ms;
use crate::failure::{CliError, Exit};
use crate::job::kinds::{Kinds, NAME_BYTES_MAX};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use tilework_core::driver::Assign;
use tilework_linalg::{Algorithm, AlgorithmChoice};
use tilework_nats::streams::job_token;
use tilework_store::element_type::Dtype;
use tilework_store::journal::recover::job_id;
use tilework_store::lock::Owner;

/// Where workers ask for their number.
pub const JOIN: &str = "tw.join";
/// Where clients ask for a job.
pub const SUBMIT: &str = "tw.request.submit";
/// Where clients ask what a product would take.
pub const PLAN: &str = "tw.request.plan";
/// Where clients ask for a job's end.
pub const CANCEL: &str = "tw.request.cancel";
/// Where clients ask who drives.
pub const PING: &str = "tw.request.ping";

/// How long who asks waits for the answer: a driver that reads a large journal back takes a while.
pub const REQUEST_WAIT: Duration = Duration::from_secs(60);
/// Bytes of a request, at most.
const BYTES_MAX: usize = 64 * 1024;
/// Bytes of the name of a worker's host, at most: what the name system allows.
const HOST_BYTES_MAX: usize = 255;
/// Bytes of the name of a release, at most.
const RELEASE_BYTES_MAX: usize = 64;
/// Bytes of a data root's name, at most, as on the command line.
const ROOT_NAME_BYTES_MAX: usize = 32;
/// Data roots of one worker, at most.
const ROOTS_MAX: usize = 32;
/// Jobs that one program knows, at most.
const KINDS_MAX: usize = 32;

/// Something asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask<B> {
    tilework: String,
    body: B,
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer<B> {
    Ok(B),
    Refused(Refusal),
}

/// Why something is refused, for the one who asked to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The exit code that the command ends with.
    pub exit_code: u8,
    /// What happened.
    pub error: String,
    /// What to do next.
    pub next: Option<String>,
    /// Further members of the JSON object.
    #[serde(default)]
    pub facts: Map<String, Value>,
}

impl From<CliError> for Refusal {
    fn from(error: CliError) -> Refusal {
        Refusal {
            exit_code: error.exit.code(),
            error: error.message,
            next: error.next,
            facts: error.facts,
        }
    }
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> CliError {
        CliError {
            exit: Exit::of_code(refusal.exit_code),
            message: refusal.error,
            next: refusal.next,
            facts: refusal.facts,
        }
    }
}

/// It is only asked who drives: by clients, and by workers where they join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ping {
    /// Always true: what tells it from somebody who wants to join.
    pub is_ping: bool,
}

impl Ping {
    /// The question.
    pub const ASKED: Ping = Ping { is_ping: true };
}

/// Who drives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    /// Its release.
    pub tilework: String,
    /// Its host.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// Its clock, in milliseconds since 1970.
    pub unix_ms: u64,
}

impl Pong {
    /// This process drives.
    pub fn now() -> Pong {
        let owner = Owner::current();
        Pong {
            tilework: TILEWORK.to_owned(),
            host: owner.host,
            pid: owner.pid,
            unix_ms: unix_ms(),
        }
    }
}

/// A worker introduces itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Its release.
    #[serde(default)]
    pub tilework: String,
    /// Its host's name.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// Threads that compute.
    pub threads: u32,
    /// Memory of the process.
    pub memory_bytes: u64,
    /// Names of its data roots.
    pub data_roots: Vec<String>,
    /// When it began, in milliseconds since 1970: no other process of that host is taken for it.
    pub started_unix_ms: u64,
    /// The number that it has already: a cluster may have lost its records.
    pub worker: Option<u32>,
    /// Jobs of its program's own.
    #[serde(default)]
    pub kinds: Vec<KnownKind>,
}

/// A job that a program has the code for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownKind {
    /// Its name.
    pub name: String,
    /// Version of the code.
    pub version: u32,
}

impl KnownKind {
    /// All of a program's own.
    pub fn all(kinds: &Kinds) -> Vec<KnownKind> {
        let known = kinds.iter().map(|kind| KnownKind {
            name: kind.name().to_owned(),
            version: kind.version(),
        });
        known.collect()
    }
}

impl Join {
    /// Refuses, by name, what no worker says of itself: it would be kept, and shown to all who look.
    pub fn check(&self) -> Result<(), CliError> {
        let too_long = |what: &str, has: usize, max: usize, unit: &str| {
            Err(CliError::usage(format!(
                "a worker with {what} of {has} {unit}: at most {max} are kept"
            )))
        };
        let texts = [
            ("a host name", &self.host, HOST_BYTES_MAX),
            ("a release", &self.tilework, RELEASE_BYTES_MAX),
        ];
        let roots = self.data_roots.iter();
        let roots = roots.map(|root| ("the name of a data root", root, ROOT_NAME_BYTES_MAX));
        let kinds = self.kinds.iter();
        let kinds = kinds.map(|kind| ("the name of a job", &kind.name, NAME_BYTES_MAX));
        for (what, text, max) in texts.into_iter().chain(roots).chain(kinds) {
            if text.len() > max {
                return too_long(what, text.len(), max, "bytes");
            }
            if text.chars().any(char::is_control) {
                return Err(CliError::usage(format!(
                    "a worker with {what} that has control characters: {text:?}"
                )));
            }
        }
        if self.data_roots.len() > ROOTS_MAX {
            return too_long("a list", self.data_roots.len(), ROOTS_MAX, "data roots");
        }
        if self.kinds.len() > KINDS_MAX {
            return too_long("a list", self.kinds.len(), KINDS_MAX, "jobs");
        }
        Ok(())
    }
}

/// The driver welcomes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The worker's number, which nobody else has.
    pub worker: u32,
}

/// Something to be computed. Paths are `NAME:/relative/path`, or absolute ones of a machine that the driver shares them with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// Tells this asking from all others: what is asked again, because no answer came, has the same one.
    #[serde(default)]
    pub token: String,
    /// What.
    pub wanted: Wanted,
    /// Where the result goes; only for a plan there may be none.
    pub output: Option<String>,
    /// How tasks find their workers.
    pub assign: AssignName,
    /// Memory that a task may need, at most; else that of the smallest worker.
    pub memory_bytes: Option<u64>,
    /// A finished output may be replaced.
    pub overwrite: bool,
    /// An unfinished output is discarded.
    pub restart: bool,
    /// How long the job may take from now on. No time of day, which may be another one where the job is driven.
    pub time_limit_ms: Option<u64>,
}

impl Submit {
    /// A token that nobody else has.
    pub fn new_token() -> String {
        let name = format!("{:?} {}", Owner::current(), unix_ms());
        job_token(job_id(name.as_bytes()))
    }
}

/// What is to be computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// A product.
    Product(ProductWanted),
    /// A job of the program's own.
    Job(JobWanted),
    /// What the journal beside the output says.
    Unfinished,
}

/// A job of a program's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobWanted {
    /// Its name.
    pub kind: String,
    /// Version of its code, as whoever asks knows it.
    pub version: u32,
    /// Its spec.
    pub spec: Value,
}

/// A product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductWanted {
    /// A.
    pub a: String,
    /// B.
    pub b: String,
    /// Use A's transpose.
    pub transpose_a: bool,
    /// Use B's transpose.
    pub transpose_b: bool,
    /// B is A.
    pub symmetric: bool,
    /// Compute in this type.
    pub dtype: Option<Dtype>,
    /// Factor of the product.
    pub alpha: f64,
    /// What is added, and its factor.
    pub add: Option<(String, f64)>,
    /// How tiles may be computed: `classical`, `strassen` or `auto`.
    pub algorithm: String,
}

/// How tasks find their workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssignName {
    /// By load.
    Dynamic,
    /// Task i to worker i mod n.
    RoundRobin,
}

impl AssignName {
    /// As core knows it, with so many workers.
    pub fn with(self, n_workers: u32) -> Assign {
        match self {
            AssignName::Dynamic => Assign::Dynamic,
            AssignName::RoundRobin => Assign::RoundRobin { n_workers },
        }
    }
}

/// The name of an algorithm choice.
pub fn algorithm_name(choice: AlgorithmChoice) -> &'static str {
    match choice {
        AlgorithmChoice::Only(Algorithm::Classical) => "classical",
        AlgorithmChoice::Only(Algorithm::Strassen) => "strassen",
        AlgorithmChoice::Auto => "auto",
    }
}

/// The choice of that name.
pub fn algorithm_of(name: &str) -> Option<AlgorithmChoice> {
    [
        AlgorithmChoice::Only(Algorithm::Classical),
        AlgorithmChoice::Only(Algorithm::Strassen),
        AlgorithmChoice::Auto,
    ]
    .into_iter()
    .find(|choice| algorithm_name(*choice) == name)
}

/// A job is being computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// The job's id.
    pub job: String,
    /// The run of it.
    pub run: u32,
    /// Its output, as it is called in the cluster.
    pub output: String,
    /// Tasks in all, or of the first round.
    pub tasks: u64,
    /// Tasks kept from earlier runs.
    pub tasks_resumed: u64,
    /// Whether somebody had submitted it already.
    pub was_running: bool,
    /// The plan in words, and what is worth knowing.
    pub notes: Vec<String>,
}

impl Submitted {
    /// A job that is going on already, or was.
    pub fn running(job: &JobOnBoard) -> Submitted {
        Submitted {
            job: job.id.clone(),
            run: job.run,
            output: job.output.clone(),
            tasks: job.tasks,
            tasks_resumed: job.tasks_committed,
            was_running: true,
            notes: Vec::new(),
        }
    }
}

/// What a product would take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// As JSON.
    pub json: Value,
    /// In words.
    pub text: String,
}

/// A job is no longer wanted: its id, the beginning of it, or its output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cancel {
    /// Which.
    pub job: String,
}

/// Nothing but the answer matters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Empty {}

/// Writes a request.
pub fn ask<B: Serialize>(body: B) -> Vec<u8> {
    let tilework = TILEWORK.to_owned();
    serde_json::to_vec(&Ask { tilework, body }).expect("plain data becomes JSON")
}

/// Reads a request; one of another release is refused by name.
pub fn read_ask<B: DeserializeOwned>(bytes: &[u8]) -> Result<B, CliError> {
    #[derive(Deserialize)]
    struct Release {
        tilework: String,
    }
    let malformed =
        |error: serde_json::Error| CliError::usage(format!("the driver can't read the request: {error}"));
    if bytes.len() > BYTES_MAX {
        return Err(CliError::usage(format!(
            "a request of {} bytes: at most {BYTES_MAX} are read",
            bytes.len()
        ))
        .with_next("put what is large of a spec into a file, and name that"));
    }
    let theirs: Release = serde_json::from_slice(bytes).map_err(malformed)?;
    if theirs.tilework != TILEWORK {
        let message = format!(
            "this is tilework {}, and the cluster's driver is tilework {TILEWORK}",
            theirs.tilework
        );
        return Err(CliError::usage(message).with_next(
            "use the same release on all machines: stop the cluster and start it with the new one",
        ));
    }
    let ask: Ask<B> = serde_json::from_slice(bytes).map_err(malformed)?;
    Ok(ask.body)
}

/// Writes an answer.
pub fn answer<B: Serialize>(outcome: Result<B, CliError>) -> Vec<u8> {
    let answer = match outcome {
        Ok(body) => Answer::Ok(body),
        Err(error) => Answer::Refused(error.into()),
    };
    serde_json::to_vec(&answer).expect("plain data becomes JSON")
}

/// Reads an answer.
pub fn read_answer<B: DeserializeOwned>(bytes: &[u8]) -> Result<B, CliError> {
    match serde_json::from_slice(bytes) {
        Ok(Answer::Ok(body)) => Ok(body),
        Ok(Answer::Refused(refusal)) => Err(refusal.into()),
        Err(error) => Err(CliError::new(
            Exit::Unreachable,
            format!("the driver's answer can't be read: {error}"),
        )
        .with_next("see whether all machines have the same release: tilework doctor")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_refusals_arrive_as_they_were_sent() {
        let welcome = Welcome { worker: 3 };
        assert_eq!(read_answer::<Welcome>(&answer(Ok(welcome.clone()))), Ok(welcome));
        let refusal = CliError::new(Exit::Resources, "too little").with_next("more");
        let sent = answer::<Welcome>(Err(refusal.clone()));
        assert_eq!(read_answer::<Welcome>(&sent), Err(refusal));
        assert_eq!(
            read_answer::<Welcome>(b"{}").map_err(|error| error.exit),
            Err(Exit::Unreachable)
        );
    }

    #[test]
    fn another_release_is_refused_and_both_are_named() {
        let theirs = br#"{"tilework":"0.0.1-old","body":{"other":1}}"#;
        let refused = read_ask::<Cancel>(theirs).unwrap_err();
        assert!(
            refused.message.contains("0.0.1-old") && refused.message.contains(TILEWORK),
            "{refused:?}"
        );
        let cancel = Cancel { job: "a7".into() };
        assert_eq!(read_ask::<Cancel>(&ask(cancel.clone())), Ok(cancel));
        assert!(read_ask::<Cancel>(&vec![b' '; BYTES_MAX + 1]).is_err());
    }

    fn join() -> Join {
        Join {
            tilework: TILEWORK.to_owned(),
            host: "h".to_owned(),
            pid: u32::MAX,
            threads: u32::MAX,
            memory_bytes: u64::MAX,
            data_roots: vec!["data".to_owned()],
            started_unix_ms: u64::MAX,
            worker: Some(u32::MAX),
            kinds: Vec::new(),
        }
    }

    fn kind(name: &str) -> KnownKind {
        KnownKind {
            name: name.to_owned(),
            version: u32::MAX,
        }
    }

    #[test]
    fn the_longest_worker_that_is_admitted_fits_its_record() {
        let longest = Join {
            tilework: "\"".repeat(RELEASE_BYTES_MAX),
            host: "\"".repeat(HOST_BYTES_MAX),
            data_roots: vec!["\"".repeat(ROOT_NAME_BYTES_MAX); ROOTS_MAX],
            kinds: vec![kind(&"\"".repeat(NAME_BYTES_MAX)); KINDS_MAX],
            ..join()
        };
        assert_eq!(longest.check(), Ok(()));
        let bytes = serde_json::to_vec(&longest).expect("it becomes JSON").len();
        assert!(bytes <= tilework_nats::limits::MEMBER_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn what_no_worker_says_of_itself_is_refused_by_name() {
        assert_eq!(join().check(), Ok(()));
        let root = |name: &str, n: usize| Join {
            data_roots: vec![name.to_owned(); n],
            ..join()
        };
        let refused = [
            (
                Join {
                    host: "h".repeat(HOST_BYTES_MAX + 1),
                    ..join()
                },
                "a host name of 256 bytes",
            ),
            (
                Join {
                    host: "h\u{1b}[2J".into(),
                    ..join()
                },
                "control characters",
            ),
            (
                Join {
                    tilework: "1".repeat(65),
                    ..join()
                },
                "a release of 65 bytes",
            ),
            (root(&"d".repeat(33), 1), "a data root of 33 bytes"),
            (root("d", ROOTS_MAX + 1), "33 data roots"),
            (
                Join {
                    kinds: vec![kind("k"); KINDS_MAX + 1],
                    ..join()
                },
                "33 jobs",
            ),
        ];
        for (join, words) in refused {
            let message = join.check().expect_err(words).message;
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn every_algorithm_has_a_name_of_its_own() {
        for name in ["classical", "strassen", "auto"] {
            assert_eq!(algorithm_of(name).map(algorithm_name), Some(name));
        }
        assert_eq!(algorithm_of("fast"), None);
    }
}
