//! What is asked, held against what stands at the output: start afresh, go on, or refuse and say why.

use super::inputs::{AddRequest, InputRequest, Inputs, Paths};
use crate::failure::{CliError, Exit};
use crate::job_state::is_product;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use tilework_core::driver::Assign;
use tilework_kernel::Simd;
use tilework_linalg::multiply::NUMERICS_VERSION;
use tilework_linalg::plan::StoredPlan;
use tilework_linalg::{AlgorithmChoice, MultiplySpec, Number, Operand, Plan, PlanError, PlanRequest};
use tilework_runtime::description::{FORMAT_VERSION, InputsDifference};
use tilework_runtime::{FolderState, JobDescription};
use tilework_store::disk::{Disk, FileStat, parent_dir};
use tilework_store::identity::{IdentityDifference, InputIdentity};
use tilework_store::journal::{JobFiles, Recovered};
use tilework_store::matrix::{MatrixSource, OpenMatrixError, ReadMatrixError};
use tilework_store::npy::header::npy_len;
use tilework_store::npy::output::OutputError;

/// A stored product.
pub type Description = JobDescription<MultiplySpec, StoredPlan>;

/// What the process may use.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    /// The whole process's memory.
    pub memory_bytes: u64,
    /// Threads of all workers together.
    pub n_threads: usize,
    /// Workers in the process.
    pub n_workers: usize,
    /// Processes that share the job, each with that memory and those threads.
    pub n_processes: usize,
    /// How tasks find them.
    pub assign: Assign,
    /// Instruction set.
    pub simd: Simd,
}

/// A product to be computed.
#[derive(Debug, Clone)]
pub struct ProductRequest {
    /// The matrices.
    pub inputs: InputRequest,
    /// C.
    pub output: PathBuf,
    /// With what.
    pub resources: Resources,
    /// A finished C may be replaced.
    pub overwrite: bool,
    /// An unfinished C is discarded.
    pub restart: bool,
    /// How tiles may be computed.
    pub algorithm: AlgorithmChoice,
}

/// What to do, decided from the journal.
#[derive(Debug)]
pub enum Course {
    /// Nothing usable is there.
    Fresh,
    /// Go on with the stored job.
    Resume(Box<Description>),
}

impl Resources {
    fn plan_request<'a>(&self, inputs: &'a Inputs, algorithm: AlgorithmChoice) -> PlanRequest<'a> {
        PlanRequest {
            a: &inputs.a,
            b: &inputs.b,
            d: inputs.formula.d(),
            symmetric: inputs.spec.symmetric,
            memory_bytes: self.memory_bytes,
            n_threads: self.n_threads,
            n_workers: self.n_workers,
            n_processes: self.n_processes,
            simd: self.simd,
            algorithm,
        }
    }

    /// The least memory that a process like these needs for a task of the plan.
    pub fn bytes_needed<T: Number>(&self, inputs: &Inputs, plan: &Plan) -> u64 {
        let stored = plan.stored();
        let request = self.plan_request(inputs, AlgorithmChoice::Only(stored.algorithm));
        request.bytes_needed::<T>(stored)
    }

    /// Plans the product of `inputs`, as an earlier run did or anew.
    pub fn plan<T: Number>(
        &self,
        inputs: &Inputs,
        algorithm: AlgorithmChoice,
        stored: Option<&Description>,
    ) -> Result<Plan, CliError> {
        let (rows, cols, dtype) = (inputs.a.rows(), inputs.b.cols(), T::DTYPE);
        if npy_len(rows, cols, dtype) > i64::MAX as u64 {
            return Err(OutputError::TooLarge { rows, cols, dtype }.into());
        }
        let request = self.plan_request(inputs, algorithm);
        let plan = match stored {
            Some(description) => request.plan_stored::<T>(description.plan),
            None => request.plan::<T>(),
        };
        let mib = |bytes: u64| format!("{}MiB", bytes.div_ceil(1 << 20));
        plan.map_err(|error| match error {
            PlanError::TooLittleMemory {
                memory_bytes,
                smallest_bytes,
            } => {
                let tiles = if stored.is_some() {
                    "the output's tiles, decided once, need"
                } else {
                    "this needs"
                };
                let (allowed, smallest) = (mib(memory_bytes), mib(smallest_bytes));
                CliError::new(
                    Exit::Resources,
                    format!("{allowed} of memory are too few: {tiles} {smallest}"),
                )
                .with_next(format!("allow it: --memory {smallest}"))
            }
            PlanError::TooManyTasks { .. } => {
                CliError::new(Exit::Resources, error.to_string()).with_next("allow more with --memory")
            }
        })
    }
}

impl ProductRequest {
    /// Refuses outputs that can't be, before anything is created.
    pub fn check_output(&self, disk: &dyn Disk, inputs: &Inputs) -> Result<(), CliError> {
        let output = &self.output;
        let parent = parent_dir(output);
        match stat(disk, parent)? {
            None => {
                return Err(usage(
                    format!("the folder `{}` of the output does not exist", parent.display()),
                    format!("make it: mkdir -p {}", parent.display()),
                ));
            }
            Some(stat) if !stat.is_dir => {
                return Err(usage(
                    format!("`{}` is not a folder", parent.display()),
                    "choose another output with -o".into(),
                ));
            }
            Some(_) => {}
        }
        self.check_partial(disk, inputs)?;
        let Some(existing) = stat(disk, output)? else {
            return Ok(());
        };
        if !existing.is_file {
            return Err(usage(
                format!("`{}` exists and is not a file", output.display()),
                "choose another output with -o".into(),
            ));
        }
        // D may be the output: its file is read until the rename puts another one in its place.
        for input in [&inputs.a, &inputs.b] {
            let path = &input.source().info().path;
            if stat(disk, path)?
                .is_some_and(|stat| (stat.device, stat.inode) == (existing.device, existing.inode))
            {
                return Err(usage(
                    format!(
                        "the output `{}` is the input `{}`",
                        output.display(),
                        path.display()
                    ),
                    "choose another output with -o".into(),
                ));
            }
        }
        Ok(())
    }

    /// The partial file's name may be taken by a file that is not ours, or is even an input.
    fn check_partial(&self, disk: &dyn Disk, inputs: &Inputs) -> Result<(), CliError> {
        let files = JobFiles::beside(&self.output);
        let partial = files.partial();
        let Some(existing) = stat(disk, &partial)? else {
            return Ok(());
        };
        let is_input = |operand: &Operand| {
            let input = stat(disk, &operand.source().info().path).ok().flatten();
            input.is_some_and(|input| (input.device, input.inode) == (existing.device, existing.inode))
        };
        if stat(disk, &files.folder())?.is_none() || inputs.operands().any(is_input) {
            return Err(usage(
                format!(
                    "`{}` is in the way, and may be another program's",
                    partial.display()
                ),
                "move it away, or choose another output with -o".into(),
            ));
        }
        Ok(())
    }

    /// Decides what to do about what stands at the output.
    pub fn course(
        &self,
        state: &FolderState,
        disk: &dyn Disk,
        inputs: &Inputs,
        notes: &mut Vec<String>,
    ) -> Result<Course, CliError> {
        let output = self.output.display();
        let unfinished = match state {
            FolderState::Unfinished(recovered) => self.stored(recovered)?,
            FolderState::Empty | FolderState::Finished(_) => None,
        };
        if let Some(description) = unfinished.filter(|_| !self.restart) {
            self.check_same_job(&description, inputs, notes)?;
            return Ok(Course::Resume(Box::new(description)));
        }
        if stat(disk, &self.output)?.is_some() && !self.overwrite {
            return Err(usage(
                format!("`{output}` exists"),
                format!(
                    "add --overwrite to replace it (it is kept until the new one is complete), or check it: tilework verify {output}"
                ),
            ));
        }
        Ok(Course::Fresh)
    }

    /// The description of an unfinished job; `None` if the journal has no commits worth keeping and no readable description.
    fn stored(&self, recovered: &Recovered) -> Result<Option<Description>, CliError> {
        let Some(text) = &recovered.job_text else {
            return Ok(None);
        };
        match Description::from_text(text) {
            Ok(description) => Ok(Some(description)),
            Err(_) if self.restart => Ok(None),
            Err(error) => {
                let message = format!(
                    "the unfinished `{}` was started by another version: {error}",
                    self.output.display()
                );
                Err(usage(
                    message,
                    "discard it with --restart, or finish it with the version that began it".into(),
                ))
            }
        }
    }

    /// Refuses to go on with a job that is not the one asked for.
    fn check_same_job(
        &self,
        stored: &Description,
        inputs: &Inputs,
        notes: &mut Vec<String>,
    ) -> Result<(), CliError> {
        let mut differences = Vec::new();
        let mut differ = |what: &str, stored: String, now: String| {
            if stored != now {
                differences.push(format!("{what} was {stored}, now {now}"));
            }
        };
        differ(
            "the kind of job",
            stored.kind.clone(),
            inputs.spec.kind().to_owned(),
        );
        differ(
            "the job's version",
            stored.version.to_string(),
            inputs.spec.version().to_string(),
        );
        differ(
            "the format version",
            stored.format_version.to_string(),
            FORMAT_VERSION.to_string(),
        );
        differ(
            "the numerics version",
            stored.numerics_version.to_string(),
            NUMERICS_VERSION.to_string(),
        );
        differ(
            "the dtype",
            stored.spec.dtype.to_string(),
            inputs.spec.dtype.to_string(),
        );
        let (then, now) = (&stored.spec, &inputs.spec);
        if now.symmetric {
            let rows = [then, now].map(|spec| spec.transpose_b.to_string());
            differ("--rows", rows[0].clone(), rows[1].clone());
        } else {
            differ(
                "--transpose-a",
                then.transpose_a.to_string(),
                now.transpose_a.to_string(),
            );
            differ(
                "--transpose-b",
                then.transpose_b.to_string(),
                now.transpose_b.to_string(),
            );
            differ("--alpha", then.alpha.to_string(), now.alpha.to_string());
            let is_given = |beta: Option<f64>| if beta.is_some() { "given" } else { "not given" }.to_owned();
            differ("--add", is_given(then.beta), is_given(now.beta));
            if let (Some(then), Some(now)) = (then.beta, now.beta) {
                differ("--beta", then.to_string(), now.to_string());
            }
        }
        if !self.algorithm.accepts(stored.plan.algorithm) {
            differences.push(format!("--algorithm was {}, now another", stored.plan.algorithm));
        }
        match stored.compare_inputs(&inputs.identities()?) {
            InputsDifference::Same => {}
            InputsDifference::Touched(paths) => {
                notes.extend(
                    paths
                        .iter()
                        .map(|path| format!("`{path}` was touched, but its contents are the same")),
                );
            }
            InputsDifference::Changed(changes) => differences.extend(changes),
        }
        if differences.is_empty() {
            return Ok(());
        }
        let output = self.output.display();
        Err(usage(
            format!(
                "`{output}` is unfinished, and this is not the same job: {}",
                differences.join("; ")
            ),
            format!("discard it with --restart, or finish it first: tilework resume {output}"),
        ))
    }

    /// Refuses an output that the disk has no room for; `present_bytes` of it are there already.
    pub fn check_disk(&self, disk: &dyn Disk, plan: &Plan, inputs: &Inputs) -> Result<(), CliError> {
        let needed = npy_len(plan.grid.m, plan.grid.n, inputs.spec.dtype);
        let present = stat(disk, &JobFiles::beside(&self.output).partial())?.map_or(0, |stat| stat.len);
        let parent = parent_dir(&self.output);
        let free = disk
            .free_bytes(parent)
            .map_err(|error| CliError::io("see the free space of", parent, &error))?;
        if needed.saturating_sub(present) <= free {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!(
            "no room for `{}`: it needs {} MiB, {} MiB are free, {} MiB are missing",
            self.output.display(),
            mib(needed),
            mib(free),
            mib(needed - present - free),
        );
        Err(CliError::new(Exit::Resources, message)
            .with_next("make room, or choose an output on another disk with -o"))
    }
}

/// A fresh description of the product.
pub fn describe(inputs: &Inputs, plan: &Plan, output: &Path) -> Result<Description, CliError> {
    Ok(Description {
        format_version: FORMAT_VERSION,
        kind: inputs.spec.kind().to_owned(),
        version: inputs.spec.version(),
        numerics_version: NUMERICS_VERSION,
        spec: inputs.spec,
        plan: plan.stored(),
        inputs: inputs.identities()?,
        output: match inputs.paths_are {
            Paths::Local => None,
            Paths::Named => Some(output.to_string_lossy().into_owned()),
        },
    })
}

/// Where the inputs of the job beside `output` are. A job of a cluster tells how far below its data root the output is, and so where
/// the root is on this machine; inputs in other roots are not found.
pub fn stored_paths<Spec, Plan>(
    description: &JobDescription<Spec, Plan>,
    output: &Path,
    paths_are: Paths,
) -> Vec<PathBuf> {
    let inputs = description.inputs.iter().map(|input| PathBuf::from(&input.path));
    let root = description
        .output
        .as_deref()
        .filter(|_| paths_are == Paths::Local);
    let Some((name, root)) = root.and_then(|named| root_of(named, output)) else {
        return inputs.collect();
    };
    inputs
        .map(|path| {
            path.strip_prefix(&name)
                .map(|inner| root.join(inner))
                .unwrap_or(path)
        })
        .collect()
}

/// Why a stored input can't be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputTrouble {
    /// It was the old output, which the new one replaced.
    Replaced,
    /// It can't be read.
    Gone {
        /// Which.
        path: PathBuf,
    },
    /// It is another matrix.
    Changed {
        /// Which.
        path: PathBuf,
    },
}

impl InputTrouble {
    /// The first of the inputs of the finished product `output` that is not what it was.
    ///
    /// # Errors
    /// If the disk can't say: that is no reason to check less.
    pub fn find(
        disk: &dyn Disk,
        description: &Description,
        output: &Path,
    ) -> Result<Option<InputTrouble>, CliError> {
        let paths = stored_paths(description, output, Paths::Local);
        for (stored, path) in description.inputs.iter().zip(paths) {
            let difference = identity_now(disk, &path)?.map(|now| stored.difference(&now));
            let trouble = match difference {
                Some(IdentityDifference::Same | IdentityDifference::Touched) => continue,
                _ if std::path::absolute(output).is_ok_and(|output| output == path) => InputTrouble::Replaced,
                Some(IdentityDifference::Changed { .. }) => InputTrouble::Changed { path },
                None => InputTrouble::Gone { path },
            };
            return Ok(Some(trouble));
        }
        Ok(None)
    }

    /// Said of the product `output`.
    pub fn told(&self, output: &Path) -> String {
        match self {
            InputTrouble::Replaced => format!("what was added was the old `{}`", output.display()),
            InputTrouble::Gone { path } => {
                format!("the input `{}` is gone, or can't be read", path.display())
            }
            InputTrouble::Changed { path } => format!("the input `{}` has changed", path.display()),
        }
    }
}

/// What an input is now; nothing if it is gone, or may not be read, or is no matrix.
fn identity_now(disk: &dyn Disk, path: &Path) -> Result<Option<InputIdentity>, CliError> {
    let source = match MatrixSource::open(disk, path) {
        Ok(source) => source,
        Err(OpenMatrixError::Io { path, source }) if source.kind() != io::ErrorKind::PermissionDenied => {
            return Err(CliError::io("read", &path, &source));
        }
        Err(_) => return Ok(None),
    };
    match source.identity() {
        Ok(identity) => Ok(Some(identity)),
        Err(ReadMatrixError::Changed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The data root, as paths name it, and where it is, by where something in it is.
fn root_of(named: &str, path: &Path) -> Option<(PathBuf, PathBuf)> {
    let absolute = std::path::absolute(path).ok()?;
    let mut inner = Path::new(named).components();
    let name = PathBuf::from(inner.next()?.as_os_str());
    let depth = inner.count();
    let root = absolute.ancestors().nth(depth)?;
    Some((name, root.to_path_buf()))
}

/// The inputs that the description of the job beside `output` names.
pub fn stored_inputs(description: &Description, output: &Path, paths_are: Paths) -> InputRequest {
    let mut paths = stored_paths(description, output, paths_are).into_iter();
    let a = paths.next().unwrap_or_default();
    let spec = &description.spec;
    let b = if spec.symmetric {
        a.clone()
    } else {
        paths.next().unwrap_or_default()
    };
    InputRequest {
        a,
        b,
        paths_are,
        transpose_a: spec.transpose_a,
        transpose_b: spec.transpose_b,
        symmetric: spec.symmetric,
        dtype: Some(spec.dtype),
        alpha: spec.alpha,
        add: spec.beta.map(|beta| AddRequest {
            d: paths.next().unwrap_or_default(),
            beta,
        }),
    }
}

/// The request that goes on with what a journal describes.
pub fn resume_request(
    disk: &dyn Disk,
    output: &Path,
    resources: Resources,
    paths_are: Paths,
) -> Result<ProductRequest, CliError> {
    let state = tilework_runtime::folder::inspect(disk, &JobFiles::beside(output))?;
    let recovered = match state {
        FolderState::Unfinished(recovered) => recovered,
        FolderState::Finished(_) => {
            // The run that gave it its name may have failed to make that durable.
            let parent = parent_dir(output);
            disk.sync_dir(parent)
                .map_err(|error| CliError::io("sync the folder", parent, &error))?;
            return Err(usage(
                format!("`{}` is finished: nothing is left to resume", output.display()),
                format!("check it: tilework verify {}", output.display()),
            ));
        }
        FolderState::Empty => {
            return Err(usage(
                format!("there is no unfinished job at `{}`", output.display()),
                format!("start one: tilework multiply A.npy B.npy -o {}", output.display()),
            ));
        }
    };
    let text = recovered.job_text.unwrap_or_default();
    if let Ok(JobDescription { kind, .. }) = JobDescription::<Value, Value>::from_text(&text)
        && !is_product(&kind)
    {
        return Err(usage(
            format!(
                "`{}` is an unfinished `{kind}`, which is no matrix product",
                output.display()
            ),
            "go on with the command that began it, of the program that knows such jobs".into(),
        ));
    }
    let description = Description::from_text(&text).map_err(|error| {
        usage(
            format!(
                "the unfinished `{}` was started by another version: {error}",
                output.display()
            ),
            "finish it with the version that began it, or start again with `multiply ... --restart`".into(),
        )
    })?;
    Ok(ProductRequest {
        inputs: stored_inputs(&description, output, paths_are),
        output: output.to_path_buf(),
        resources,
        overwrite: false,
        restart: false,
        algorithm: AlgorithmChoice::Auto,
    })
}

pub(crate) fn usage(message: String, next: String) -> CliError {
    CliError::usage(message).with_next(next)
}

fn stat(disk: &dyn Disk, path: &Path) -> Result<Option<FileStat>, CliError> {
    disk.stat(path).map_err(|error| {
        CliError::io("look at", path, &error).with_next("check the path, or choose another output with -o")
    })
}
