//! What of a finished output is not what was committed: its header, its length, its tiles. Only reads.

use super::request::{Description, usage};
use crate::failure::CliError;
use crate::job_state::is_product;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use tilework_core::failure::Failure;
use tilework_core::ids::{RoundIdx, TaskIdx};
use tilework_linalg::Number;
use tilework_linalg::multiply::{is_intact, output_failure};
use tilework_linalg::tiles::{Grid, Tile};
use tilework_runtime::{FolderState, JobDescription};
use tilework_store::disk::Disk;
use tilework_store::journal::{JobFiles, Recovered};
use tilework_store::npy::header::npy_len;
use tilework_store::npy::output::{FrameDamage, NpyOutput};

/// Elements read at a time.
const READ_LEN: usize = 1 << 20;

/// What differs.
#[derive(Debug, Clone, Default)]
pub struct Damage {
    /// The header and the length.
    pub frame: FrameDamage,
    /// Tiles whose bytes, or whose mirror image's, are others.
    pub tiles: BTreeSet<u64>,
    /// Tiles that the journal has no commit of.
    pub uncommitted: BTreeSet<u64>,
}

impl Damage {
    /// Compares a file with what its journal says.
    pub fn find<T: Number>(
        (output, frame): (&NpyOutput, FrameDamage),
        grid: &Grid,
        recovered: &Recovered,
    ) -> Result<Damage, CliError> {
        let mut damage = Damage {
            frame,
            ..Damage::default()
        };
        let mut buffer = vec![T::ZERO; READ_LEN];
        for task in (0..grid.n_tiles()).map(TaskIdx) {
            let Some(commit) = recovered.commits.get(&(RoundIdx(0), task)) else {
                damage.uncommitted.insert(task.0);
                continue;
            };
            let is_there = reaches(output, grid, &grid.tile(task))?;
            if !(is_there && is_intact(output, grid, commit, &mut buffer)?) {
                damage.tiles.insert(task.0);
            }
        }
        Ok(damage)
    }

    /// Whether anything differs.
    pub fn is_some(&self) -> bool {
        self.frame.is_some() || !self.tiles.is_empty() || !self.uncommitted.is_empty()
    }

    /// All tiles that are not known to be right.
    pub fn bad_tiles(&self) -> BTreeSet<u64> {
        &self.tiles | &self.uncommitted
    }

    /// Whether nothing is left by which it could be told from another file of that name, which nobody wants to lose.
    pub fn may_be_another_file(&self, grid: &Grid) -> bool {
        self.frame.is_some() && self.bad_tiles().len() as u64 == grid.n_tiles()
    }

    /// What is wrong with header and length, as parts of a sentence.
    pub fn of_frame(&self, description: &Description) -> Vec<String> {
        let Grid { m, n, .. } = description.plan.grid;
        let mut parts = Vec::new();
        if let Some(len) = self.frame.len {
            let expected = npy_len(m, n, description.spec.dtype);
            parts.push(format!("it is {len} bytes long instead of {expected}"));
        }
        if self.frame.header {
            parts.push("its header is damaged".to_owned());
        }
        parts
    }
}

fn reaches(output: &NpyOutput, grid: &Grid, Tile { rows, cols }: &Tile) -> Result<bool, Failure> {
    let reaches = output.reaches(rows, cols).map_err(output_failure)?;
    Ok(reaches && (!grid.symmetric || output.reaches(cols, rows).map_err(output_failure)?))
}

/// Where a tile is, for people.
pub fn place(tile: &Tile) -> String {
    let range = |range: &std::ops::Range<u64>| {
        if range.end - range.start == 1 {
            range.start.to_string()
        } else {
            format!("{} to {}", range.start, range.end - 1)
        }
    };
    format!("rows {}, columns {}", range(&tile.rows), range(&tile.cols))
}

/// A tile by its number and place, as JSON: ends are exclusive.
pub fn tile_json(grid: &Grid, task: u64) -> Value {
    let Tile { rows, cols } = grid.tile(TaskIdx(task));
    serde_json::json!({ "tile": task, "rows": [rows.start, rows.end], "columns": [cols.start, cols.end] })
}

/// The journal of a finished product, and what it says the product is. `without_journal` is what to do where there is none.
pub fn finished(
    disk: &dyn Disk,
    c: &Path,
    without_journal: &str,
) -> Result<(Box<Recovered>, Description), CliError> {
    let shown = c.display();
    let found = disk.stat(c).map_err(|error| CliError::io("look at", c, &error))?;
    let recovered = match tilework_runtime::folder::inspect(disk, &JobFiles::beside(c))? {
        FolderState::Finished(recovered) => recovered,
        FolderState::Unfinished(_) => {
            return Err(usage(
                format!("`{shown}` is unfinished"),
                format!("finish it first: tilework resume {shown}"),
            ));
        }
        FolderState::Empty if found.is_none() => {
            return Err(usage(
                format!("`{shown}` does not exist"),
                "check the path".into(),
            ));
        }
        FolderState::Empty => {
            return Err(usage(
                format!("`{shown}` has no journal beside it"),
                without_journal.to_owned(),
            ));
        }
    };
    let text = recovered.job_text.as_deref().unwrap_or_default();
    if let Ok(JobDescription { kind, .. }) = JobDescription::<Value, Value>::from_text(text)
        && !is_product(&kind)
    {
        return Err(usage(
            format!("`{shown}` was made by `{kind}`, which is no matrix product"),
            "run the job again where its output is in doubt".into(),
        ));
    }
    let description = Description::from_text(text).map_err(|error| {
        usage(
            format!("the journal is of another version: {error}"),
            without_journal.to_owned(),
        )
    })?;
    let n_tiles = description.plan.grid.n_tiles();
    if let Some((_, task)) = recovered.commits.keys().find(|(_, task)| task.0 >= n_tiles) {
        return Err(usage(
            format!("the journal has a commit of task {task}, and the output has {n_tiles} tiles"),
            without_journal.to_owned(),
        ));
    }
    Ok((recovered, description))
}
