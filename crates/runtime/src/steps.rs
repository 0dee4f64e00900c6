//! What the driver does for a job itself: barriers, reading outputs back, giving them their names. Each step may be repeated after a crash.

use crate::job::{Job, Next, WriteReport};
use crate::journal_writer::JournalHandle;
use crate::threads::start_scoped;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tilework_core::driver::{DriverEffect, DriverEvent, Round};
use tilework_core::failure::{Cause, Failure, StopCause};
use tilework_core::ids::{JobId, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::record::{Barrier, Commit, Record, RoundStart, RunStart, Winner};
use tilework_store::disk::{Disk, is_disk_full, remove_if_there};
use tilework_store::journal::{
    Compacted, JobFiles, Recovered, SegmentWriter, begin_report, begin_round, compact, latest_run,
    make_durable, publish_report, recover, shed_rounds, shed_segments,
};

/// A step of the driver's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make the round's barrier durable, and ask the job what comes next.
    Advance(RoundIdx),
    /// Read which tasks of the round are committed.
    ReadCommits(RoundIdx),
    /// Read every committed output back.
    VerifyOutputs,
    /// Make the outputs durable under their final names.
    FinishOutputs,
}

impl Step {
    /// The step that an effect asks for, and of which job.
    pub fn of(effect: &DriverEffect) -> Option<(JobId, Step)> {
        match effect {
            DriverEffect::Advance(job, round) => Some((*job, Step::Advance(*round))),
            DriverEffect::ReadCommits(job, round) => Some((*job, Step::ReadCommits(*round))),
            DriverEffect::VerifyOutputs(job) => Some((*job, Step::VerifyOutputs)),
            DriverEffect::FinishOutputs(job) => Some((*job, Step::FinishOutputs)),
            _ => None,
        }
    }
}

/// What the world around a job says while its driver takes a step.
pub trait StepWatch: Sync {
    /// Why the step should be given up, if it should.
    fn stop_requested(&self) -> Option<StopCause>;
    /// A committed output was read back damaged.
    fn on_damaged_output(&self, task: TaskIdx);
    /// Something worth knowing that stops nothing.
    fn on_note(&self, note: &str);
    /// Whether this driver may still do what can't be taken back; asked right before each such act.
    fn may_finish(&self) -> bool;
    /// The report that the journal's `Done` record holds.
    fn report(&self, recovered: &Recovered) -> Vec<u8>;
}

/// The steps of one job's run.
pub struct JobSteps<'a, J: ?Sized> {
    /// The job.
    pub job: &'a J,
    /// Where it is.
    pub disk: Arc<dyn Disk>,
    /// Its files.
    pub files: JobFiles,
    /// The run's own segment.
    pub journal: JournalHandle,
    /// Its id.
    pub id: JobId,
    /// The run.
    pub epoch: RunEpoch,
    /// Tasks of the current round.
    pub n_tasks: u64,
    /// Whether an output of that name may be replaced.
    pub may_replace_output: bool,
    /// Threads that read outputs back, at least 1.
    pub n_verifiers: usize,
    /// The world around.
    pub watch: &'a dyn StepWatch,
}

impl<J: Job + ?Sized> JobSteps<'_, J> {
    /// Takes a step; the event that it ends with.
    pub fn take(&mut self, step: Step) -> DriverEvent {
        let taken = match step {
            Step::Advance(round) => self.advance(round),
            Step::ReadCommits(round) => self.read_commits(round),
            Step::VerifyOutputs => self.verify_outputs(),
            Step::FinishOutputs => self.finish_outputs(),
        };
        taken.unwrap_or_else(|failure| DriverEvent::StepFailed(self.id, failure))
    }

    /// Asks the job what follows a complete round, and publishes that with the round's barrier.
    fn advance(&mut self, round: RoundIdx) -> Result<DriverEvent, Failure> {
        let recovered = self.recovered()?;
        if let Some(begun) = recovered.round.as_ref().filter(|begun| begun.round > round) {
            // Another driver came here first; its state may rest on other attempts.
            return self.enter(begun);
        }
        let commits: Vec<&Commit> = commits_of(&recovered, round).collect();
        if commits.len() as u64 != self.n_tasks {
            let committed: BTreeSet<TaskIdx> = commits.iter().map(|commit| commit.attempt.task).collect();
            let missing = (0..self.n_tasks)
                .map(TaskIdx)
                .filter(|task| !committed.contains(task))
                .collect();
            return Ok(DriverEvent::BarrierRefused(self.id, missing));
        }
        if self.job.reads_back_at_barriers() {
            let earlier = commits.iter().filter(|commit| commit.attempt.epoch != self.epoch);
            let bad_tasks = self.read_back(earlier.copied())?;
            if let Some(cause) = self.watch.stop_requested() {
                return Ok(DriverEvent::StopRequested(self.id, cause));
            }
            if !bad_tasks.is_empty() {
                return Ok(DriverEvent::BarrierRefused(self.id, bad_tasks));
            }
        }
        let winner = |commit: &&Commit| Winner {
            epoch: commit.attempt.epoch,
            attempt: commit.attempt.attempt,
        };
        let winners = commits.iter().map(winner).collect();
        let barrier = Barrier {
            round,
            epoch: self.epoch,
            winners,
        };
        match self.job.advance(round, &mut commits.into_iter())? {
            Next::Round { n_tasks, state } => {
                let start = RoundStart {
                    round: RoundIdx(round.0 + 1),
                    n_tasks,
                    state,
                };
                self.check_is_ours()?;
                let begun = begin_round(&*self.disk, &self.files, self.run(&recovered)?, barrier, start);
                let failed = |error| storage_failure("begin a round in", &self.files.folder(), &error);
                let begun = begun.map_err(failed)?;
                let entered = self.enter(&begun)?;
                // What can't go now goes at the next barrier, or at the job's end.
                let _ = self.shed(&recovered, begun.round);
                self.job.forget_earlier_rounds(self.epoch);
                Ok(entered)
            }
            Next::Done => self.end_rounds(barrier),
            Next::DoneWith(write) => {
                self.write_report(write)?;
                self.end_rounds(barrier)
            }
        }
    }

    fn end_rounds(&self, barrier: Barrier) -> Result<DriverEvent, Failure> {
        self.append(Record::Barrier(barrier))?;
        Ok(DriverEvent::RoundsDone(self.id))
    }

    /// Into a file of this run's own: another driver may have finished the job while this one slept, before or while it writes.
    fn write_report(&self, write: WriteReport<'_>) -> Result<(), Failure> {
        let (disk, files) = (&*self.disk, &self.files);
        let path = files.report(self.epoch);
        let failed = |error| storage_failure("write the output", &path, &error);
        let file = begin_report(disk, files, self.epoch).map_err(failed)?;
        let written = write(Arc::clone(&file))
            .and_then(|()| file.sync_data().map_err(failed))
            .and_then(|()| self.check_is_ours());
        if written.is_err() {
            // It may fill the disk.
            let _ = disk.remove_file(&path);
        }
        written?;
        publish_report(disk, files, self.epoch).map_err(failed)
    }

    /// Removes what led to `round`, which has begun durably: else every barrier would read what all rounds before it left.
    fn shed(&self, recovered: &Recovered, round: RoundIdx) -> io::Result<()> {
        let (Ok(run), Some(job_text)) = (self.run(recovered), &recovered.job_text) else {
            return Ok(());
        };
        let is_earlier = |epoch: RunEpoch| epoch < self.epoch;
        let earlier = recovered.runs.iter().filter(|run| is_earlier(run.epoch));
        let earlier: Vec<RunStart> = earlier.cloned().collect();
        let names = self.disk.read_dir(&self.files.folder())?;
        if names
            .iter()
            .filter_map(|name| JobFiles::segment_epoch(name))
            .any(is_earlier)
        {
            // They stay known.
            if let Some((last, others)) = earlier.split_last() {
                for run in others {
                    self.journal.append(Record::Run(run.clone()), |_| ());
                }
                self.journal.append_and_wait(Record::Run(last.clone()))?;
            }
            shed_segments(&*self.disk, &self.files, round, &|owner| {
                is_earlier(owner.epoch) && self.watch.may_finish()
            })?;
        }
        let is_ours = || self.check_is_ours().is_ok();
        shed_rounds(&*self.disk, &self.files, round, &is_ours)?;
        let (disk, files) = (Arc::clone(&self.disk), self.files.clone());
        let (run, job_text) = (run.clone(), job_text.clone());
        self.journal.follow(move |segment| {
            let is_worth_it = segment.is_superseded_by(round);
            let replaced =
                is_worth_it.then(|| SegmentWriter::replace(&*disk, &files, &job_text, &run, &earlier));
            replaced.transpose()
        });
        Ok(())
    }

    fn enter(&mut self, start: &RoundStart) -> Result<DriverEvent, Failure> {
        self.job.adopt(start)?;
        self.n_tasks = start.n_tasks;
        let round = Round {
            round: start.round,
            n_tasks: start.n_tasks,
            needs: self.job.needs(),
        };
        Ok(DriverEvent::RoundReady(self.id, round))
    }

    /// This run, as its segment tells it.
    fn run<'r>(&self, recovered: &'r Recovered) -> Result<&'r RunStart, Failure> {
        let run = recovered.runs.iter().find(|run| run.epoch == self.epoch);
        run.ok_or_else(|| {
            Failure::fatal(
                Cause::Storage,
                format!("the segment of run {} is gone", self.epoch),
            )
        })
    }

    fn read_commits(&self, round: RoundIdx) -> Result<DriverEvent, Failure> {
        let recovered = self.recovered()?;
        let tasks = commits_of(&recovered, round).map(|commit| commit.attempt.task);
        Ok(DriverEvent::CommitsRead(self.id, tasks.collect()))
    }

    fn verify_outputs(&self) -> Result<DriverEvent, Failure> {
        let recovered = self.recovered()?;
        // What the round has no task for has no output.
        let commits = recovered
            .commits
            .values()
            .filter(|commit| commit.attempt.task.0 < self.n_tasks);
        let bad_tasks = self.read_back(commits)?;
        if let Some(cause) = self.watch.stop_requested() {
            return Ok(DriverEvent::StopRequested(self.id, cause));
        }
        Ok(DriverEvent::OutputsVerified(self.id, bad_tasks))
    }

    /// The tasks whose outputs are not what their commits say, as far as it came before a stop.
    fn read_back<'c>(
        &self,
        commits: impl Iterator<Item = &'c Commit> + Send,
    ) -> Result<Vec<TaskIdx>, Failure> {
        let waiting = Mutex::new(commits);
        let verify = || {
            let mut bad_tasks: Vec<TaskIdx> = Vec::new();
            while self.watch.stop_requested().is_none() {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(commit) = next else { break };
                if !self.job.is_intact(commit)? {
                    self.watch.on_damaged_output(commit.attempt.task);
                    bad_tasks.push(commit.attempt.task);
                }
            }
            Ok(bad_tasks)
        };
        let verified: Result<Vec<Vec<TaskIdx>>, Failure> = thread::scope(|scope| {
            let threads: Vec<_> = (1..self.n_verifiers)
                .map_while(|_| start_scoped(scope, "reads outputs back", verify).ok())
                .collect();
            let own = verify();
            let joined = threads.into_iter().map(|thread| thread.join());
            let others = joined.map(|joined| {
                joined
                    .unwrap_or_else(|_| Err(Failure::fatal(Cause::Panic, "reading an output back panicked")))
            });
            std::iter::once(own).chain(others).collect()
        });
        Ok(verified?.concat())
    }

    /// Data durable -> `Done` record -> rename -> folder durable -> one journal file. A crash between any two is resumed, and each may
    /// be repeated.
    ///
    /// This driver may have slept, and another one begun a run, before any of these: so what can't be taken back is done only after
    /// another look at who drives, whose run is the latest, and whose file has the name.
    fn finish_outputs(&self) -> Result<DriverEvent, Failure> {
        self.job.seal()?;
        let report = self.watch.report(&self.recovered()?);
        self.check_is_ours()?;
        self.append(Record::Done(report))?;
        let recovered = self.recovered()?;
        self.give_name()?;
        let may_go_on = || self.watch.may_finish();
        let compacted = compact(&*self.disk, &self.files, &recovered, self.epoch, &may_go_on);
        match compacted {
            Ok(Compacted::Done) => {}
            Ok(Compacted::NotOurs) => return Err(taken_over()),
            // The output has its name, durably, and a journal of several files says the same.
            Err(error) => {
                let folder = self.files.folder();
                let note = storage_failure("compact the journal in", &folder, &error).text;
                self.watch.on_note(&note);
                let _ = remove_if_there(&*self.disk, &self.files.compacting(self.epoch));
            }
        }
        Ok(DriverEvent::OutputsFinished(self.id))
    }

    /// Gives the output its name, durably, unless it has it.
    fn give_name(&self) -> Result<(), Failure> {
        let (files, disk) = (&self.files, &*self.disk);
        let failed = |error| storage_failure("give the output its name", files.output(), &error);
        let file_at = |path: &Path| {
            let stat = disk.stat(path).map_err(failed)?;
            Ok(stat.map(|stat| stat.id()))
        };
        let ours = Some(self.job.output_file()?);
        let (partial, output) = (file_at(&files.partial())?, file_at(files.output())?);
        if partial.is_none() && output == ours {
            // A run before this one, or this step before, got so far.
            return disk.sync_dir(&files.parent()).map_err(failed);
        }
        if partial != ours {
            let what = if partial.is_some() { "another file" } else { "gone" };
            let text = format!(
                "another run has begun: `{}` is {what}, and was not touched",
                files.partial().display()
            );
            return Err(Failure::fatal(Cause::Job, text));
        }
        if output.is_some() && !self.may_replace_output {
            let text = format!(
                "`{}` appeared while it was computed: it is not replaced",
                files.output().display()
            );
            return Err(Failure::fatal(Cause::Job, text));
        }
        self.check_is_ours()?;
        disk.rename(&files.partial(), files.output())
            .and_then(|()| disk.sync_dir(&files.parent()))
            .map_err(failed)
    }

    /// Fails if another driver drives, or a later run of these files has begun.
    fn check_is_ours(&self) -> Result<(), Failure> {
        let latest = latest_run(&*self.disk, &self.files)
            .map_err(|error| storage_failure("look for later runs in", &self.files.folder(), &error))?;
        if let Some(latest) = latest.filter(|latest| *latest > self.epoch) {
            let text = format!("another run has begun: {latest}, while this is {}", self.epoch);
            return Err(Failure::fatal(Cause::Job, text));
        }
        // Last, because it is asked for the time that comes.
        if self.watch.may_finish() {
            Ok(())
        } else {
            Err(taken_over())
        }
    }

    /// What the journal says; what is built on it must not be taken back by a power cut.
    fn recovered(&self) -> Result<Recovered, Failure> {
        let read_failed = |error| storage_failure("read the journal in", &self.files.folder(), &error);
        let found = recover(&*self.disk, &self.files).map_err(read_failed)?;
        make_durable(&*self.disk, &self.files).map_err(read_failed)?;
        found.map(|(recovered, _)| recovered).ok_or_else(|| {
            let text = format!("the journal in `{}` is gone", self.files.folder().display());
            Failure::fatal(Cause::Storage, text)
        })
    }

    fn append(&self, record: Record) -> Result<(), Failure> {
        self.journal
            .append_and_wait(record)
            .map_err(|error| storage_failure("write the journal", self.journal.path(), &error))
    }
}

fn taken_over() -> Failure {
    Failure::fatal(Cause::Job, "another driver took the job over")
}

fn commits_of(recovered: &Recovered, round: RoundIdx) -> impl Iterator<Item = &Commit> {
    let commits = recovered.commits.values();
    commits.filter(move |commit| commit.attempt.round == round)
}

/// A failed access to `path`; `action` is what was tried, as a verb.
pub fn storage_failure(action: &str, path: &Path, error: &io::Error) -> Failure {
    let cause = if is_disk_full(error) {
        Cause::DiskFull
    } else {
        Cause::Storage
    };
    Failure::fatal(cause, format!("cannot {action} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests;
