//! The two matrices of a product: opened, matched in shape, and the dtype that they are computed in.

use crate::failure::CliError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilework_linalg::input_guard::InputGuard;
use tilework_linalg::{MultiplySpec, Operand};
use tilework_store::disk::Disk;
use tilework_store::element_type::{Dtype, ElementType};
use tilework_store::identity::InputIdentity;
use tilework_store::matrix::MatrixSource;

/// Which matrices, and how to use them.
#[derive(Debug, Clone)]
pub struct InputRequest {
    /// A.
    pub a: PathBuf,
    /// B.
    pub b: PathBuf,
    /// Use A's transpose.
    pub transpose_a: bool,
    /// Use B's transpose.
    pub transpose_b: bool,
    /// B is A, and one of the two is transposed.
    pub symmetric: bool,
    /// Compute in this type; by default the inputs' own.
    pub dtype: Option<Dtype>,
}

/// Two opened matrices that can be multiplied.
#[derive(Debug)]
pub struct Inputs {
    /// op(A).
    pub a: Operand,
    /// op(B).
    pub b: Operand,
    /// What the product's description says of them.
    pub spec: MultiplySpec,
    /// Notices when their files change.
    pub guard: InputGuard,
    /// What a conversion may lose, said to the user once.
    pub notes: Vec<String>,
}

impl InputRequest {
    /// Opens both and checks that they fit.
    pub fn open(&self, disk: &Arc<dyn Disk>) -> Result<Inputs, CliError> {
        let a = MatrixSource::open(&**disk, &self.a)?;
        let a = Arc::new(a);
        let b = if self.symmetric {
            Arc::clone(&a)
        } else {
            Arc::new(MatrixSource::open(&**disk, &self.b)?)
        };
        let dtype = self.dtype(&a, &b)?;
        let (a, b) = (
            Operand::new(a, self.transpose_a),
            Operand::new(b, self.transpose_b),
        );
        let notes = distinct(&a, &b)
            .filter_map(|operand| conversion_note(operand.source(), dtype))
            .collect();
        let guard = InputGuard::new(Arc::clone(disk), [&a, &b]);
        let guard = guard.map_err(|error| CliError::io("look at", &self.a, &error))?;
        if a.cols() != b.rows() {
            return Err(self.shapes_differ(&a, &b));
        }
        let spec = MultiplySpec {
            transpose_a: self.transpose_a,
            transpose_b: self.transpose_b,
            dtype,
            symmetric: self.symmetric,
        };
        Ok(Inputs {
            a,
            b,
            spec,
            guard,
            notes,
        })
    }

    fn dtype(&self, a: &MatrixSource, b: &MatrixSource) -> Result<Dtype, CliError> {
        if let Some(dtype) = self.dtype {
            return Ok(dtype);
        }
        match (a.info().element, b.info().element) {
            (ElementType::F64, ElementType::F64) => Ok(Dtype::F64),
            (ElementType::F32, ElementType::F32) => Ok(Dtype::F32),
            (a_element, b_element) => {
                let message = if self.symmetric {
                    let a = self.a.display();
                    format!("`{a}` holds {a_element}; products are computed in f64 or f32")
                } else if a_element == b_element {
                    format!("both inputs hold {a_element}; products are computed in f64 or f32")
                } else {
                    let (a, b) = (self.a.display(), self.b.display());
                    format!("`{a}` holds {a_element} and `{b}` holds {b_element}")
                };
                let next = format!(
                    "add `--dtype f64`, which converts on reading: {} --dtype f64",
                    self.command()
                );
                Err(CliError::usage(message).with_next(next))
            }
        }
    }

    /// The command that the user gave, as far as the inputs are concerned.
    fn command(&self) -> String {
        if self.symmetric {
            let rows = if self.transpose_b { " --rows" } else { "" };
            return format!("tilework gram {} -o G.npy{rows}", self.a.display());
        }
        let flag = |given: bool, flag: &str| if given { format!(" {flag}") } else { String::new() };
        let transposes = flag(self.transpose_a, "--transpose-a") + &flag(self.transpose_b, "--transpose-b");
        format!(
            "tilework multiply {} {} -o C.npy{transposes}",
            self.a.display(),
            self.b.display()
        )
    }

    fn shapes_differ(&self, a: &Operand, b: &Operand) -> CliError {
        let shape = |operand: &Operand, path: &Path, transposed: bool| {
            let info = operand.source().info();
            let how = if transposed { ", transposed" } else { "" };
            format!("`{}` is {} x {}{how}", path.display(), info.rows, info.cols)
        };
        let message = format!(
            "the shapes don't match: {}, {}; the columns of the first ({}) must be the rows of the second ({})",
            shape(a, &self.a, self.transpose_a),
            shape(b, &self.b, self.transpose_b),
            a.cols(),
            b.rows(),
        );
        let look = || format!("look at them: tilework inspect {}", self.b.display());
        CliError::usage(message).with_next(self.fitting_transposes(a, b).unwrap_or_else(look))
    }

    /// Which `--transpose` would make the shapes fit, if one does.
    fn fitting_transposes(&self, a: &Operand, b: &Operand) -> Option<String> {
        let (a, b) = (a.source().info(), b.source().info());
        let fits = |transpose_a: bool, transpose_b: bool| {
            (if transpose_a { a.rows } else { a.cols }) == if transpose_b { b.cols } else { b.rows }
        };
        [(false, true), (true, false), (true, true), (false, false)]
            .into_iter()
            .find(|(ta, tb)| fits(*ta, *tb))
            .map(|(transpose_a, transpose_b)| {
                format!(
                    "they would fit so: {}",
                    InputRequest {
                        transpose_a,
                        transpose_b,
                        ..self.clone()
                    }
                    .command()
                )
            })
    }
}

impl Inputs {
    /// The inputs' identities, with absolute paths, so that a resume finds them from anywhere.
    pub fn identities(&self) -> Result<Vec<InputIdentity>, CliError> {
        distinct(&self.a, &self.b)
            .map(|operand| {
                let mut identity = operand.source().identity()?;
                let absolute = std::path::absolute(&identity.path);
                identity.path = absolute.map_or(identity.path, |path| path.to_string_lossy().into_owned());
                Ok(identity)
            })
            .collect()
    }

    /// Bytes read from them so far.
    pub fn bytes_read(&self) -> u64 {
        distinct(&self.a, &self.b)
            .map(|operand| operand.source().bytes_read())
            .sum()
    }
}

/// Both, or one of them if they are the same stored matrix.
fn distinct<'a>(a: &'a Operand, b: &'a Operand) -> impl Iterator<Item = &'a Operand> {
    let b = (!a.shares_source(b)).then_some(b);
    std::iter::once(a).chain(b)
}

fn conversion_note(source: &MatrixSource, dtype: Dtype) -> Option<String> {
    let exact_bits = match dtype {
        Dtype::F64 => 53,
        Dtype::F32 => 24,
    };
    let path = source.info().path.display();
    match source.info().element {
        element @ (ElementType::I64 | ElementType::U64) => Some(format!(
            "`{path}` holds {element}: values beyond 2^{exact_bits} are rounded to {dtype}"
        )),
        element @ (ElementType::I32 | ElementType::U32 | ElementType::F64) if dtype == Dtype::F32 => {
            Some(format!("`{path}` holds {element}: values are rounded to {dtype}"))
        }
        _ => None,
    }
}
