//! The job `multiply`: one round, one task per tile of C.

use crate::certify::{Claim, Product, certify};
use crate::check::Verdict;
use crate::formula::{Formula, FormulaText};
use crate::gram;
use crate::input_guard::InputGuard;
use crate::layout::CERTIFY_LEN;
use crate::mirror;
use crate::operand::{Number, Operand};
use crate::pipeline::{CHECKED, ComputedTile, TileRequest, compute_tile};
use crate::plan::{Algorithm, Plan};
use crate::tiles::{Grid, Tile};
use crate::workspace::{Lent, Workspace};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tilework_core::driver::Needs;
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{JobId, RoundIdx, TaskIdx};
use tilework_core::record::Commit;
use tilework_kernel::Simd;
use tilework_runtime::{Job, Next, TaskContext, TaskSummary};
use tilework_store::disk::{Disk, FileId, is_disk_full};
use tilework_store::element_type::Dtype;
use tilework_store::npy::output::{NpyOutput, OutputError};

/// Name of the job in its description.
pub const KIND: &str = "multiply";
/// Version of the job's code, as far as stored jobs depend on it.
pub const VERSION: u32 = 3;
/// Within one numerics version, equal inputs and dtype give equal bits, with Strassen's algorithm on equal grids: it covers the order
/// of additions (`Element::KC`), the order of Strassen's seven products, and the steps of 8 rows and 48 columns at which it halves
/// tiles.
pub const NUMERICS_VERSION: u32 = 2;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MultiplySpec {
    /// Use A's transpose.
    pub transpose_a: bool,
    /// Use B's transpose.
    pub transpose_b: bool,
    /// What is computed in, and written.
    pub dtype: Dtype,
    /// Factor of op(A)·op(B), as it was given.
    #[serde(default = "one")]
    pub alpha: f64,
    /// Factor of D, as it was given, where D is added: then D is the third input.
    #[serde(default)]
    pub beta: Option<f64>,
    /// B is A, and op(B) is op(A)': the job is [`gram`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub symmetric: bool,
}

/// What jobs have that were stored before there were factors.
fn one() -> f64 {
    1.0
}

impl MultiplySpec {
    /// Name of the job in its description.
    pub fn kind(&self) -> &'static str {
        if self.symmetric { gram::KIND } else { KIND }
    }

    /// Version of the job's code.
    pub fn version(&self) -> u32 {
        if self.symmetric { gram::VERSION } else { VERSION }
    }

    /// Whether C is op(A)·op(B) itself.
    pub fn is_plain(&self) -> bool {
        self.alpha == 1.0 && self.beta.is_none()
    }

    /// The formula as people write it.
    pub fn formula(&self) -> FormulaText {
        FormulaText {
            transpose_a: self.transpose_a,
            transpose_b: self.transpose_b,
            alpha: self.alpha,
            beta: self.beta,
        }
    }
}

/// What a run of the job needs to know.
#[derive(Debug, Clone)]
pub struct MultiplySettings {
    /// The plan.
    pub plan: Plan,
    /// What is made of op(A)·op(B); its D has C's shape.
    pub formula: Formula,
    /// Instruction set.
    pub simd: Simd,
    /// The job's id, which seeds the checks.
    pub job: JobId,
    /// Where the incomplete output is.
    pub partial: PathBuf,
    /// Notices inputs that change.
    pub guard: InputGuard,
}

/// A started multiplication.
#[derive(Debug)]
pub struct Multiply<T> {
    disk: Arc<dyn Disk>,
    a: Operand,
    b: Operand,
    settings: MultiplySettings,
    output: OnceLock<NpyOutput>,
    /// Buffers for reading back, one for each thread that does.
    read_back: Mutex<Vec<Vec<T>>>,
}

/// A checked tile on its way to the disk.
#[derive(Debug)]
pub struct CheckedTile(Lent);

impl<T: Number> Multiply<T> {
    /// A multiplication of `a` and `b`, whose shapes match the plan's.
    ///
    /// # Panics
    /// If the plan computes half of a symmetric product and the formula adds a D, which need not be symmetric.
    pub fn new(disk: Arc<dyn Disk>, a: Operand, b: Operand, settings: MultiplySettings) -> Multiply<T> {
        let adds_to_half = settings.plan.grid.symmetric && settings.formula.addend().is_some();
        assert!(!adds_to_half, "a symmetric product takes no addend");
        Multiply {
            disk,
            a,
            b,
            settings,
            output: OnceLock::new(),
            read_back: Mutex::new(Vec::new()),
        }
    }

    /// The same, whose tiles go into a file that is open already: of a finished product that is repaired.
    #[must_use]
    pub fn writing_to(self, output: NpyOutput) -> Multiply<T> {
        Multiply {
            output: OnceLock::from(output),
            ..self
        }
    }

    /// Bytes of output written by this run.
    pub fn bytes_written(&self) -> u64 {
        self.output.get().map_or(0, NpyOutput::bytes_written)
    }

    fn output(&self) -> &NpyOutput {
        self.output.get().expect("the runtime opens outputs first")
    }

    fn tile(&self, task: TaskIdx) -> Tile {
        self.settings.plan.grid.tile(task)
    }

    /// Random for everyone who does not know the attempt: x differs for each, so a wrong result can't be made to fit.
    fn seed(&self, context: &TaskContext<'_>) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&self.settings.job.0);
        seed[16..24].copy_from_slice(&context.task.0.to_le_bytes());
        seed[24..28].copy_from_slice(&context.epoch.0.to_le_bytes());
        seed[28] = context.attempt;
        seed
    }

    /// Turns the verdict on a tile into the summary that its commit holds.
    fn judge(
        &self,
        tile: &Tile,
        computed: &ComputedTile,
        seed: [u8; 32],
        context: &TaskContext<'_>,
    ) -> Result<TaskSummary, Failure> {
        let (residual, residual_bound) = match computed.verdict {
            Verdict::Passed { residual_max, .. } => (residual_max, computed.residual_bound),
            Verdict::Failed { row, residual } => {
                let row = tile.rows.start + row as u64;
                let bound = computed.residual_bound;
                let text = format!(
                    "row {row} of tile {} failed its check: {residual:.2e} > {bound:.2e}",
                    context.task
                );
                return Err(Failure::corrupt(text));
            }
            Verdict::Differs { row } => {
                let row = tile.rows.start + row as u64;
                return Err(Failure::corrupt(format!(
                    "row {row} of tile {} has other bits when it is computed once more",
                    context.task
                )));
            }
            Verdict::NotFinite => {
                let claim = Claim {
                    a: &self.a,
                    b: &self.b,
                    formula: &self.settings.formula,
                    rows: tile.rows.clone(),
                    cols: tile.cols.clone(),
                    algorithm: computed.algorithm,
                    seed,
                };
                let c = TileProduct {
                    tile,
                    elements: computed.buffer.as_slice::<T>(),
                    leading_dimension: self.settings.plan.layout.leading_dimension,
                };
                let mut buffer = vec![T::ZERO; CERTIFY_LEN];
                let certificate = certify(&claim, &c, &mut buffer, &|| context.check_cancelled())?;
                if let Some(row) = certificate.bad_rows.first() {
                    return Err(Failure::corrupt(format!(
                        "row {row} of tile {} failed its check",
                        context.task
                    )));
                }
                (certificate.residual_max, certificate.residual_bound)
            }
        };
        Ok(TaskSummary {
            checked: CHECKED,
            crc32c: computed.crc32c,
            residual,
            residual_bound,
            output: computed.algorithm.to_string().into_bytes(),
        })
    }
}

/// Elements read back at a time.
const READ_BACK_LEN: usize = 128 * 1024;

impl<T: Number> Job for Multiply<T> {
    type Workspace = Workspace<T>;
    type Output = CheckedTile;

    fn n_tasks(&self) -> u64 {
        self.settings.plan.grid.n_tiles()
    }

    fn needs(&self) -> Needs {
        let plan = &self.settings.plan;
        Needs {
            memory_bytes: plan.layout.worker_bytes(),
            expected_ms: (plan.task_seconds_on_a_worker() * 1e3) as u64,
            deadline_ms: None,
        }
    }

    fn open_outputs(&self, resumed: bool) -> Result<(), Failure> {
        let (grid, partial) = (&self.settings.plan.grid, &self.settings.partial);
        let opened = if resumed {
            NpyOutput::open_existing(&*self.disk, partial, grid.m, grid.n, T::DTYPE)
        } else {
            NpyOutput::create(&*self.disk, partial, grid.m, grid.n, T::DTYPE)
        };
        let _ = self.output.set(opened.map_err(output_failure)?);
        Ok(())
    }

    fn workspace(&self) -> Result<Workspace<T>, Failure> {
        Workspace::new(self.settings.plan.layout, self.settings.simd)
    }

    fn run(
        &self,
        workspace: &mut Workspace<T>,
        context: &TaskContext<'_>,
    ) -> Result<(CheckedTile, TaskSummary), Failure> {
        let (grid, tile) = (&self.settings.plan.grid, self.tile(context.task));
        let seed = self.seed(context);
        let request = TileRequest {
            a: &self.a,
            b: &self.b,
            formula: &self.settings.formula,
            grid,
            seed,
        };
        let computed = compute_tile(workspace, &request, context)?;
        let judged = self.judge(&tile, &computed, seed, context);
        // What is judged to be wrong may have been read of an input that has changed.
        self.settings.guard.check()?;
        let summary = judged?;
        Ok((CheckedTile(computed.buffer), summary))
    }

    fn write(&self, task: TaskIdx, output: CheckedTile) -> Result<(), Failure> {
        let tile = self.tile(task);
        let ld = self.settings.plan.layout.leading_dimension;
        let elements = &output.0.as_slice::<T>()[..tile.n_rows() * ld];
        let mut written =
            self.output()
                .write_rows(tile.rows.start, tile.cols.clone(), elements, ld, tile.n_rows());
        if self.settings.plan.grid.symmetric {
            written = written.and_then(|()| mirror::write(self.output(), &tile, elements, ld));
        }
        // The next tile may use the memory while this one is synced.
        drop(output);
        written
            .and_then(|()| self.output().sync_data())
            .map_err(output_failure)
    }

    fn is_intact(&self, commit: &Commit) -> Result<bool, Failure> {
        let buffers = || self.read_back.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = buffers().pop().unwrap_or_default();
        buffer.resize(READ_BACK_LEN, T::ZERO);
        let intact = is_intact(self.output(), &self.settings.plan.grid, commit, &mut buffer);
        buffers().push(buffer);
        intact
    }

    fn advance(
        &self,
        _round: RoundIdx,
        _commits: &mut dyn Iterator<Item = &Commit>,
    ) -> Result<Next<'_>, Failure> {
        Ok(Next::Done)
    }

    fn output_file(&self) -> Result<FileId, Failure> {
        self.output().file_id().map_err(output_failure)
    }

    fn seal(&self) -> Result<(), Failure> {
        self.output().sync_data().map_err(output_failure)?;
        self.settings.guard.check()
    }
}

/// Whether a tile was computed with `algorithm`, by what its commit says.
pub fn is_computed_with(commit: &Commit, algorithm: Algorithm) -> bool {
    commit.output == algorithm.to_string().as_bytes()
}

/// Whether a tile, and its mirror image if it has one, is in the file as it was committed. `buffer` holds what is read at a time.
pub fn is_intact<T: Number>(
    output: &NpyOutput,
    grid: &Grid,
    commit: &Commit,
    buffer: &mut [T],
) -> Result<bool, Failure> {
    let tile = grid.tile(commit.attempt.task);
    if tile_crc(output, &tile, buffer)? != commit.crc32c {
        return Ok(false);
    }
    Ok(!grid.symmetric || mirror::is_exact(output, &tile, buffer)?)
}

/// CRC32C of a tile's rows as they are in the file. `buffer` holds what is read at a time.
pub fn tile_crc<T: Number>(output: &NpyOutput, tile: &Tile, buffer: &mut [T]) -> Result<u32, Failure> {
    let mut crc = 0;
    for row in tile.rows.clone() {
        let mut start = tile.cols.start;
        while start < tile.cols.end {
            let end = tile.cols.end.min(start + buffer.len() as u64);
            let len = (end - start) as usize;
            output
                .read_rows(row, start..end, &mut buffer[..len], len, 1)
                .map_err(output_failure)?;
            crc = crc32c::crc32c_append(crc, bytemuck::cast_slice(&buffer[..len]));
            start = end;
        }
    }
    Ok(crc)
}

/// A failed access to the output as the driver understands it.
pub fn output_failure(error: OutputError) -> Failure {
    let cause = match &error {
        OutputError::DiskFull { .. } => Cause::DiskFull,
        // A name may lack room too.
        OutputError::Io { source, .. } if is_disk_full(source) => Cause::DiskFull,
        _ => Cause::Storage,
    };
    Failure::fatal(cause, error.to_string())
}

/// A tile in memory as a product to be certified.
struct TileProduct<'a, T> {
    tile: &'a Tile,
    elements: &'a [T],
    leading_dimension: usize,
}

impl<T: Number> Product<T> for TileProduct<'_, T> {
    fn read(&self, rows: Range<u64>, cols: Range<u64>, out: &mut [T]) -> Result<(), Failure> {
        let n_cols = (cols.end - cols.start) as usize;
        let col = (cols.start - self.tile.cols.start) as usize;
        for (row, out) in rows.zip(out.chunks_mut(n_cols)) {
            let at = (row - self.tile.rows.start) as usize * self.leading_dimension + col;
            out.copy_from_slice(&self.elements[at..at + n_cols]);
        }
        Ok(())
    }
}
