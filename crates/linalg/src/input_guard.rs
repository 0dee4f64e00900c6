//! Notices that an input was touched while it is used: no tile that may mix two versions of it is ever committed.

use crate::operand::Operand;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tilework_core::failure::{Cause, Failure};
use tilework_store::disk::{Disk, FileStat};

/// The inputs' files as they were when they were opened.
#[derive(Debug, Clone)]
pub struct InputGuard {
    disk: Arc<dyn Disk>,
    files: Vec<(PathBuf, Option<FileStat>)>,
}

impl InputGuard {
    /// Remembers the files of `operands`. Call it before their identities are taken.
    ///
    /// # Errors
    /// What can't be looked at, and why.
    pub fn new<'a>(
        disk: Arc<dyn Disk>,
        operands: impl IntoIterator<Item = &'a Operand>,
    ) -> Result<InputGuard, (PathBuf, io::Error)> {
        let stat = |operand: &Operand| {
            let path = operand.source().info().path.clone();
            match disk.stat(&path) {
                Ok(stat) => Ok((path, stat)),
                Err(error) => Err((path, error)),
            }
        };
        let files = operands.into_iter().map(stat).collect::<Result<_, _>>()?;
        Ok(InputGuard { disk, files })
    }

    /// Fails if a file is not the one that was opened, or was written to since.
    ///
    /// Called after the last read of every tile, before its commit, and before the output gets its name.
    pub fn check(&self) -> Result<(), Failure> {
        for (path, then) in &self.files {
            let now = self.disk.stat(path).map_err(|error| {
                Failure::retry(
                    Cause::Storage,
                    format!("cannot look at `{}`: {error}", path.display()),
                )
            })?;
            if now != *then {
                let what = if now.is_none() { "is gone" } else { "changed" };
                let text = format!("the input `{}` {what} while it was used", path.display());
                return Err(Failure::fatal(Cause::InputChanged, text));
            }
        }
        Ok(())
    }
}
