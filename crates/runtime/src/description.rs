//! What a job is: the text that its journal stores, whose hash is its id, and that a resume compares.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tilework_core::ids::JobId;
use tilework_store::identity::{IdentityDifference, InputIdentity};
use tilework_store::journal::recover::job_id;

/// Version of this text and of the journal's records together.
pub const FORMAT_VERSION: u32 = 1;

/// A job as its journal stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDescription<Spec, Plan> {
    /// Version of the journal's format.
    pub format_version: u32,
    /// Which job.
    pub kind: String,
    /// Version of the job's code, as far as its results depend on it.
    pub version: u32,
    /// Version of the arithmetic: within one, equal inputs give equal bits.
    pub numerics_version: u32,
    /// What the user asked for.
    pub spec: Spec,
    /// How it is split.
    pub plan: Plan,
    /// The inputs as they were at the start.
    pub inputs: Vec<InputIdentity>,
    /// What the output is called on every machine of a cluster, `NAME:/relative/path`; the inputs' paths are then of that kind too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// How the inputs of a stored job compare with those at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputsDifference {
    /// Nothing differs.
    Same,
    /// Only modification times differ.
    Touched(Vec<String>),
    /// Contents differ.
    Changed(Vec<String>),
}

impl<Spec: Serialize + DeserializeOwned, Plan: Serialize + DeserializeOwned> JobDescription<Spec, Plan> {
    /// The text, whose hash is the job's id.
    pub fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("descriptions are plain data")
    }

    /// Reads a stored text.
    pub fn from_text(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        job_id(&self.to_text())
    }

    /// Compares the stored inputs with `now`.
    pub fn compare_inputs(&self, now: &[InputIdentity]) -> InputsDifference {
        let mut touched = Vec::new();
        let mut changed = Vec::new();
        for (stored, now) in self.inputs.iter().zip(now) {
            match stored.difference(now) {
                IdentityDifference::Same => {}
                IdentityDifference::Touched => touched.push(now.path.clone()),
                IdentityDifference::Changed { what } => changed.push(format!("`{}`: {what}", now.path)),
            }
        }
        if !changed.is_empty() {
            InputsDifference::Changed(changed)
        } else if !touched.is_empty() {
            InputsDifference::Touched(touched)
        } else {
            InputsDifference::Same
        }
    }
}
