//! `verify`: the certificate C·x = alpha·A·(B·x) + beta·D·x for a file, and every tile's checksum where the journal has it.

use super::damage::{Damage, finished};
use super::inputs::{InputRequest, Inputs, Paths};
use super::request::{Description, InputTrouble, stored_inputs, usage};
use crate::failure::CliError;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tilework_core::failure::Failure;
use tilework_core::ids::{RoundIdx, TaskIdx};
use tilework_linalg::certify::{Certificate, Claim, Product, certify};
use tilework_linalg::multiply::is_computed_with;
use tilework_linalg::operand::read_failure;
use tilework_linalg::tiles::{Grid, Tile};
use tilework_linalg::{Algorithm, Number};
use tilework_store::disk::Disk;
use tilework_store::element_type::{Dtype, ElementType};
use tilework_store::journal::Recovered;
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
    /// What is wrong with header and length, as parts of a sentence.
    pub wrong_frame: Vec<String>,
    /// How C is split, where its journal says so.
    pub grid: Option<Grid>,
    /// What helps where something is wrong.
    pub remedy: Remedy,
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
        self.bad_tiles.is_empty()
            && self.wrong_frame.is_empty()
            && self.certificate.as_ref().is_none_or(Certificate::holds)
    }
}

/// What helps against what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The damaged tiles can be computed again.
    Repair,
    /// They could be if the inputs were there.
    RepairWithInputs,
    /// Only the whole product can.
    ComputeAnew,
    /// Nothing can, for what was added is gone.
    None,
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
        wrong_frame: Vec::new(),
        grid: None,
        remedy: Remedy::ComputeAnew,
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

/// Verifies a finished output of ours by its journal: every byte, and the product if the inputs are still there.
pub fn verify_output(disk: &Arc<dyn Disk>, c: &Path) -> Result<Verification, CliError> {
    let name_inputs = format!("name the inputs too: tilework verify A.npy B.npy {}", c.display());
    let (recovered, description) = finished(&**disk, c, &name_inputs)?;
    let damage = match description.spec.dtype {
        Dtype::F64 => find_damage::<f64>(disk, c, &description, &recovered),
        Dtype::F32 => find_damage::<f32>(disk, c, &description, &recovered),
    }?;
    let grid = description.plan.grid;
    let mut verification = Verification {
        certificate: None,
        is_plain: description.spec.is_plain(),
        bad_tiles: damage.bad_tiles(),
        wrong_frame: damage.of_frame(&description),
        grid: Some(grid),
        remedy: Remedy::ComputeAnew,
        n_tiles_checked: recovered.commits.len() as u64,
        notes: Vec::new(),
        made_by: if description.spec.symmetric {
            "gram A"
        } else {
            "multiply A B"
        },
    };
    let trouble = InputTrouble::find(&**disk, &description, c)?;
    if damage.is_some() && damage.uncommitted.is_empty() && !damage.may_be_another_file(&grid) {
        verification.remedy = match &trouble {
            Some(InputTrouble::Replaced) => Remedy::None,
            Some(_) => Remedy::RepairWithInputs,
            None => Remedy::Repair,
        };
    }
    if let Some(trouble) = trouble {
        let what = trouble.told(c);
        verification
            .notes
            .push(format!("{what}: only the bytes of C were checked"));
    } else if damage.frame.is_some() {
        let note = "C can't be read as a matrix: only its bytes were checked";
        verification.notes.push(note.to_owned());
    } else {
        certify_with_stored_inputs(disk, c, &description, &recovered, &mut verification)?;
    }
    if verification.bad_tiles != damage.bad_tiles() {
        // Its bytes are what was committed, and that is no product of these inputs.
        verification.remedy = Remedy::ComputeAnew;
    }
    Ok(verification)
}

fn find_damage<T: Number>(
    disk: &Arc<dyn Disk>,
    c: &Path,
    description: &Description,
    recovered: &Recovered,
) -> Result<Damage, CliError> {
    let grid = &description.plan.grid;
    let (output, frame) = NpyOutput::open_to_verify(&**disk, c, grid.m, grid.n, T::DTYPE)?;
    Damage::find::<T>((&output, frame), grid, recovered)
}

fn certify_with_stored_inputs(
    disk: &Arc<dyn Disk>,
    c: &Path,
    description: &Description,
    recovered: &Recovered,
    verification: &mut Verification,
) -> Result<(), CliError> {
    let inputs = stored_inputs(description, c, Paths::Local);
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
