//! Which tasks run, for whoever comes after a process that ended without a word: killed, or ended by one of its own tasks.
//!
//! One slot for each worker in a file beside the journal, overwritten when an attempt begins and never synced: what a process has written
//! outlives the process, and nothing is decided by it. The run takes the file away when it ends in any other way.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tilework_core::ids::{Attempt, RoundIdx, TaskIdx, WorkerIdx};
use tilework_store::disk::{Disk, DiskFile, DiskFileExt, remove_if_there};
use tilework_store::journal::JobFiles;

const MAGIC: [u8; 4] = *b"TWU1";
/// Magic, round, task, epoch, how often before, CRC32C of all that.
const SLOT_BYTES: usize = 28;
/// Slots that are read: more workers than any process has.
const SLOTS_MAX: u64 = 4_096;

/// How often in a row a process ended without a word while this task ran.
pub(crate) type SilentEnds = BTreeMap<TaskIdx, u32>;

/// The file of a run.
#[derive(Debug)]
pub(crate) struct UnderWay {
    file: Arc<dyn DiskFile>,
    before: SilentEnds,
}

impl UnderWay {
    /// Makes the file of a run that begins; `before` is what the last one left.
    pub(crate) fn begin(
        disk: &dyn Disk,
        files: &JobFiles,
        n_workers: u32,
        before: SilentEnds,
    ) -> io::Result<UnderWay> {
        let path = files.under_way();
        remove_if_there(disk, &path)?;
        let file = disk.create_new(&path)?;
        // All of its room now, so that later writes change no more than these bytes.
        file.write_all_at(&vec![0; n_workers as usize * SLOT_BYTES], 0)?;
        Ok(UnderWay { file, before })
    }

    /// An attempt begins. That it can't be noted is no reason not to run it.
    pub(crate) fn note(&self, worker: WorkerIdx, attempt: Attempt) {
        let n_before = self.before.get(&attempt.task).copied().unwrap_or(0);
        let offset = u64::from(worker.0) * SLOT_BYTES as u64;
        let _ = self.file.write_all_at(&slot(attempt, n_before), offset);
    }

    /// The run has said how it ends.
    pub(crate) fn end(disk: &dyn Disk, files: &JobFiles) {
        let _ = remove_if_there(disk, &files.under_way());
    }

    /// What ran when the last run of the job ended without a word, but for what `is_committed`; nothing if it said how it ended.
    pub(crate) fn left(
        disk: &dyn Disk,
        files: &JobFiles,
        round: RoundIdx,
        is_committed: impl Fn(TaskIdx) -> bool,
    ) -> SilentEnds {
        let bytes = read(disk, files).unwrap_or_default();
        let slots = bytes.chunks_exact(SLOT_BYTES).filter_map(parse);
        let of_round = slots.filter(|(of, ..)| *of == round);
        let left = of_round.filter(|(_, task, _)| !is_committed(*task));
        left.map(|(_, task, n_before)| (task, n_before.saturating_add(1)))
            .collect()
    }
}

fn read(disk: &dyn Disk, files: &JobFiles) -> io::Result<Vec<u8>> {
    let path = files.under_way();
    let Some(stat) = disk.stat(&path)? else {
        return Ok(Vec::new());
    };
    let len = stat.len.min(SLOTS_MAX * SLOT_BYTES as u64);
    let mut bytes = vec![0; len as usize];
    disk.open_read(&path)?.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn slot(attempt: Attempt, n_before: u32) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(&MAGIC);
    slot[4..8].copy_from_slice(&attempt.round.0.to_le_bytes());
    slot[8..16].copy_from_slice(&attempt.task.0.to_le_bytes());
    slot[16..20].copy_from_slice(&attempt.epoch.0.to_le_bytes());
    slot[20..24].copy_from_slice(&n_before.to_le_bytes());
    let crc = crc32c::crc32c(&slot[..24]);
    slot[24..].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn parse(slot: &[u8]) -> Option<(RoundIdx, TaskIdx, u32)> {
    let number = |at: usize| Some(u32::from_le_bytes(slot.get(at..at + 4)?.try_into().ok()?));
    if !slot.starts_with(&MAGIC) || number(24)? != crc32c::crc32c(slot.get(..24)?) {
        return None;
    }
    let task = u64::from_le_bytes(slot.get(8..16)?.try_into().ok()?);
    Some((RoundIdx(number(4)?), TaskIdx(task), number(20)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tilework_core::ids::{AttemptNo, RunEpoch};
    use tilework_store::fake_disk::FakeDisk;

    fn attempt(round: u32, task: u64) -> Attempt {
        Attempt {
            epoch: RunEpoch(1),
            round: RoundIdx(round),
            task: TaskIdx(task),
            attempt: AttemptNo(0),
        }
    }

    #[test]
    fn what_ran_last_on_each_worker_is_found_and_counted() {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/data/out"));
        disk.install("/data/other", b"");
        disk.create_dir(&files.folder()).unwrap();
        let left = |round| UnderWay::left(&disk, &files, RoundIdx(round), |task| task == TaskIdx(4));
        assert!(left(1).is_empty(), "there is no file");
        let mut before = SilentEnds::new();
        for n_times in 1..4 {
            let run = UnderWay::begin(&disk, &files, 4, before).unwrap();
            run.note(WorkerIdx(0), attempt(0, 1));
            run.note(WorkerIdx(0), attempt(1, 2));
            run.note(WorkerIdx(1), attempt(1, 4));
            run.note(WorkerIdx(3), attempt(0, 5));
            before = left(1);
            assert_eq!(before, SilentEnds::from([(TaskIdx(2), n_times)]));
        }
        // A slot that is no slot is left out.
        let file = disk.open_write(&files.under_way()).unwrap();
        file.write_all_at(&[7], 9).unwrap();
        assert!(left(1).is_empty());
        UnderWay::end(&disk, &files);
        assert!(left(0).is_empty());
    }
}
