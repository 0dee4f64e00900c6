//! Which files stand beside an output while, and after, it is computed.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use tilework_core::ids::{RoundIdx, RunEpoch, WorkerIdx};

const SEGMENT_SUFFIX: &str = ".segment";
const COMPACTED: &str = "journal";
const ROUND_PREFIX: &str = "round-";
const ALARMS: &str = "alarms.jsonl";
const UNDER_WAY: &str = "under-way";
const REPORT: &str = "report";
/// Between the name that a file will have and the run that writes it under a name of its own, so that no two runs write to one file.
const WRITTEN_BY: &str = ".new-";

/// The files of the job that produces one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFiles {
    output: PathBuf,
}

impl JobFiles {
    /// The files beside `output`.
    pub fn beside(output: &Path) -> JobFiles {
        JobFiles {
            output: output.to_path_buf(),
        }
    }

    /// The output under its final name.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// The output while it is incomplete.
    pub fn partial(&self) -> PathBuf {
        self.with_suffix(".partial")
    }

    /// The folder with journal, lock and log.
    pub fn folder(&self) -> PathBuf {
        self.with_suffix(".tilework")
    }

    /// The folder that holds the output.
    pub fn parent(&self) -> PathBuf {
        match self.output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        }
    }

    /// The lock that one run holds.
    pub fn lock(&self) -> PathBuf {
        self.folder().join("lock")
    }

    /// The journal of a finished job.
    pub fn compacted(&self) -> PathBuf {
        self.folder().join(COMPACTED)
    }

    /// The same while run `epoch` writes it.
    pub fn compacting(&self, epoch: RunEpoch) -> PathBuf {
        self.written_by(COMPACTED, epoch)
    }

    /// What a job leaves, while run `epoch` writes it; then it becomes the partial output.
    pub fn report(&self, epoch: RunEpoch) -> PathBuf {
        self.written_by(REPORT, epoch)
    }

    /// The run that writes a file of the folder as what a job leaves.
    pub fn report_epoch(name: &OsStr) -> Option<RunEpoch> {
        parse_written(name)
            .filter(|(of, _)| *of == REPORT)
            .map(|(_, run)| run)
    }

    /// The run that writes a file of the folder which will have another name.
    pub fn writing_epoch(name: &OsStr) -> Option<RunEpoch> {
        let (of, run) = parse_written(name)?;
        let is_ours =
            [COMPACTED, REPORT].contains(&of) || of.starts_with(ROUND_PREFIX) || of.ends_with(SEGMENT_SUFFIX);
        is_ours.then_some(run)
    }

    fn written_by(&self, name: &str, epoch: RunEpoch) -> PathBuf {
        self.folder().join(format!("{name}{WRITTEN_BY}{:06}", epoch.0))
    }

    /// What a round begins with. Its name is given once, so that no two drivers begin the round with different states.
    pub fn round(&self, round: RoundIdx) -> PathBuf {
        self.folder().join(format!("{ROUND_PREFIX}{:06}", round.0))
    }

    /// The same while run `epoch` writes it.
    pub fn beginning_round(&self, round: RoundIdx, epoch: RunEpoch) -> PathBuf {
        self.written_by(&format!("{ROUND_PREFIX}{:06}", round.0), epoch)
    }

    /// The round that a file of the folder begins.
    pub fn begun_round(name: &OsStr) -> Option<RoundIdx> {
        let digits = name.to_str()?.strip_prefix(ROUND_PREFIX)?;
        number(digits, 6).map(RoundIdx)
    }

    /// Whether a file of the folder is the journal's, or was to become it when its run ended.
    pub fn is_journal(name: &OsStr) -> bool {
        let is_round = || name.to_str().is_some_and(|name| name.starts_with(ROUND_PREFIX));
        JobFiles::segment_epoch(name).is_some()
            || JobFiles::writing_epoch(name).is_some()
            || is_round()
            || name == UNDER_WAY
    }

    /// Which tasks run, where one process does it all.
    pub fn under_way(&self) -> PathBuf {
        self.folder().join(UNDER_WAY)
    }

    /// What a user was told of.
    pub fn alarms(&self) -> PathBuf {
        self.folder().join(ALARMS)
    }

    /// Whether a file of the folder is the one of alarms.
    pub fn is_alarms(name: &OsStr) -> bool {
        name == ALARMS
    }

    /// The segment of run `epoch`.
    pub fn segment(&self, epoch: RunEpoch) -> PathBuf {
        self.folder().join(format!("{:06}{SEGMENT_SUFFIX}", epoch.0))
    }

    /// The segment that takes its place, while the run writes it.
    pub fn replacing_segment(&self, epoch: RunEpoch) -> PathBuf {
        self.written_by(&format!("{:06}{SEGMENT_SUFFIX}", epoch.0), epoch)
    }

    /// The segment of a worker that has a process of its own, in run `epoch`; it has several if it opens the job several times.
    pub fn worker_segment(&self, epoch: RunEpoch, worker: WorkerIdx, opening: u32) -> PathBuf {
        self.folder()
            .join(format!("{:06}-w{worker}-{opening}{SEGMENT_SUFFIX}", epoch.0))
    }

    /// Whose segment a file of the folder is; the compacted journal counts as run 0.
    pub fn segment_owner(name: &OsStr) -> Option<SegmentOwner> {
        let name = name.to_str()?;
        let run = |digits: &str| number(digits, 6).map(RunEpoch);
        let (epoch, worker) = match name.strip_suffix(SEGMENT_SUFFIX) {
            None if name == COMPACTED => (RunEpoch(0), None),
            None => return None,
            Some(stem) => match stem.split_once("-w") {
                None => (run(stem)?, None),
                Some((epoch, rest)) => {
                    let (worker, opening) = rest.split_once('-')?;
                    (
                        run(epoch)?,
                        Some((WorkerIdx(number(worker, 1)?), number(opening, 1)?)),
                    )
                }
            },
        };
        Some(SegmentOwner { epoch, worker })
    }

    /// The run that a file of the folder is a segment of; the compacted journal counts as run 0.
    pub fn segment_epoch(name: &OsStr) -> Option<RunEpoch> {
        JobFiles::segment_owner(name).map(|owner| owner.epoch)
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut name: OsString = self.output.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }
}

fn parse_written(name: &OsStr) -> Option<(&str, RunEpoch)> {
    let (of, digits) = name.to_str()?.rsplit_once(WRITTEN_BY)?;
    Some((of, RunEpoch(number(digits, 6)?)))
}

/// A number as names have it, with so many digits at least. It has other spellings, which are no names of ours.
fn number(digits: &str, width: usize) -> Option<u32> {
    let number: u32 = digits.parse().ok()?;
    (format!("{number:0width$}") == digits).then_some(number)
}

/// Who writes a segment. In order, a run's own comes before those of its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentOwner {
    /// The run.
    pub epoch: RunEpoch,
    /// One of its workers, and which of its openings, or the run itself: its driver, with the workers of its process.
    pub worker: Option<(WorkerIdx, u32)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_known_by_their_names() {
        let files = JobFiles::beside(Path::new("dir/C.npy"));
        let segment = files.segment(RunEpoch(7));
        assert_eq!(segment, Path::new("dir/C.npy.tilework/000007.segment"));
        assert_eq!(
            JobFiles::segment_epoch(segment.file_name().unwrap()),
            Some(RunEpoch(7))
        );
        let of_worker = files.worker_segment(RunEpoch(7), WorkerIdx(12), 3);
        assert_eq!(of_worker, Path::new("dir/C.npy.tilework/000007-w12-3.segment"));
        let owner = SegmentOwner {
            epoch: RunEpoch(7),
            worker: Some((WorkerIdx(12), 3)),
        };
        assert_eq!(
            JobFiles::segment_owner(of_worker.file_name().unwrap()),
            Some(owner)
        );
        for other in [
            "000007-w1.segment",
            "000007-w-1.segment",
            "000007-3.segment",
            "-w1-1.segment",
            "7-w1-1",
            "7.segment",
            "+00007.segment",
            "000007-w01-1.segment",
            "000007-w1-+1.segment",
        ] {
            assert_eq!(JobFiles::segment_owner(OsStr::new(other)), None, "{other}");
        }
        assert_eq!(JobFiles::segment_epoch(OsStr::new("journal")), Some(RunEpoch(0)));
        let seven = RunEpoch(7);
        let round = files.beginning_round(RoundIdx(3), seven);
        for written in [
            files.compacting(seven),
            files.report(seven),
            files.replacing_segment(seven),
            round,
        ] {
            let name = written.file_name().unwrap();
            assert_eq!(
                JobFiles::writing_epoch(name),
                Some(seven),
                "{}",
                written.display()
            );
            let is_report = JobFiles::report_epoch(name).is_some();
            assert_eq!(is_report, written == files.report(seven));
            assert_eq!(
                (JobFiles::segment_epoch(name), JobFiles::begun_round(name)),
                (None, None)
            );
        }
        for other in [
            "journal",
            "notes.new-000007",
            "journal.new-7",
            "report.new-x",
            "report",
        ] {
            assert_eq!(JobFiles::writing_epoch(OsStr::new(other)), None, "{other}");
        }
        assert_eq!(
            JobFiles::begun_round(OsStr::new("round-000002")),
            Some(RoundIdx(2))
        );
        assert_eq!(JobFiles::begun_round(OsStr::new("round-2")), None);
        assert_eq!(JobFiles::segment_epoch(OsStr::new("lock")), None);
        assert_eq!(JobFiles::beside(Path::new("C.npy")).parent(), Path::new("."));
    }
}
