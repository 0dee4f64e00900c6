//! `clean`: lists and removes what unfinished jobs left. A finished output is never touched, its journal only by name.

use crate::args::inspect::CleanArgs;
use crate::failure::CliError;
use crate::human;
use crate::job_state::{JobState, State};
use crate::leftovers::{self, Leftover};
use crate::output::Output;
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tilework_store::disk::{Disk, RealDisk};
use tilework_store::journal::JobFiles;

/// What PATH stands for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    outputs: Vec<PathBuf>,
    /// Whether the journals of finished outputs are meant, too.
    with_journals: bool,
    /// Whether PATH is a directory of outputs, of which those at work are passed over.
    is_directory: bool,
}

/// Runs the command.
pub fn run(args: &CleanArgs, output: &Output) -> Result<(), CliError> {
    let disk = RealDisk;
    let request = request(&disk, &args.path)?;
    let mut found = Vec::new();
    for path in &request.outputs {
        let state = JobState::read(&disk, path)?;
        match state.state {
            State::Running if request.is_directory => {}
            State::Running => return Err(leftovers::in_use(&state.files, state.owner.as_ref())),
            State::Done if !request.with_journals => {}
            State::Done | State::None | State::Unfinished => {
                let leftovers = leftovers::list(&disk, &state.files)?;
                if !leftovers.is_empty() {
                    found.push((state, leftovers));
                }
            }
        }
    }
    if args.yes {
        found
            .iter()
            .try_for_each(|(state, _)| leftovers::remove(&disk, &state.files))?;
    }
    let leftovers: Vec<Leftover> = found.into_iter().flat_map(|(_, leftovers)| leftovers).collect();
    tell(args, &request, &leftovers, output)
}

fn request(disk: &dyn Disk, path: &Path) -> Result<Request, CliError> {
    if let Some(output) = without_ending(path, b".tilework") {
        return Ok(Request {
            outputs: vec![output],
            with_journals: true,
            is_directory: false,
        });
    }
    let stat = disk
        .stat(path)
        .map_err(|error| CliError::io("look at", path, &error))?;
    if stat.is_some_and(|stat| stat.is_dir) {
        let names = disk
            .read_dir(path)
            .map_err(|error| CliError::io("read", path, &error))?;
        // Only what has one of our folders: other programs leave `.partial` files, too.
        let outputs = names
            .iter()
            .filter_map(|name| without_ending(&path.join(name), b".tilework"));
        return Ok(Request {
            outputs: outputs.collect(),
            with_journals: false,
            is_directory: true,
        });
    }
    let output = without_ending(path, b".partial").unwrap_or_else(|| path.to_path_buf());
    let files = JobFiles::beside(&output);
    let exists = |path: &Path| disk.stat(path).is_ok_and(|stat| stat.is_some());
    if exists(&files.partial()) && !exists(&files.folder()) {
        let (partial, folder) = (files.partial(), files.folder());
        let (partial, folder) = (partial.display(), folder.display());
        let error = CliError::usage(format!(
            "`{partial}` may be another program's: there is no `{folder}`"
        ));
        return Err(error.with_next(format!("if it is not needed: rm {partial}")));
    }
    if !exists(path) && !exists(&files.folder()) {
        let error = CliError::usage(format!("there is nothing at `{}`", path.display()));
        return Err(error.with_next("name an output, or a directory of outputs: tilework clean ."));
    }
    Ok(Request {
        outputs: vec![output],
        with_journals: false,
        is_directory: false,
    })
}

/// The path without `ending`; a slash at the end doesn't count.
fn without_ending(path: &Path, ending: &[u8]) -> Option<PathBuf> {
    let name = path
        .file_name()?
        .as_bytes()
        .strip_suffix(ending)
        .filter(|name| !name.is_empty())?;
    Some(path.with_file_name(OsStr::from_bytes(name)))
}

fn tell(
    args: &CleanArgs,
    request: &Request,
    leftovers: &[Leftover],
    output: &Output,
) -> Result<(), CliError> {
    let n_bytes: u64 = leftovers.iter().map(|leftover| leftover.len).sum();
    let paths: Vec<String> = leftovers
        .iter()
        .map(|leftover| leftover.path.display().to_string())
        .collect();
    let json = json!({ "status": "done", "leftovers": paths, "bytes": n_bytes, "removed": args.yes });
    output.result(json, |out| {
        let path = args.path.display();
        if leftovers.is_empty() {
            writeln!(out, "nothing to clean at {path}")?;
            for output in &request.outputs {
                if !request.is_directory && JobFiles::beside(output).folder().exists() {
                    writeln!(out, "its journal is kept for `tilework verify`; to remove it: tilework clean {path}.tilework --yes")?;
                }
            }
            return Ok(());
        }
        let verb = if args.yes { "removed" } else { "would remove" };
        for (path, leftover) in paths.iter().zip(leftovers) {
            writeln!(out, "{verb} {path} ({})", human::bytes(leftover.len))?;
        }
        if !args.yes {
            writeln!(out, "to remove {}: tilework clean {path} --yes", if paths.len() == 1 { "it" } else { "them" })?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_known_by_its_leftovers() {
        let strip = |path: &str| without_ending(Path::new(path), b".tilework");
        assert_eq!(strip("dir/C.npy.tilework"), Some(PathBuf::from("dir/C.npy")));
        assert_eq!(strip("dir/C.npy.tilework/"), Some(PathBuf::from("dir/C.npy")));
        assert_eq!(strip("dir/.tilework"), None);
        assert_eq!(strip("dir/C.npy"), None);
    }
}
