//! The matrices of a product: opened, matched in shape, and the dtype that they are computed in.

use crate::failure::CliError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilework_linalg::formula::Addend;
use tilework_linalg::input_guard::InputGuard;
use tilework_linalg::{Formula, MultiplySpec, Operand};
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
    /// What these paths, and D's, mean.
    pub paths_are: Paths,
    /// Use A's transpose.
    pub transpose_a: bool,
    /// Use B's transpose.
    pub transpose_b: bool,
    /// B is A, and one of the two is transposed.
    pub symmetric: bool,
    /// Compute in this type; by default the inputs' own.
    pub dtype: Option<Dtype>,
    /// Factor of the product.
    pub alpha: f64,
    /// What is added.
    pub add: Option<AddRequest>,
}

/// What paths mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// Files of this machine, relative to the working directory.
    Local,
    /// Files in the data roots of a cluster, `NAME:relative/path`.
    Named,
}

/// Which matrix is added, and its factor.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// D.
    pub d: PathBuf,
    /// beta.
    pub beta: f64,
}

/// Opened matrices that fit each other.
#[derive(Debug)]
pub struct Inputs {
    /// op(A).
    pub a: Operand,
    /// op(B).
    pub b: Operand,
    /// alpha, beta and D.
    pub formula: Formula,
    /// What the product's description says of them.
    pub spec: MultiplySpec,
    /// Notices when their files change.
    pub guard: InputGuard,
    /// What a conversion may lose, said to the user once.
    pub notes: Vec<String>,
    /// What their paths mean.
    pub paths_are: Paths,
}

impl InputRequest {
    /// Opens them and checks that they fit.
    pub fn open(&self, disk: &Arc<dyn Disk>) -> Result<Inputs, CliError> {
        let a = MatrixSource::open(&**disk, &self.a)?;
        let a = Arc::new(a);
        let b = if self.symmetric {
            Arc::clone(&a)
        } else {
            Arc::new(MatrixSource::open(&**disk, &self.b)?)
        };
        let d = self.add.as_ref().map(|add| MatrixSource::open(&**disk, &add.d));
        let d = d.transpose()?;
        let dtype = self.dtype(&a, &b, d.as_ref())?;
        let (a, b) = (
            Operand::new(a, self.transpose_a),
            Operand::new(b, self.transpose_b),
        );
        let addend = self.add.as_ref().zip(d).map(|(add, d)| Addend {
            d: Operand::new(Arc::new(d), false),
            beta: add.beta,
        });
        let formula = Formula::new(self.alpha, addend, dtype).map_err(|error| {
            CliError::usage(error.to_string()).with_next(format!(
                "scale the inputs instead, or choose another --{}",
                error.name
            ))
        })?;
        let notes = distinct(&a, &b)
            .chain(formula.d())
            .filter_map(|operand| conversion_note(operand.source(), dtype))
            .collect();
        let guard = InputGuard::new(Arc::clone(disk), distinct(&a, &b).chain(formula.d()));
        let guard = guard.map_err(|(path, error)| CliError::io("look at", &path, &error))?;
        if a.cols() != b.rows() {
            return Err(self.shapes_differ(&a, &b));
        }
        if let Some(d) = formula.d() {
            check_shape_of_d(&a, &b, d)?;
        }
        let spec = MultiplySpec {
            transpose_a: self.transpose_a,
            transpose_b: self.transpose_b,
            dtype,
            alpha: self.alpha,
            beta: self.add.as_ref().map(|add| add.beta),
            symmetric: self.symmetric,
        };
        Ok(Inputs {
            a,
            b,
            formula,
            spec,
            guard,
            notes,
            paths_are: self.paths_are,
        })
    }

    fn dtype(&self, a: &MatrixSource, b: &MatrixSource, d: Option<&MatrixSource>) -> Result<Dtype, CliError> {
        if let Some(dtype) = self.dtype {
            return Ok(dtype);
        }
        let elements: Vec<ElementType> = [a, b]
            .into_iter()
            .chain(d)
            .map(|source| source.info().element)
            .collect();
        if elements.iter().all(|element| *element == ElementType::F64) {
            return Ok(Dtype::F64);
        }
        if elements.iter().all(|element| *element == ElementType::F32) {
            return Ok(Dtype::F32);
        }
        let holds = |source: &MatrixSource| {
            let info = source.info();
            format!("`{}` holds {}", info.path.display(), info.element)
        };
        let message = match d {
            None if self.symmetric => format!("{}; products are computed in f64 or f32", holds(a)),
            None if elements[0] == elements[1] => format!(
                "both inputs hold {}; products are computed in f64 or f32",
                elements[0]
            ),
            None => format!("{} and {}", holds(a), holds(b)),
            Some(d) => format!("{}, {} and {}", holds(a), holds(b), holds(d)),
        };
        let next = format!(
            "add `--dtype f64`, which converts on reading: {} --dtype f64",
            self.command()
        );
        Err(CliError::usage(message).with_next(next))
    }

    /// The command that the user gave, as far as the inputs are concerned.
    fn command(&self) -> String {
        if self.symmetric {
            let rows = if self.transpose_b { " --rows" } else { "" };
            return format!("tilework gram {} -o G.npy{rows}", self.a.display());
        }
        let flag = |given: bool, flag: &str| if given { format!(" {flag}") } else { String::new() };
        let transposes = flag(self.transpose_a, "--transpose-a") + &flag(self.transpose_b, "--transpose-b");
        let alpha = if self.alpha == 1.0 {
            String::new()
        } else {
            format!(" --alpha {}", self.alpha)
        };
        let add = self.add.as_ref().map_or(String::new(), |add| match add.beta {
            1.0 => format!(" --add {}", add.d.display()),
            beta => format!(" --beta {beta} --add {}", add.d.display()),
        });
        format!(
            "tilework multiply {} {} -o C.npy{transposes}{alpha}{add}",
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
    /// A, B unless it is A, and D where there is one.
    pub fn operands(&self) -> impl Iterator<Item = &Operand> {
        distinct(&self.a, &self.b).chain(self.formula.d())
    }

    /// All inputs' identities, with paths by which a resume finds them from anywhere.
    pub fn identities(&self) -> Result<Vec<InputIdentity>, CliError> {
        self.operands()
            .map(|operand| {
                let mut identity = operand.source().identity()?;
                if self.paths_are == Paths::Local {
                    let absolute = std::path::absolute(&identity.path);
                    identity.path =
                        absolute.map_or(identity.path, |path| path.to_string_lossy().into_owned());
                }
                Ok(identity)
            })
            .collect()
    }

    /// Bytes read from all of them so far.
    pub fn bytes_read(&self) -> u64 {
        self.operands().map(|operand| operand.source().bytes_read()).sum()
    }
}

/// Both, or one of them if they are the same stored matrix.
fn distinct<'a>(a: &'a Operand, b: &'a Operand) -> impl Iterator<Item = &'a Operand> {
    let b = (!a.shares_source(b)).then_some(b);
    std::iter::once(a).chain(b)
}

/// D must have the shape of op(A)·op(B).
fn check_shape_of_d(a: &Operand, b: &Operand, d: &Operand) -> Result<(), CliError> {
    if (d.rows(), d.cols()) == (a.rows(), b.cols()) {
        return Ok(());
    }
    let path = d.source().info().path.display();
    let message = format!(
        "the shapes don't match: `{path}` is {} x {}, and the product that it is added to is {} x {}",
        d.rows(),
        d.cols(),
        a.rows(),
        b.cols()
    );
    Err(CliError::usage(message).with_next(format!("look at it: tilework inspect {path}")))
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
