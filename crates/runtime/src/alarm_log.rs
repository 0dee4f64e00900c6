//! What happened to a job: a line of JSON beside its output for each alarm, and the latest ones for the run's report.
//!
//! No truth is in it: a lost or torn line costs nothing but the telling. So nobody waits for the file system: a thread of the log's own
//! writes, and one that hangs is left behind.

use crate::wall_clock::unix_ms;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::alarm::Alarm;
use tilework_core::ids::RunEpoch;
use tilework_core::limits::{ALARMS_FLUSH_MS, ALARMS_REPORTED_MAX, ALARMS_WRITTEN_MAX};
use tilework_store::disk::{Disk, DiskFile, DiskFileExt};
use tilework_store::journal::JobFiles;

/// An alarm as it is told: a line of the file, a member of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedAlarm {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// In which run of the job.
    pub run: u32,
    /// How bad it was: `note`, `warning` or `error`.
    pub severity: String,
    /// What kind of alarm.
    pub kind: String,
    /// What happened.
    pub text: String,
    /// What to do, if someone should do something.
    pub next: Option<String>,
}

impl LoggedAlarm {
    /// An alarm of now.
    pub fn now(alarm: &Alarm, run: RunEpoch) -> LoggedAlarm {
        LoggedAlarm {
            unix_ms: unix_ms(),
            run: run.0,
            severity: alarm.severity().to_string(),
            kind: alarm.name().to_owned(),
            text: alarm.text(),
            next: alarm.advice().map(str::to_owned),
        }
    }
}

/// The log of one job. Its file is made, and its thread started, when there is something to tell.
///
/// Dropped, it waits until all lines are written, but for no line longer than [`ALARMS_FLUSH_MS`] after it was appended.
#[derive(Debug)]
pub struct AlarmLog {
    /// Where it will write, until it does.
    idle: Option<LogFile>,
    writer: Option<Writer>,
    told: AlarmsTold,
}

/// The thread that writes, as seen from the log.
#[derive(Debug)]
struct Writer {
    /// At most [`ALARMS_WRITTEN_MAX`] lines are ever put in.
    lines: Sender<Vec<u8>>,
    /// What went wrong; the thread has ended when nobody can put anything in.
    failures: Receiver<io::Error>,
    /// When the last line was put in.
    appended: Instant,
}

/// The file, once it is open with its length.
#[derive(Debug)]
struct LogFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    open: Option<(Arc<dyn DiskFile>, u64)>,
}

/// The alarms of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlarmsTold {
    /// The latest, oldest of them first: at most [`ALARMS_REPORTED_MAX`].
    pub latest: VecDeque<LoggedAlarm>,
    /// How many there were.
    pub n_alarms: u64,
}

impl AlarmsTold {
    fn add(&mut self, alarm: LoggedAlarm) {
        if self.latest.len() == ALARMS_REPORTED_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(alarm);
        self.n_alarms += 1;
    }
}

impl AlarmLog {
    /// The log beside an output.
    pub fn beside(disk: Arc<dyn Disk>, files: &JobFiles) -> AlarmLog {
        let path = files.alarms();
        AlarmLog {
            idle: Some(LogFile {
                disk,
                path,
                open: None,
            }),
            writer: None,
            told: AlarmsTold::default(),
        }
    }

    /// Keeps an alarm for the report, and hands a line for it to the thread that writes, unless there were very many.
    ///
    /// # Errors
    /// A line could not be written: this one, or an earlier one that nobody was told of.
    pub fn append(&mut self, alarm: LoggedAlarm) -> io::Result<()> {
        let mut line = serde_json::to_vec(&alarm)?;
        line.push(b'\n');
        self.told.add(alarm);
        if self.told.n_alarms > ALARMS_WRITTEN_MAX {
            return Ok(());
        }
        if let Some(file) = self.idle.take() {
            self.writer = Some(Writer::start(file)?);
        }
        let gone = || io::Error::other("the thread that writes alarms is gone");
        let writer = self.writer.as_mut().ok_or_else(gone)?;
        writer.appended = Instant::now();
        writer.lines.send(line).map_err(|_| gone())?;
        writer.failures.try_recv().map_or(Ok(()), Err)
    }

    /// What was told so far.
    pub fn told(&self) -> &AlarmsTold {
        &self.told
    }

    /// What was told, for the report, and whether all of it was written that was to be; waits for that as dropping does.
    pub fn finish(mut self) -> (AlarmsTold, io::Result<()>) {
        let written = self.writer.take().map_or(Ok(()), Writer::finish);
        (std::mem::take(&mut self.told), written)
    }
}

impl Drop for AlarmLog {
    fn drop(&mut self) {
        // Whoever wants to know how that went has called `finish`.
        let _ = self.writer.take().map(Writer::finish);
    }
}

impl Writer {
    fn start(mut file: LogFile) -> io::Result<Writer> {
        let (lines, to_write) = channel::<Vec<u8>>();
        let (failed, failures) = channel();
        thread::Builder::new().name("alarms".into()).spawn(move || {
            for line in to_write {
                if let Err(error) = file.write(&line) {
                    // A log that is gone does not want to know.
                    let _ = failed.send(error);
                }
            }
        })?;
        Ok(Writer {
            lines,
            failures,
            appended: Instant::now(),
        })
    }

    /// Waits until the thread has ended; the first failure that nobody was told of.
    fn finish(self) -> io::Result<()> {
        drop(self.lines);
        let until = self.appended + Duration::from_millis(ALARMS_FLUSH_MS);
        let next = || {
            let wait = until.saturating_duration_since(Instant::now());
            self.failures.recv_timeout(wait)
        };
        match next() {
            Ok(error) => {
                // What follows may be written all the same.
                while next().is_ok() {}
                Err(error)
            }
            Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the file system does not answer",
            )),
        }
    }
}

impl LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let (file, offset) = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        file.write_all_at(line, offset)?;
        self.open = Some((file, offset + line.len() as u64));
        Ok(())
    }

    fn open(&self) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        match self.disk.create_new(&self.path) {
            Ok(file) => Ok((file, 0)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.disk.open_write(&self.path)?;
                let len = file.stat()?.len;
                let mut last = *b"\n";
                if len > 0 {
                    file.read_exact_at(&mut last, len - 1)?;
                }
                if last != *b"\n" {
                    // A line that a crash tore must not take the next one with it.
                    file.write_all_at(b"\n", len)?;
                    return Ok((file, len + 1));
                }
                Ok((file, len))
            }
            Err(error) => Err(error),
        }
    }
}

/// All alarms of a job, oldest first; none if there is no log. Lines that can't be read are left out.
pub fn read(disk: &dyn Disk, files: &JobFiles) -> io::Result<Vec<LoggedAlarm>> {
    let path = files.alarms();
    if disk.stat(&path)?.is_none() {
        return Ok(Vec::new());
    }
    let file = disk.open_read(&path)?;
    let mut bytes = vec![0; file.stat()?.len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::path::Path;
    use std::sync::{Mutex, MutexGuard};
    use tilework_core::alarm::AlarmKind;
    use tilework_core::ids::WorkerIdx;
    use tilework_store::disk::FileStat;
    use tilework_store::fake_disk::FakeDisk;

    fn alarm(n_attempts: u64) -> LoggedAlarm {
        let kind = AlarmKind::WorkerLost {
            worker: WorkerIdx(3),
            n_attempts,
        };
        LoggedAlarm::now(&Alarm { job: None, kind }, RunEpoch(2))
    }

    #[test]
    fn lines_are_kept_over_runs_and_torn_ones_left_out() {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/data/C.npy"));
        disk.install(files.folder().join("spec"), b"");
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        assert_eq!(read(&disk, &files).unwrap(), []);
        let (one, two, three) = (alarm(1), alarm(2), alarm(3));
        let mut log = AlarmLog::beside(Arc::clone(&shared), &files);
        log.append(one.clone()).unwrap();
        log.append(two.clone()).unwrap();
        drop(log);
        let mut log = AlarmLog::beside(Arc::clone(&shared), &files);
        log.append(three.clone()).unwrap();
        drop(log);
        assert_eq!(read(&disk, &files).unwrap(), [one.clone(), two.clone(), three]);
        let bytes = disk.contents(files.alarms()).unwrap();
        disk.install(files.alarms(), &bytes[..bytes.len() - 5]);
        assert_eq!(read(&disk, &files).unwrap(), [one, two]);
        // What follows is on a line of its own.
        let four = alarm(4);
        let mut log = AlarmLog::beside(shared, &files);
        log.append(four.clone()).unwrap();
        drop(log);
        assert_eq!(read(&disk, &files).unwrap().last(), Some(&four));
    }

    #[test]
    fn a_flood_of_alarms_ends_in_the_count() {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/data/C.npy"));
        disk.install(files.folder().join("spec"), b"");
        let mut log = AlarmLog::beside(Arc::new(disk.clone()), &files);
        let n_alarms = ALARMS_WRITTEN_MAX + 5;
        for n in 0..n_alarms {
            log.append(alarm(n)).unwrap();
        }
        let (told, written) = log.finish();
        written.unwrap();
        assert_eq!(told.n_alarms, n_alarms);
        assert_eq!(told.latest.len(), ALARMS_REPORTED_MAX);
        assert_eq!(
            told.latest.back().map(|last| &last.text),
            Some(&alarm(n_alarms - 1).text)
        );
        assert_eq!(read(&disk, &files).unwrap().len() as u64, ALARMS_WRITTEN_MAX);
    }

    #[test]
    fn what_cannot_be_written_is_said_with_the_next_alarm_or_at_the_end() {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/data/C.npy"));
        // There is no folder for it.
        let mut log = AlarmLog::beside(Arc::new(disk.clone()), &files);
        let said: Vec<io::Error> = (0..3).filter_map(|n| log.append(alarm(n)).err()).collect();
        let (told, written) = log.finish();
        assert_eq!(told.n_alarms, 3);
        let kinds: Vec<io::ErrorKind> = said
            .into_iter()
            .chain(written.err())
            .map(|error| error.kind())
            .collect();
        assert!(!kinds.is_empty());
        assert!(
            kinds.iter().all(|kind| *kind == io::ErrorKind::NotFound),
            "{kinds:?}"
        );
    }

    /// A disk on which nobody can make a file as long as its gate is shut.
    #[derive(Debug)]
    struct Hung {
        disk: FakeDisk,
        gate: Arc<Mutex<()>>,
    }

    impl Disk for Hung {
        fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
            let _open: MutexGuard<'_, ()> = self.gate.lock().unwrap();
            self.disk.create_new(path)
        }
        fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
            self.disk.open_read(path)
        }
        fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
            self.disk.open_write(path)
        }
        fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
            self.disk.stat(path)
        }
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            self.disk.create_dir(path)
        }
        fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
            self.disk.read_dir(path)
        }
        fn hard_link(&self, file: &Path, name: &Path) -> io::Result<()> {
            self.disk.hard_link(file, name)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.disk.rename(from, to)
        }
        fn remove_file(&self, path: &Path) -> io::Result<()> {
            self.disk.remove_file(path)
        }
        fn remove_dir(&self, path: &Path) -> io::Result<()> {
            self.disk.remove_dir(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            self.disk.sync_dir(path)
        }
        fn free_bytes(&self, path: &Path) -> io::Result<u64> {
            self.disk.free_bytes(path)
        }
    }

    #[test]
    fn a_file_system_that_hangs_holds_nobody_up() {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/data/C.npy"));
        disk.install(files.folder().join("spec"), b"");
        let gate = Arc::new(Mutex::new(()));
        let shut = gate.lock().unwrap();
        let hung = Hung {
            disk: disk.clone(),
            gate: Arc::clone(&gate),
        };
        let hung: Arc<dyn Disk> = Arc::new(hung);
        let long_ago = Instant::now() - Duration::from_millis(ALARMS_FLUSH_MS);
        for is_dropped in [false, true] {
            let mut log = AlarmLog::beside(Arc::clone(&hung), &files);
            for n in 0..100 {
                log.append(alarm(n)).unwrap();
            }
            assert_eq!(log.told().n_alarms, 100);
            log.writer.as_mut().unwrap().appended = long_ago;
            if is_dropped {
                drop(log);
            } else {
                let (told, written) = log.finish();
                assert_eq!(told.n_alarms, 100);
                assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
        }
        assert_eq!(read(&disk, &files).unwrap(), []);
        // It may answer again before the job ends: nothing is lost then.
        let mut log = AlarmLog::beside(hung, &JobFiles::beside(Path::new("/data/D.npy")));
        disk.install("/data/D.npy.tilework/spec", b"");
        log.append(alarm(7)).unwrap();
        drop(shut);
        let (_, written) = log.finish();
        written.unwrap();
        let files = JobFiles::beside(Path::new("/data/D.npy"));
        assert_eq!(read(&disk, &files).unwrap().len(), 1);
    }
}
