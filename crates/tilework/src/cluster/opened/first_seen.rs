//! Inputs as this process saw them first in each run of a job.
//!
//! A job's description knows its inputs by a sample: it lets one pass that was only touched, as a resume must. Within a run that is not
//! enough: what a worker commits after it opened a job anew has to be of the very files that it committed of before.

use std::sync::{Mutex, PoisonError};
use tilework_core::failure::Failure;
use tilework_core::ids::{JobId, RunEpoch};
use tilework_core::limits::RUNS_REMEMBERED_MAX;
use tilework_linalg::input_guard::InputGuard;

/// What was seen, of the jobs that were opened last; the latest last.
#[derive(Debug, Default)]
pub struct FirstSeen {
    seen: Mutex<Vec<Sight>>,
}

#[derive(Debug)]
struct Sight {
    job: JobId,
    run: RunEpoch,
    inputs: InputGuard,
}

impl FirstSeen {
    /// Fails if `inputs` are not what they were when the job was opened for the first time in this run. One that another driver took
    /// over goes on: `run` is the first whose tasks it has. Only a job's latest run is remembered.
    pub(super) fn check(&self, job: JobId, run: RunEpoch, inputs: &InputGuard) -> Result<(), Failure> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.iter().position(|sight| sight.job == job);
        let known = known.map(|at| seen.remove(at)).filter(|sight| sight.run == run);
        if seen.len() >= RUNS_REMEMBERED_MAX {
            seen.remove(0);
        }
        let first = known.unwrap_or_else(|| Sight {
            job,
            run,
            inputs: inputs.clone(),
        });
        let checked = inputs.check_same_as(&first.inputs);
        seen.push(first);
        checked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;
    use tilework_core::failure::{Cause, Remedy};
    use tilework_linalg::Operand;
    use tilework_store::disk::{Disk, DiskFileExt};
    use tilework_store::fake_disk::FakeDisk;
    use tilework_store::matrix::MatrixSource;

    const JOB: JobId = JobId([1; 16]);

    fn npy(byte: u8) -> Vec<u8> {
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }";
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(format!("{header:<117}\n").bytes());
        bytes.extend([byte; 32]);
        bytes
    }

    fn guard(disk: &FakeDisk) -> InputGuard {
        let source = MatrixSource::open(disk, Path::new("A.npy")).unwrap();
        let operand = Operand::new(Arc::new(source), false);
        InputGuard::new(Arc::new(disk.clone()), [&operand]).unwrap()
    }

    #[test]
    fn an_input_that_was_touched_in_a_run_is_another_until_the_next_one() {
        let disk = FakeDisk::new(1);
        disk.install("A.npy", &npy(0));
        let seen = FirstSeen::default();
        let check = |run: u32| seen.check(JOB, RunEpoch(run), &guard(&disk));
        assert_eq!((check(1), check(1)), (Ok(()), Ok(())));
        let file = disk.open_write(Path::new("A.npy")).unwrap();
        file.write_all_at(&[1], 140).unwrap();
        for _ in 0..2 {
            let failure = check(1).expect_err("it was patched");
            assert_eq!(
                (failure.remedy, failure.cause),
                (Remedy::Fatal, Cause::InputChanged)
            );
            assert!(failure.text.contains("A.npy"), "{}", failure.text);
        }
        assert_eq!(
            (check(2), check(2)),
            (Ok(()), Ok(())),
            "a resume begins with what is there"
        );
    }

    #[test]
    fn only_the_latest_jobs_are_remembered() {
        let disk = FakeDisk::new(1);
        disk.install("A.npy", &npy(0));
        let (seen, inputs) = (FirstSeen::default(), guard(&disk));
        for number in 0..RUNS_REMEMBERED_MAX as u64 + 5 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            seen.check(JobId(id), RunEpoch(1), &inputs).unwrap();
        }
        assert_eq!(seen.seen.lock().unwrap().len(), RUNS_REMEMBERED_MAX);
    }
}
