//! `verify`: the certificate C·x = alpha·A·(B·x) + beta·D·x for a file, and every tile's checksum where the journal has it.

use super::inputs::{InputRequest, Inputs, Paths};
use super::request::{Description, stored_inputs, stored_paths, usage};
use crate::failure::CliError;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tilework_core::failure::Failure;
use tilework_core::ids::{RoundIdx, TaskIdx};
use tilework_linalg::certify::{Certificate, Claim, Product, certify};
use tilework_linalg::multiply::{is_computed_with, is_intact};
use tilework_linalg::operand::read_failure;
use tilework_linalg::tiles::{Grid, Tile};
use tilework_linalg::{Algorithm, Number};
use tilework_runtime::FolderState;
use tilework_store::disk::Disk;
use tilework_store::element_type::{Dtype, ElementType};
use tilework_store::journal::{JobFiles, Recovered};
use tilework_store::matrix::MatrixSource;
use tilework_store::npy::output::NpyOutput;

/// Elements read at a time.
const READ_LEN: usize = 1 << 20;

/// What a verification found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The end-to-end certificate; `None` if the inputs are not there any more.
    pub certificate: Option<Certificate>,
    /// Whether C is held against the product itself, without factors and addend.
    pub is_plain: bool,
    /// Tiles whose bytes are not what was committed, or whose rows fail the certificate. Without a journal the whole
    /// output counts as one tile.
    pub bad_tiles: BTreeSet<u64>,
    /// Tiles compared with their committed checksums.
    pub n_tiles_checked: u64,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
    /// The command that makes such an output, without its options.
    pub made_by: &'static str,
}

impl Verification {
    /// Whether everything that was checked is right.
    pub fn holds(&self) -> bool {
        self.bad_tiles.is_empty() && self.certificate.as_ref().is_none_or(Certificate::holds)
    }
}

/// Verifies that `c` is the product of `inputs`.
pub fn verify_product(
    disk: &Arc<dyn Disk>,
    inputs: &InputRequest,
    c: &Path,
) -> Result<Verification, CliError> {
    let (inputs, product) = open(disk, inputs, c)?;
    let certificate = certify_block(&inputs, &product, Block::all_of(&inputs))?;
    let bad_tiles = if certificate.holds() {
        BTreeSet::new()
    } else {
        BTreeSet::from([0])
    };
    Ok(Verification {
        certificate: Some(certificate),
        is_plain: inputs.formula.is_plain(),
        bad_tiles,
        n_tiles_checked: 0,
        notes: Vec::new(),
        made_by: "multiply A B",
    })
}

/// Opens the inputs in the product's dtype, and the product, which must have their shape.
fn open(disk: &Arc<dyn Disk>, inputs: &InputRequest, c: &Path) -> Result<(Inputs, MatrixSource), CliError> {
    let product = MatrixSource::open(&**disk, c)?;
    let dtype = match product.info().element {
        ElementType::F32 => Dtype::F32,
        _ => Dtype::F64,
    };
    let inputs = InputRequest {
        dtype: Some(dtype),
        ..inputs.clone()
    }
    .open(disk)?;
    let (rows, cols) = (product.info().rows, product.info().cols);
    if (inputs.a.rows(), inputs.b.cols()) != (rows, cols) {
        return Err(usage(
            format!(
                "`{}` is {rows} x {cols}, but the product would be {} x {}",
                c.display(),
                inputs.a.rows(),
                inputs.b.cols()
            ),
            "check the order of the three files: tilework verify A.npy B.npy C.npy".into(),
        ));
    }
    Ok((inputs, product))
}

/// Verifies a finished output of ours by its journal: every tile's bytes, and the product if the inputs are still there.
pub fn verify_output(disk: &Arc<dyn Disk>, c: &Path) -> Result<Verification, CliError> {
    let recovered = match tilework_runtime::folder::inspect(&**disk, &JobFiles::beside(c))? {
        FolderState::Finished(recovered) => recovered,
        FolderState::Unfinished(_) => {
            return Err(usage(
                format!("`{}` is unfinished", c.display()),
                format!("finish it first: tilework resume {}", c.display()),
            ));
        }
        FolderState::Empty if !disk.stat(c).is_ok_and(|stat| stat.is_some()) => {
            return Err(usage(
                format!("`{}` does not exist", c.display()),
                "check the path".into(),
            ));
        }
        FolderState::Empty => {
            return Err(usage(
                format!("`{}` has no journal beside it", c.display()),
                format!("name the inputs too: tilework verify A.npy B.npy {}", c.display()),
            ));
        }
    };
    let description = description(&recovered)?;
    let grid = description.plan.grid;
    let bad_tiles = match description.spec.dtype {
        Dtype::F64 => tiles_with_other_bytes::<f64>(disk, c, &grid, &recovered),
        Dtype::F32 => tiles_with_other_bytes::<f32>(disk, c, &grid, &recovered),
    }?;
    let n_tiles_checked = recovered.commits.len() as u64;
    let mut verification = Verification {
        certificate: None,
        is_plain: description.spec.is_plain(),
        bad_tiles,
        n_tiles_checked,
        notes: Vec::new(),
        made_by: if description.spec.symmetric {
            "gram A"
        } else {
            "multiply A B"
        },
    };
    certify_with_stored_inputs(disk, c, &description, &recovered, &mut verification)?;
    Ok(verification)
}

fn certify_with_stored_inputs(
    disk: &Arc<dyn Disk>,
    c: &Path,
    description: &Description,
    recovered: &Recovered,
    verification: &mut Verification,
) -> Result<(), CliError> {
    let inputs = stored_inputs(description, c, Paths::Local);
    let paths = stored_paths(description, c, Paths::Local);
    for (stored, path) in description.inputs.iter().zip(&paths) {
        let unchanged = MatrixSource::open(&**disk, path)
            .ok()
            .and_then(|source| source.identity().ok());
        let unchanged = unchanged.filter(|now| {
            !matches!(
                stored.difference(now),
                tilework_store::identity::IdentityDifference::Changed { .. }
            )
        });
        if unchanged.is_none() {
            let what = if std::path::absolute(c).is_ok_and(|c| c == *path) {
                format!("what was added was the old `{}`", c.display())
            } else {
                format!("the input `{}` is gone or changed", path.display())
            };
            verification
                .notes
                .push(format!("{what}: only the bytes of C were checked"));
            return Ok(());
        }
    }
    let (inputs, product) = open(disk, &inputs, c)?;
    let mut certificate = certify_block(&inputs, &product, Block::all_of(&inputs))?;
    let grid = &description.plan.grid;
    if description.plan.algorithm == Algorithm::Strassen {
        let held = hold_by_tiles(&inputs, &product, grid, recovered, &mut certificate)?;
        if held.n_rows > 0 {
            verification.notes.push(format!(
                "{} rows are outside the classical bound, and were held to that of Strassen's algorithm, tile by tile",
                held.n_rows
            ));
        }
        verification.bad_tiles.extend(held.bad_tiles);
    }
    let known = verification.bad_tiles.clone();
    let named = (certificate.bad_rows.iter()).flat_map(|row| bad_tiles_of_row(grid, *row, &known));
    verification.bad_tiles.extend(named);
    verification.certificate = Some(certificate);
    Ok(())
}

/// Rows that were certified anew by their tiles, and the tiles that failed.
struct HeldByTiles {
    n_rows: usize,
    bad_tiles: BTreeSet<u64>,
}

/// Holds rows that the classical bound refuses to the bounds of what their tiles were computed with. Rows without any tile by
/// Strassen's algorithm stay refused.
fn hold_by_tiles(
    inputs: &Inputs,
    product: &MatrixSource,
    grid: &Grid,
    recovered: &Recovered,
    certificate: &mut Certificate,
) -> Result<HeldByTiles, CliError> {
    let algorithm_of = |task: TaskIdx| match recovered.commits.get(&(RoundIdx(0), task)) {
        Some(commit) if is_computed_with(commit, Algorithm::Strassen) => Algorithm::Strassen,
        _ => Algorithm::Classical,
    };
    let is_strassen = |task: TaskIdx| algorithm_of(task) == Algorithm::Strassen;
    let (doubted, refused): (Vec<u64>, Vec<u64>) =
        (certificate.bad_rows.iter()).partition(|row| grid.tasks_of_row(**row).any(is_strassen));
    let tasks: BTreeSet<TaskIdx> = (doubted.iter()).flat_map(|row| grid.tasks_of_row(*row)).collect();
    let mut held = HeldByTiles {
        n_rows: doubted.len(),
        bad_tiles: BTreeSet::new(),
    };
    let share = |certificate: &Certificate| certificate.residual_max / certificate.residual_bound;
    let mut bad_rows: BTreeSet<u64> = refused.iter().copied().collect();
    let mut worst: Option<Certificate> = None;
    for task in tasks {
        let Tile { rows, cols } = grid.tile(task);
        let block = Block {
            rows,
            cols,
            algorithm: algorithm_of(task),
        };
        let of_tile = certify_block(inputs, product, block)?;
        if !of_tile.holds() {
            held.bad_tiles.insert(task.0);
            bad_rows.extend(&of_tile.bad_rows);
        }
        if worst.as_ref().is_none_or(|worst| share(&of_tile) > share(worst)) {
            worst = Some(of_tile);
        }
    }
    certificate.bad_rows = bad_rows.into_iter().collect();
    if let Some(worst) = worst.filter(|_| refused.is_empty()) {
        certificate.residual_max = worst.residual_max;
        certificate.residual_bound = worst.residual_bound;
    }
    Ok(held)
}

/// A bad row names its tiles, unless the checksums already tell which one it is.
fn bad_tiles_of_row(grid: &Grid, row: u64, known: &BTreeSet<u64>) -> Vec<u64> {
    let tasks: Vec<u64> = grid.tasks_of_row(row).map(|task| task.0).collect();
    if tasks.iter().any(|task| known.contains(task)) {
        Vec::new()
    } else {
        tasks
    }
}

fn description(recovered: &Recovered) -> Result<Description, CliError> {
    Description::from_text(recovered.job_text.as_deref().unwrap_or_default()).map_err(|error| {
        usage(
            format!("the journal is of another version: {error}"),
            "name the inputs too: tilework verify A B C".into(),
        )
    })
}

fn tiles_with_other_bytes<T: Number>(
    disk: &Arc<dyn Disk>,
    c: &Path,
    grid: &Grid,
    recovered: &Recovered,
) -> Result<BTreeSet<u64>, CliError> {
    let output = NpyOutput::open_existing(&**disk, c, grid.m, grid.n, T::DTYPE)?;
    let mut buffer = vec![T::ZERO; READ_LEN];
    let mut bad = BTreeSet::new();
    let n_tiles = grid.n_tiles();
    for commit in recovered.commits.values() {
        let task = commit.attempt.task;
        if task.0 >= n_tiles {
            return Err(usage(
                format!("the journal has a commit of task {task}, and the output has {n_tiles} tiles"),
                "name the inputs too: tilework verify A B C".into(),
            ));
        }
        if !is_intact(&output, grid, commit, &mut buffer)? {
            bad.insert(commit.attempt.task.0);
        }
    }
    bad.extend(
        (0..grid.n_tiles()).filter(|task| !recovered.commits.contains_key(&(RoundIdx(0), TaskIdx(*task)))),
    );
    Ok(bad)
}

/// What is certified at once, and what it was computed with.
struct Block {
    rows: Range<u64>,
    cols: Range<u64>,
    algorithm: Algorithm,
}

impl Block {
    /// The whole product, by whoever computed it.
    fn all_of(inputs: &Inputs) -> Block {
        Block {
            rows: 0..inputs.a.rows(),
            cols: 0..inputs.b.cols(),
            algorithm: Algorithm::Classical,
        }
    }
}

/// Certifies a block in the dtype that the inputs were opened in.
fn certify_block(inputs: &Inputs, product: &MatrixSource, block: Block) -> Result<Certificate, CliError> {
    match inputs.spec.dtype {
        Dtype::F64 => certify_block_as::<f64>(inputs, product, block),
        Dtype::F32 => certify_block_as::<f32>(inputs, product, block),
    }
}

fn certify_block_as<T: Number>(
    inputs: &Inputs,
    product: &MatrixSource,
    block: Block,
) -> Result<Certificate, CliError> {
    let claim = Claim {
        a: &inputs.a,
        b: &inputs.b,
        formula: &inputs.formula,
        rows: block.rows,
        cols: block.cols,
        algorithm: block.algorithm,
        seed: unpredictable_seed(),
    };
    let mut buffer = vec![T::ZERO; READ_LEN];
    Ok(certify(&claim, &StoredProduct(product), &mut buffer, &|| Ok(()))?)
}

/// A matrix file as a product to be certified.
struct StoredProduct<'a>(&'a MatrixSource);

impl<T: Number> Product<T> for StoredProduct<'_> {
    fn read(&self, rows: Range<u64>, cols: Range<u64>, out: &mut [T]) -> Result<(), Failure> {
        let (n_rows, n_cols) = ((rows.end - rows.start) as usize, (cols.end - cols.start) as usize);
        let out = &mut out[..n_rows * n_cols];
        let (row_stride, col_stride) = self.0.read_block(rows, cols, out).map_err(read_failure)?;
        if col_stride != 1 && n_cols > 1 {
            let stored = out.to_vec();
            for (at, element) in out.iter_mut().enumerate() {
                *element = stored[at / n_cols * row_stride + at % n_cols * col_stride];
            }
        }
        Ok(())
    }
}

/// Another x at each verification, so that no result can be made to fit it: the standard library's hash keys are random.
fn unpredictable_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for chunk in seed.chunks_mut(8) {
        chunk.copy_from_slice(&RandomState::new().hash_one(0).to_le_bytes());
    }
    seed
}
