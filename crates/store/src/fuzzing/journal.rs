//! The journal under hostile bytes: what is no record costs itself and nothing else.

use crate::fake_disk::FakeDisk;
use crate::journal::recover::job_id;
use crate::journal::task_files::list_task_files;
use crate::journal::{
    Compacted, JobFiles, Recovered, SegmentWriter, TaskFileName, compact, frame, latest_run, make_durable,
    recover, run_of_segment,
};
use std::path::{Path, PathBuf};
use tilework_core::ids::{Attempt, AttemptNo, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::record::{Record, RunStart};

const JOB: &[u8] = b"{}";

/// A kind and a payload: what is read is written as the same bytes.
pub(super) fn record(input: &[u8]) {
    let Some((kind, payload)) = input.split_first() else {
        return;
    };
    if let Ok(record) = Record::decode(*kind, payload) {
        assert_eq!(record.kind(), *kind);
        assert_eq!(record.encode(), payload);
    }
}

/// Any bytes as a segment: every byte is a record's or damaged, and the records alone read as the same.
pub(super) fn frames(input: &[u8]) {
    let found = frame::scan(input);
    let mut rewritten = Vec::new();
    for record in &found.records {
        frame::append(record, &mut rewritten);
    }
    assert_eq!(rewritten.len() as u64 + found.n_damaged_bytes, input.len() as u64);
    let again = frame::scan(&rewritten);
    assert_eq!(again.n_damaged_bytes, 0);
    // NaNs equal nothing, but are the same bytes.
    let bytes = |records: &[Record]| records.iter().map(Record::encode).collect::<Vec<_>>();
    assert_eq!(bytes(&again.records), bytes(&found.records));
}

/// A whole folder, told by a script: it is read without a panic, the job goes on, and ends, with what was committed.
pub(super) fn folder(input: &[u8]) {
    let disk = FakeDisk::new(1);
    let files = JobFiles::beside(Path::new("/c.npy"));
    disk.install(files.folder().join("lock"), b"");
    let is_one_job = install(&disk, &files, &mut Script(input));
    let latest = latest_run(&disk, &files).expect("the disk has no faults");
    make_durable(&disk, &files).expect("the disk has no faults");
    list_task_files(&disk, &files).expect("the disk has no faults");
    let Some((recovered, highest)) = recover(&disk, &files).expect("the disk has no faults") else {
        assert!(latest.is_none());
        return;
    };
    assert!(latest >= Some(highest));
    let begun = recovered.current_round();
    assert!(recovered.round.is_none() || recovered.commits.keys().all(|(round, _)| *round >= begun));
    for ((round, task), commit) in &recovered.commits {
        assert_eq!((commit.attempt.round, commit.attempt.task), (*round, *task));
    }
    let next = recovered.next_epoch(highest);
    let job_text = recovered.job_text.clone().unwrap_or(JOB.to_vec());
    let run = RunStart {
        job: job_id(&job_text),
        epoch: next,
        started_unix_ms: 0,
        pid: 1,
    };
    let Ok(_) = SegmentWriter::create(&disk, &files, &job_text, &run) else {
        // There are no more numbers.
        assert_eq!(next, RunEpoch(u32::MAX));
        return;
    };
    let of_segment = run_of_segment(&disk, &files, next).expect("the disk has no faults");
    assert_eq!(of_segment.as_ref(), Some(&run));
    // Where no description can be read, all is discarded before a run begins.
    if is_one_job && recovered.job_text.is_some() {
        goes_on(&disk, &files, &recovered, next);
    }
}

/// What was committed before a run is committed in it, and when its journal is one file.
fn goes_on(disk: &FakeDisk, files: &JobFiles, before: &Recovered, run: RunEpoch) {
    let again = |what: &str| recover(disk, files).expect(what).expect("there is a journal").0;
    let recovered = again("the disk has no faults");
    let commits = |recovered: &Recovered| {
        let records = recovered.commits.values().cloned().map(Record::Commit);
        records.map(|record| record.encode()).collect::<Vec<_>>()
    };
    assert_eq!(commits(&recovered), commits(before));
    assert_eq!(recovered.round, before.round);
    assert_eq!(recovered.report, before.report);
    assert!(recovered.runs.iter().any(|known| known.epoch == run));
    match compact(disk, files, &recovered, run, &|| true).expect("the disk has no faults") {
        Compacted::NotOurs => assert!(latest_run(disk, files).expect("the disk has no faults") > Some(run)),
        Compacted::Done => {
            let finished = again("the disk has no faults");
            assert_eq!(commits(&finished), commits(before));
            assert_eq!(finished.report, before.report);
            assert_eq!(finished.runs.len(), recovered.runs.len());
        }
    }
}

/// Installs files as the script says; whether all that has a job at all is of one.
fn install(disk: &FakeDisk, files: &JobFiles, script: &mut Script<'_>) -> bool {
    let mut is_one_job = true;
    while let Some(kind) = script.u8() {
        let path = path(files, kind, script);
        let mut bytes = Vec::new();
        while let Some(part) = script.u8() {
            is_one_job &= append(part, script, &mut bytes);
            if part % 8 == 0 {
                break;
            }
        }
        disk.install(path, &bytes);
    }
    is_one_job
}

fn path(files: &JobFiles, kind: u8, script: &mut Script<'_>) -> PathBuf {
    let number = |script: &mut Script<'_>| match script.u8().unwrap_or(0) {
        255 => u32::MAX,
        small => u32::from(small),
    };
    let epoch = RunEpoch(number(script));
    match kind % 7 {
        0 => files.segment(epoch),
        1 => files.worker_segment(epoch, WorkerIdx(number(script)), number(script)),
        2 => files.round(RoundIdx(epoch.0)),
        3 => files.compacted(),
        4 => files.compacting(epoch),
        5 => files.task_file(&TaskFileName {
            attempt: Attempt {
                epoch,
                round: RoundIdx(number(script)),
                task: TaskIdx(number(script).into()),
                attempt: AttemptNo(0),
            },
            nth: 0,
        }),
        _ => {
            let name = String::from_utf8_lossy(script.bytes()).replace(['/', '\0', '.'], "");
            files.folder().join(format!("{name}.segment"))
        }
    }
}

/// Appends a part of a file; whether it can only be of the one job.
fn append(part: u8, script: &mut Script<'_>, bytes: &mut Vec<u8>) -> bool {
    match part % 8 {
        0 => true,
        1 => {
            let raw = script.bytes();
            bytes.extend_from_slice(raw);
            !raw.contains(&frame::MAGIC[0])
        }
        2 => {
            frame::append(&Record::Job(JOB.to_vec()), bytes);
            true
        }
        3 => {
            let run = RunStart {
                job: job_id(JOB),
                epoch: RunEpoch(script.u8().unwrap_or(0).into()),
                started_unix_ms: 0,
                pid: 0,
            };
            frame::append(&Record::Run(run), bytes);
            true
        }
        4 => {
            // A cut, as a crash makes it.
            bytes.truncate(bytes.len().saturating_sub(script.u8().unwrap_or(0).into()));
            true
        }
        _ => {
            let (kind, payload) = (script.u8().unwrap_or(0), script.bytes());
            frame::append_payload(kind, payload, bytes);
            // Records within one of a kind that nobody knows are found.
            !matches!(kind, 1 | 2) && !payload.contains(&frame::MAGIC[0])
        }
    }
}

/// Bytes that say what to do; where they end, the rest is nothing.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Bytes after their number.
    fn bytes(&mut self) -> &'a [u8] {
        let len = self.u8().map_or(0, usize::from).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}
