//! What a job leaves in one piece at its end: each run writes it into a file of its own, which becomes the partial output when it is whole.
//!
//! So a driver that slept, and was followed by another, can't write into what that one has finished. It may even give its own file the
//! partial output's name only as long as the later one has not begun to write: that removes the files of earlier runs first, and who
//! creates one after that finds, when it looks again, that it is late.

use super::layout::JobFiles;
use crate::disk::{Disk, DiskFile, remove_if_there};
use std::io;
use std::sync::Arc;
use tilework_core::ids::RunEpoch;

/// Creates the file of run `epoch`, and removes those of earlier runs.
pub fn begin_report(disk: &dyn Disk, files: &JobFiles, epoch: RunEpoch) -> io::Result<Arc<dyn DiskFile>> {
    for name in disk.read_dir(&files.folder())? {
        if JobFiles::report_epoch(&name).is_some_and(|written_by| written_by <= epoch) {
            remove_if_there(disk, &files.folder().join(name))?;
        }
    }
    disk.create_new(&files.report(epoch))
}

/// Makes it the partial output. It is durable, and its run has just looked whether it is the latest.
pub fn publish_report(disk: &dyn Disk, files: &JobFiles, epoch: RunEpoch) -> io::Result<()> {
    disk.rename(&files.report(epoch), &files.partial())?;
    disk.sync_dir(&files.parent())
}
