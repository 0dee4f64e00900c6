//! What happened to a job: a line of JSON beside its output for each alarm, and the latest ones for the run's report.
//!
//! No truth is in it: a lost or torn line costs nothing but the telling.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tilework_core::alarm::Alarm;
use tilework_core::ids::RunEpoch;
use tilework_core::limits::{ALARMS_REPORTED_MAX, ALARMS_WRITTEN_MAX};
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
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        LoggedAlarm {
            unix_ms: since_1970.map_or(0, |since| since.as_millis() as u64),
            run: run.0,
            severity: alarm.severity().to_string(),
            kind: alarm.name().to_owned(),
            text: alarm.text(),
            next: alarm.advice().map(str::to_owned),
        }
    }
}

/// The file of one job, which is made when there is something to tell.
#[derive(Debug)]
pub struct AlarmLog {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<(Arc<dyn DiskFile>, u64)>,
    told: AlarmsTold,
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
        AlarmLog {
            disk,
            path: files.alarms(),
            file: None,
            told: AlarmsTold::default(),
        }
    }

    /// Keeps an alarm for the report, and appends a line for it unless there were very many.
    pub fn append(&mut self, alarm: LoggedAlarm) -> io::Result<()> {
        let line = serde_json::to_vec(&alarm)?;
        self.told.add(alarm);
        if self.told.n_alarms > ALARMS_WRITTEN_MAX {
            return Ok(());
        }
        self.write(line)
    }

    /// What was told so far.
    pub fn told(&self) -> &AlarmsTold {
        &self.told
    }

    /// What was told, for the report.
    pub fn into_told(self) -> AlarmsTold {
        self.told
    }

    fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        line.push(b'\n');
        let (file, offset) = match self.file.take() {
            Some(open) => open,
            None => self.open()?,
        };
        file.write_all_at(&line, offset)?;
        self.file = Some((file, offset + line.len() as u64));
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
    use std::path::Path;
    use tilework_core::alarm::AlarmKind;
    use tilework_core::ids::WorkerIdx;
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
        AlarmLog::beside(Arc::clone(&shared), &files)
            .append(three.clone())
            .unwrap();
        assert_eq!(read(&disk, &files).unwrap(), [one.clone(), two.clone(), three]);
        let bytes = disk.contents(files.alarms()).unwrap();
        disk.install(files.alarms(), &bytes[..bytes.len() - 5]);
        assert_eq!(read(&disk, &files).unwrap(), [one, two]);
        // What follows is on a line of its own.
        let four = alarm(4);
        let mut log = AlarmLog::beside(shared, &files);
        log.append(four.clone()).unwrap();
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
        let told = log.into_told();
        assert_eq!(told.n_alarms, n_alarms);
        assert_eq!(told.latest.len(), ALARMS_REPORTED_MAX);
        assert_eq!(
            told.latest.back().map(|last| &last.text),
            Some(&alarm(n_alarms - 1).text)
        );
        assert_eq!(read(&disk, &files).unwrap().len() as u64, ALARMS_WRITTEN_MAX);
    }
}
