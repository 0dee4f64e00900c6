//! Which files stand beside an output while, and after, it is computed.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use tilework_core::ids::RunEpoch;

const SEGMENT_SUFFIX: &str = ".segment";
const ALARMS: &str = "alarms.jsonl";

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

    /// The journal of a finished job, and its name while it is written.
    pub fn compacted(&self) -> (PathBuf, PathBuf) {
        (self.folder().join("journal"), self.folder().join("journal.new"))
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

    /// The run that a file of the folder is the segment of; the compacted journal counts as run 0.
    pub fn segment_epoch(name: &OsStr) -> Option<RunEpoch> {
        let name = name.to_str()?;
        if name == "journal" {
            return Some(RunEpoch(0));
        }
        name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok().map(RunEpoch)
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut name: OsString = self.output.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }
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
        assert_eq!(JobFiles::segment_epoch(OsStr::new("journal")), Some(RunEpoch(0)));
        assert_eq!(JobFiles::segment_epoch(OsStr::new("lock")), None);
        assert_eq!(JobFiles::beside(Path::new("C.npy")).parent(), Path::new("."));
    }
}
