//! What stands beside an output, and what its journal says: read without changing anything.
//!
//! Knows of any job its inputs and, where its plan has a grid, its number of tasks.

use crate::failure::CliError;
use crate::product::inputs::Paths;
use crate::product::request::stored_paths;
use crate::product::running::Residuals;
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use tilework_core::record::RunStart;
use tilework_linalg::MultiplySpec;
use tilework_linalg::formula::FormulaText;
use tilework_linalg::gram;
use tilework_linalg::multiply::KIND;
use tilework_linalg::tiles::Grid;
use tilework_runtime::{FolderState, JobDescription, folder};
use tilework_store::disk::Disk;
use tilework_store::identity::{IdentityDifference, InputIdentity};
use tilework_store::journal::{JobFiles, Recovered, recover};
use tilework_store::lock::{Owner, holder};
use tilework_store::matrix::MatrixSource;

/// The state of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No job is known of.
    None,
    /// A job was started, is not done, and nobody works on it.
    Unfinished,
    /// A process works on it now.
    Running,
    /// Complete.
    Done,
}

impl State {
    /// The name in JSON and for people.
    pub fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Unfinished => "unfinished",
            State::Running => "running",
            State::Done => "done",
        }
    }
}

/// All that is known of an output.
#[derive(Debug)]
pub struct JobState {
    /// Its files.
    pub files: JobFiles,
    /// How it stands.
    pub state: State,
    /// Whether a file has the output's final name.
    pub output_exists: bool,
    /// Whether the incomplete output is there.
    pub partial_exists: bool,
    /// Whether the folder is there.
    pub folder_exists: bool,
    /// Who works on it now, where that could be read.
    pub owner: Option<Owner>,
    /// Bytes of the journal that belong to no intact record.
    pub n_damaged_bytes: u64,
    /// The job; `None` if no journal has an intact description.
    pub job: Option<KnownJob>,
}

/// What the journal says of the job.
#[derive(Debug)]
pub struct KnownJob {
    /// Which job.
    pub kind: String,
    /// What the user asked for, as JSON.
    pub spec: Value,
    /// How it is split, as JSON.
    pub plan: Value,
    /// The inputs as they were at the start.
    pub inputs: Vec<InputIdentity>,
    /// All tasks, where the plan has a grid.
    pub n_tasks: Option<u64>,
    /// Tasks whose output is durable.
    pub n_committed: u64,
    /// All runs, oldest first.
    pub runs: Vec<RunStart>,
    /// Largest residual of the committed tasks, with its bound.
    pub residual_max: f64,
    /// What `residual_max` is held against.
    pub residual_bound: f64,
}

impl JobState {
    /// Looks at an output.
    pub fn read(disk: &dyn Disk, output: &Path) -> Result<JobState, CliError> {
        let files = JobFiles::beside(output);
        let io_error = |error: io::Error| CliError::io("read", &files.folder(), &error);
        let exists = |path: &Path| disk.stat(path).map(|stat| stat.is_some());
        let owner = holder(disk, &files.lock()).map_err(io_error)?;
        let folder_state = folder::inspect(disk, &files)?;
        // The folder's state has no damage to tell where no job is known.
        let damage = recover(disk, &files)
            .map_err(io_error)?
            .map_or(0, |(recovered, _)| recovered.n_damaged_bytes);
        let state = match (&owner, &folder_state) {
            (Some(_), _) => State::Running,
            (None, FolderState::Empty) => State::None,
            (None, FolderState::Unfinished(_)) => State::Unfinished,
            (None, FolderState::Finished(_)) => State::Done,
        };
        let job = match folder_state {
            FolderState::Empty => None,
            FolderState::Unfinished(recovered) | FolderState::Finished(recovered) => {
                known_job(&recovered, output)
            }
        };
        Ok(JobState {
            state,
            output_exists: exists(output).map_err(io_error)?,
            partial_exists: exists(&files.partial()).map_err(io_error)?,
            folder_exists: exists(&files.folder()).map_err(io_error)?,
            owner: owner.flatten(),
            n_damaged_bytes: damage,
            job,
            files,
        })
    }
}

impl KnownJob {
    /// Compares an input with what is there now; `None` if it is the same.
    pub fn input_trouble(&self, disk: &dyn Disk, input: &InputIdentity) -> Option<String> {
        match identity_now(disk, input) {
            Err(error) => Some(error),
            Ok(now) => match input.difference(&now) {
                IdentityDifference::Same | IdentityDifference::Touched => None,
                IdentityDifference::Changed { what } => Some(format!("`{}` has changed: {what}", input.path)),
            },
        }
    }

    /// Whether it is a matrix product, which any `tilework` can go on with.
    pub fn is_product(&self) -> bool {
        is_product(&self.kind)
    }

    /// The plan's grid of tiles, if it has one.
    pub fn grid(&self) -> Option<Grid> {
        serde_json::from_value(self.plan.get("grid")?.clone()).ok()
    }

    /// What a product is made into, where it is not the output itself.
    pub fn formula(&self) -> Option<FormulaText> {
        let spec: Option<MultiplySpec> = serde_json::from_value(self.spec.clone()).ok();
        spec.filter(|spec| self.kind == KIND && !spec.is_plain())
            .map(|spec| spec.formula())
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let inputs: Vec<&str> = self.inputs.iter().map(|input| input.path.as_str()).collect();
        json!({
            "job": self.kind,
            "spec": self.spec,
            "plan": self.plan,
            "inputs": inputs,
            "tasks": self.n_tasks,
            "tasks_committed": self.n_committed,
            "runs": self.runs.len(),
            "residual_max": self.residual_max,
            "residual_bound": self.residual_bound,
        })
    }
}

/// As the identity was taken when the job began.
fn identity_now(disk: &dyn Disk, input: &InputIdentity) -> Result<InputIdentity, String> {
    let path = Path::new(&input.path);
    if input.is_of_path() {
        let now = InputIdentity::of_path(disk, path);
        return now.map_err(|error| format!("cannot read `{}`: {error}", input.path));
    }
    let opened = MatrixSource::open(disk, path).map_err(|error| error.to_string())?;
    opened.identity().map_err(|error| error.to_string())
}

/// Whether jobs of that kind are matrix products.
pub fn is_product(kind: &str) -> bool {
    [KIND, gram::KIND].contains(&kind)
}

fn known_job(recovered: &Recovered, output: &Path) -> Option<KnownJob> {
    let text = recovered.job_text.as_deref()?;
    let mut description = JobDescription::<Value, Value>::from_text(text).ok()?;
    let paths = stored_paths(&description, output, Paths::Local);
    for (input, path) in description.inputs.iter_mut().zip(paths) {
        input.path = path.to_string_lossy().into_owned();
    }
    let residuals = Residuals::of(recovered);
    let mut job = KnownJob {
        kind: description.kind,
        spec: description.spec,
        plan: description.plan,
        inputs: description.inputs,
        n_tasks: None,
        n_committed: recovered.commits.len() as u64,
        runs: recovered.runs.clone(),
        residual_max: residuals.max,
        residual_bound: residuals.bound,
    };
    job.n_tasks = job.grid().map(|grid| grid.n_tiles());
    Some(job)
}
