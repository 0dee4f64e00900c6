//! `repair`: computes the damaged tiles of a finished output again, and nothing else.
//!
//! It works in the file itself: that needs no room, and touches nothing that is right. A tile is written only when its CRC32C is the one
//! that its commit has, so each byte goes from damaged to right, or stays; the journal is not touched. Whatever stops or kills it leaves
//! a file that `verify` still refuses, and the same command goes on. What a cut file lacks must not be read as zeros meanwhile: there,
//! and where the header is damaged, the header is written last.

use super::damage::{Damage, finished};
use super::inputs::{Inputs, Paths};
use super::request::{Description, InputTrouble, Resources, stored_inputs, usage};
use super::running::multiply;
use crate::failure::{CliError, Exit};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tilework_core::failure::{Cause, Failure, Remedy};
use tilework_core::ids::{Attempt, AttemptNo, RoundIdx, TaskIdx};
use tilework_core::limits::ATTEMPTS_MAX_CORRUPT;
use tilework_core::record::Commit;
use tilework_linalg::multiply::NUMERICS_VERSION;
use tilework_linalg::tiles::Grid;
use tilework_linalg::workspace::Workspace;
use tilework_linalg::{AlgorithmChoice, Multiply, Number, Plan};
use tilework_runtime::run::Progress;
use tilework_runtime::{Job, JobFolder, StopSwitch, TaskContext};
use tilework_store::disk::Disk;
use tilework_store::element_type::Dtype;
use tilework_store::journal::{JobFiles, Recovered};
use tilework_store::npy::output::NpyOutput;

/// What is told on the way.
pub trait RepairWatch {
    /// Work begins on what is damaged; so many flops in all.
    fn on_begin(&self, damage: &Damage, grid: &Grid, flops: u64);
    /// So much is done.
    fn on_progress(&self, progress: &Progress);
}

/// A finished output that was looked through, and repaired where it had to be.
#[derive(Debug, Clone)]
pub struct Repaired {
    /// What was damaged.
    pub damage: Damage,
    /// How C is split.
    pub grid: Grid,
    /// Bytes read of the inputs.
    pub bytes_read: u64,
    /// Bytes of elements written.
    pub bytes_written: u64,
}

/// Repairs the finished product `c`.
pub fn repair(
    disk: &Arc<dyn Disk>,
    c: &Path,
    resources: &Resources,
    stop: &StopSwitch,
    watch: &dyn RepairWatch,
) -> Result<Repaired, CliError> {
    let look = || finished(&**disk, c, &compute_anew(c));
    // What is not finished gets no folder.
    look()?;
    // Nobody else may write the file meanwhile, nor begin another one of its name.
    let folder = JobFolder::open(Arc::clone(disk), c)?;
    let (recovered, description) = look()?;
    let repair = Repair {
        disk,
        c,
        recovered: &recovered,
        description: &description,
        resources,
        stop,
        watch,
    };
    let repaired = match description.spec.dtype {
        Dtype::F64 => repair.run::<f64>(),
        Dtype::F32 => repair.run::<f32>(),
    };
    let let_go = folder.finish();
    let repaired = repaired?;
    let_go?;
    Ok(repaired)
}

fn compute_anew(c: &Path) -> String {
    format!(
        "compute it again with the command that made it, and --overwrite: tilework explain {}",
        c.display()
    )
}

struct Repair<'a> {
    disk: &'a Arc<dyn Disk>,
    c: &'a Path,
    recovered: &'a Recovered,
    description: &'a Description,
    resources: &'a Resources,
    stop: &'a StopSwitch,
    watch: &'a dyn RepairWatch,
}

impl Repair<'_> {
    fn run<T: Number>(&self) -> Result<Repaired, CliError> {
        let Grid { m, n, .. } = self.grid();
        let (output, frame) = NpyOutput::open_to_verify(&**self.disk, self.c, m, n, T::DTYPE)?;
        let damage = Damage::find::<T>((&output, frame), &self.grid(), self.recovered)?;
        let mut repaired = Repaired {
            damage,
            grid: self.grid(),
            bytes_read: 0,
            bytes_written: 0,
        };
        let damage = &repaired.damage;
        if !damage.is_some() {
            return Ok(repaired);
        }
        self.refuse_what_is_not_known(damage)?;
        // All that can be refused is refused before the first byte is written.
        let of_tiles = if damage.tiles.is_empty() {
            None
        } else {
            Some(self.prepare::<T>()?)
        };
        let open = || NpyOutput::open_to_repair(&**self.disk, self.c, m, n, T::DTYPE);
        let (output, frame) = open()?;
        output.restore_len(&frame)?;
        if let Some((inputs, plan)) = of_tiles {
            let bytes_written = self.repair_tiles::<T>(&repaired.damage, &inputs, &plan, output)?;
            (repaired.bytes_read, repaired.bytes_written) = (inputs.bytes_read(), bytes_written);
        }
        if frame.is_some() {
            open()?.0.write_header()?;
        }
        Ok(repaired)
    }

    fn grid(&self) -> Grid {
        self.description.plan.grid
    }

    fn refuse_what_is_not_known(&self, damage: &Damage) -> Result<(), CliError> {
        let c = self.c.display();
        if damage.may_be_another_file(&self.grid()) {
            let parts = damage.of_frame(self.description).join(", ");
            return Err(usage(
                format!("`{c}` may be another file: {parts}, and no tile is what was committed"),
                compute_anew(self.c),
            ));
        }
        if !damage.uncommitted.is_empty() {
            return Err(usage(
                format!(
                    "the journal of `{c}` is damaged: it does not say what {} tiles should be",
                    damage.uncommitted.len()
                ),
                compute_anew(self.c),
            ));
        }
        Ok(())
    }

    /// The same inputs, and the same tiles.
    fn prepare<T: Number>(&self) -> Result<(Inputs, Plan), CliError> {
        let c = self.c.display();
        let stored = self.description;
        let spec = &stored.spec;
        if (stored.version, stored.numerics_version) != (spec.version(), NUMERICS_VERSION) {
            return Err(usage(
                format!("`{c}` was computed by another version, whose bits this one does not make"),
                format!("repair it with that version, or {}", compute_anew(self.c)),
            ));
        }
        if let Some(trouble) = InputTrouble::find(&**self.disk, stored, self.c)? {
            let next = match &trouble {
                InputTrouble::Replaced => format!("put a copy of `{c}` in its place"),
                InputTrouble::Gone { .. } | InputTrouble::Changed { .. } => {
                    format!("put the input back, then: tilework repair {c}")
                }
            };
            let what = trouble.told(self.c);
            return Err(usage(
                format!("`{c}` is damaged, and can't be computed again: {what}"),
                next,
            ));
        }
        let inputs = stored_inputs(stored, self.c, Paths::Local).open(self.disk)?;
        let plan = self
            .resources
            .plan::<T>(&inputs, AlgorithmChoice::Auto, Some(stored))?;
        Ok((inputs, plan))
    }

    /// Computes the damaged tiles; bytes written.
    fn repair_tiles<T: Number>(
        &self,
        damage: &Damage,
        inputs: &Inputs,
        plan: &Plan,
        output: NpyOutput,
    ) -> Result<u64, CliError> {
        let files = JobFiles::beside(self.c);
        let (simd, id) = (self.resources.simd, self.description.id());
        let job = multiply::<T>(self.disk, inputs, plan, simd, id, &files).writing_to(output);
        let failed = |failure: Failure| self.failed(&failure);
        let mut workspace = job.workspace().map_err(failed)?;
        let n_tasks = damage.tiles.len() as u64;
        let flops = plan.flops() * n_tasks as f64 / self.grid().n_tiles() as f64;
        self.watch.on_begin(damage, &self.grid(), flops as u64);
        let work_done = AtomicU64::new(0);
        for (n_committed, task) in (0..).zip(&damage.tiles) {
            if self.stop.requested().is_some() {
                return Err(self.stopped(n_committed, n_tasks));
            }
            let repaired = self.repair_tile(&job, &mut workspace, TaskIdx(*task), &work_done);
            repaired.map_err(|error| match error.exit {
                Exit::Interrupted => self.stopped(n_committed, n_tasks),
                _ => error,
            })?;
            self.watch.on_progress(&Progress {
                round: 0,
                n_tasks,
                n_committed: n_committed + 1,
                work_done: work_done.load(Ordering::Relaxed),
            });
        }
        job.seal().map_err(failed)?;
        Ok(job.bytes_written())
    }

    fn repair_tile<T: Number>(
        &self,
        job: &Multiply<T>,
        workspace: &mut Workspace<T>,
        task: TaskIdx,
        work_done: &AtomicU64,
    ) -> Result<(), CliError> {
        let commit: &Commit = &self.recovered.commits[&(RoundIdx(0), task)];
        let failed = |failure: Failure| self.failed(&failure);
        let mut why = String::new();
        for attempt in 0..ATTEMPTS_MAX_CORRUPT {
            let of = Attempt {
                attempt: AttemptNo(attempt),
                ..commit.attempt
            };
            let context = TaskContext::apart(of, self.stop, work_done);
            match job.run(workspace, &context) {
                Ok((tile, summary)) if summary.crc32c == commit.crc32c => {
                    job.write(task, tile).map_err(failed)?;
                    if job.is_intact(commit).map_err(failed)? {
                        return Ok(());
                    }
                    why = format!("tile {task} was read back otherwise than it was written");
                }
                Ok(_) => {
                    why = format!(
                        "tile {task}, computed again, passes its check with other bytes than were committed: an input has changed unseen, or the commit was wrong"
                    );
                }
                Err(failure) if failure.remedy == Remedy::Corrupt => why = failure.text,
                Err(failure) => return Err(failed(failure)),
            }
        }
        Err(CliError::new(Exit::CheckFailed, why).with_next(compute_anew(self.c)))
    }

    fn failed(&self, failure: &Failure) -> CliError {
        let c = self.c.display();
        let next = match failure.cause {
            Cause::DiskFull => format!("make room, then: tilework repair {c}"),
            Cause::OutOfMemory => format!("allow less with --memory, then: tilework repair {c}"),
            Cause::InputChanged => format!("put the input back, then: tilework repair {c}"),
            _ => format!("what was repaired stays; try again: tilework repair {c}"),
        };
        CliError::from(failure.clone()).with_next(next)
    }

    fn stopped(&self, n_repaired: u64, n_tiles: u64) -> CliError {
        CliError::new(
            Exit::Interrupted,
            format!("interrupted; {n_repaired} of {n_tiles} damaged tiles are repaired"),
        )
        .with_next(format!("go on with: tilework repair {}", self.c.display()))
    }
}
