//! `verify`: the certificate C·x = alpha·A·(B·x) + beta·D·x for a file, and every tile's checksum where the journal has it.

use super::inputs::{InputRequest, Inputs};
use super::request::{Description, stored_inputs, usage};
use crate::failure::CliError;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tilework_core::failure::Failure;
use tilework_core::ids::{RoundIdx, TaskIdx};
use tilework_linalg::Number;
use tilework_linalg::certify::{Certificate, Claim, Product, certify};
use tilework_linalg::multiply::is_intact;
use tilework_linalg::operand::read_failure;
use tilework_linalg::tiles::Grid;
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
    let certificate = match dtype {
        Dtype::F64 => certify_file::<f64>(&inputs, &product),
        Dtype::F32 => certify_file::<f32>(&inputs, &product),
    }?;
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
    certify_with_stored_inputs(disk, c, &description, &mut verification)?;
    Ok(verification)
}

fn certify_with_stored_inputs(
    disk: &Arc<dyn Disk>,
    c: &Path,
    description: &Description,
    verification: &mut Verification,
) -> Result<(), CliError> {
    let inputs = stored_inputs(description);
    for stored in &description.inputs {
        let path = Path::new(&stored.path);
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
    let certified = verify_product(disk, &inputs, c)?;
    if let Some(certificate) = &certified.certificate {
        let grid = &description.plan.grid;
        let known = verification.bad_tiles.clone();
        verification.bad_tiles.extend(
            certificate
                .bad_rows
                .iter()
                .flat_map(|row| bad_tiles_of_row(grid, *row, &known)),
        );
    }
    verification.certificate = certified.certificate;
    Ok(())
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
    for commit in recovered.commits.values() {
        if !is_intact(&output, grid, commit, &mut buffer)? {
            bad.insert(commit.attempt.task.0);
        }
    }
    bad.extend(
        (0..grid.n_tiles()).filter(|task| !recovered.commits.contains_key(&(RoundIdx(0), TaskIdx(*task)))),
    );
    Ok(bad)
}

fn certify_file<T: Number>(inputs: &Inputs, product: &MatrixSource) -> Result<Certificate, CliError> {
    let claim = Claim {
        a: &inputs.a,
        b: &inputs.b,
        formula: &inputs.formula,
        rows: 0..inputs.a.rows(),
        cols: 0..inputs.b.cols(),
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
