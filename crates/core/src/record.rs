//! What the journal holds: records and their byte form (little-endian; docs/journal-format.md has the map).
//!
//! A record's frame (magic, lengths, CRCs) belongs to the journal; here is only the payload.

use crate::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use alloc::vec::Vec;

/// Version of the payloads below; a reader refuses others.
pub const RECORD_VERSION: u8 = 1;

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// What the job is: a JSON text with kind, versions, spec, plan and inputs. Opens every segment.
    Job(Vec<u8>),
    /// A run begins.
    Run(RunStart),
    /// A task's output is durable.
    Commit(Commit),
    /// A round is complete: the winning attempt of every task, in task order.
    Barrier(Barrier),
    /// The outputs are durable and may take their final names: a JSON text with the report.
    Done(Vec<u8>),
    /// Another round begins.
    Round(RoundStart),
}

/// A run of the job by one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStart {
    /// Whose run it is, so that a segment whose job record is damaged can still be told apart.
    pub job: JobId,
    /// Number of the run, from 1.
    pub epoch: RunEpoch,
    /// Wall-clock start, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Process id of the run.
    pub pid: u32,
}

/// A durable commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// What was executed.
    pub attempt: Attempt,
    /// By whom.
    pub worker: WorkerIdx,
    /// Whether the output was checked, or only checksummed.
    pub checked: bool,
    /// CRC32C of the output's bytes.
    pub crc32c: u32,
    /// Largest residual seen by the check, as a share of its bound's unit (0 when unchecked).
    pub residual: f64,
    /// The bound that the residual was held against.
    pub residual_bound: f64,
    /// Seconds from the start of the attempt to the end of its check.
    pub seconds: f64,
    /// Small output of the task itself; empty when the output is in a file.
    pub output: Vec<u8>,
}

/// The end of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// The round that ended.
    pub round: RoundIdx,
    /// The run that ended it.
    pub epoch: RunEpoch,
    /// The winning attempt of every task, in task order.
    pub winners: Vec<Winner>,
}

/// The round that follows a barrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundStart {
    /// Its number, one more than that of the round that ended.
    pub round: RoundIdx,
    /// Its tasks.
    pub n_tasks: u64,
    /// What the job knows as it begins, in the job's own form: with it, no earlier round's outputs are needed any more.
    pub state: Vec<u8>,
}

/// The attempt whose commit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Winner {
    /// The run that made it.
    pub epoch: RunEpoch,
    /// Its number within that run.
    pub attempt: AttemptNo,
}

/// A payload that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The kind byte is none of ours.
    UnknownKind(u8),
    /// The payload ends early or has bytes left over.
    WrongLength,
    /// A field holds a value it can't have.
    BadField,
}

impl Record {
    /// The byte that names the record's kind in its frame.
    pub fn kind(&self) -> u8 {
        match self {
            Record::Job(_) => 1,
            Record::Run(_) => 2,
            Record::Commit(_) => 3,
            Record::Barrier(_) => 4,
            Record::Done(_) => 5,
            Record::Round(_) => 6,
        }
    }

    /// The payload's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        match self {
            Record::Job(text) | Record::Done(text) => out.bytes(text),
            Record::Run(run) => {
                out.bytes(&run.job.0);
                out.u32(run.epoch.0);
                out.u64(run.started_unix_ms);
                out.u32(run.pid);
            }
            Record::Commit(commit) => {
                out.attempt(&commit.attempt);
                out.u32(commit.worker.0);
                out.u8(commit.checked as u8);
                out.u32(commit.crc32c);
                out.f64(commit.residual);
                out.f64(commit.residual_bound);
                out.f64(commit.seconds);
                out.bytes(&commit.output);
            }
            Record::Barrier(barrier) => {
                out.u32(barrier.round.0);
                out.u32(barrier.epoch.0);
                for winner in &barrier.winners {
                    out.u32(winner.epoch.0);
                    out.u8(winner.attempt.0);
                }
            }
            Record::Round(start) => {
                out.u32(start.round.0);
                out.u64(start.n_tasks);
                out.bytes(&start.state);
            }
        }
        out.0
    }

    /// Reads a payload of the given kind.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Record, DecodeError> {
        let mut input = Reader(payload);
        let record = match kind {
            1 => Record::Job(input.rest()),
            2 => Record::Run(RunStart {
                job: JobId(input.take()?),
                epoch: RunEpoch(input.u32()?),
                started_unix_ms: input.u64()?,
                pid: input.u32()?,
            }),
            3 => Record::Commit(Commit {
                attempt: input.attempt()?,
                worker: WorkerIdx(input.u32()?),
                checked: input.bool()?,
                crc32c: input.u32()?,
                residual: input.f64()?,
                residual_bound: input.f64()?,
                seconds: input.f64()?,
                output: input.rest(),
            }),
            4 => Record::Barrier(Barrier {
                round: RoundIdx(input.u32()?),
                epoch: RunEpoch(input.u32()?),
                winners: input.winners()?,
            }),
            5 => Record::Done(input.rest()),
            6 => Record::Round(RoundStart {
                round: RoundIdx(input.u32()?),
                n_tasks: input.u64()?,
                state: input.rest(),
            }),
            other => return Err(DecodeError::UnknownKind(other)),
        };
        if input.0.is_empty() {
            Ok(record)
        } else {
            Err(DecodeError::WrongLength)
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
    fn f64(&mut self, value: f64) {
        self.bytes(&value.to_le_bytes());
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn attempt(&mut self, attempt: &Attempt) {
        self.u32(attempt.epoch.0);
        self.u32(attempt.round.0);
        self.u64(attempt.task.0);
        self.u8(attempt.attempt.0);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError::WrongLength)?;
        self.0 = tail;
        Ok(*head)
    }
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take::<1>().map(|bytes| bytes[0])
    }
    fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::BadField),
        }
    }
    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }
    fn f64(&mut self) -> Result<f64, DecodeError> {
        self.take().map(f64::from_le_bytes)
    }
    fn attempt(&mut self) -> Result<Attempt, DecodeError> {
        Ok(Attempt {
            epoch: RunEpoch(self.u32()?),
            round: RoundIdx(self.u32()?),
            task: TaskIdx(self.u64()?),
            attempt: AttemptNo(self.u8()?),
        })
    }
    fn winners(&mut self) -> Result<Vec<Winner>, DecodeError> {
        let mut winners = Vec::new();
        while !self.0.is_empty() {
            winners.push(Winner {
                epoch: RunEpoch(self.u32()?),
                attempt: AttemptNo(self.u8()?),
            });
        }
        Ok(winners)
    }
    fn rest(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.0).to_vec()
    }
}
