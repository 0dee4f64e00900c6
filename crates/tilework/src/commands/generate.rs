//! `generate`: writes a matrix, under its final name only when it is complete.

use crate::args::inspect::GenerateArgs;
use crate::elements::Elements;
use crate::failure::{CliError, Exit};
use crate::human;
use crate::job_state::{JobState, State};
use crate::leftovers;
use crate::output::Output;
use crate::progress::ByteBar;
use crate::signals;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tilework_core::failure::StopCause;
use tilework_runtime::{FolderState, JobFolder, StopSwitch};
use tilework_store::disk::{Disk, RealDisk, parent_dir};
use tilework_store::element_type::{Dtype, Scalar};
use tilework_store::npy::header::npy_len;
use tilework_store::npy::output::{NpyOutput, OutputError};

/// More threads than this don't write faster.
const THREADS_MAX: usize = 8;

/// Runs the command.
pub fn run(args: &GenerateArgs, output: &Output) -> Result<(), CliError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    check_destination(&*disk, args)?;
    // The lock of a job on this output: two processes can't write the same partial file.
    let folder = JobFolder::open(Arc::clone(&disk), &args.output)?;
    if matches!(folder.state(), FolderState::Unfinished(_)) {
        return Err(unfinished(&args.output));
    }
    let written = write(&*disk, &folder, args, output);
    if written.is_err() {
        let _ = disk.remove_file(&folder.files().partial());
    }
    let removed = leftovers::remove_folder(&*disk, folder.files());
    written.and(removed)?;
    report(args, output)
}

/// Refuses what can be refused before anything is created.
fn check_destination(disk: &dyn Disk, args: &GenerateArgs) -> Result<(), CliError> {
    let path = &args.output;
    let (name, parent) = (path.display(), parent_dir(path));
    let stat = |path: &Path| {
        disk.stat(path)
            .map_err(|error| CliError::io("look at", path, &error))
    };
    match stat(parent)? {
        Some(stat) if stat.is_dir => {}
        Some(_) => {
            return Err(CliError::usage(format!(
                "`{}` is not a directory",
                parent.display()
            )));
        }
        None => {
            let error = CliError::usage(format!("the directory `{}` does not exist", parent.display()));
            return Err(error.with_next(format!("mkdir -p {}", parent.display())));
        }
    }
    match stat(path)? {
        Some(stat) if !stat.is_file => {
            return Err(CliError::usage(format!(
                "`{name}` exists and is not a regular file"
            )));
        }
        Some(_) if !args.overwrite => {
            let error = CliError::usage(format!("`{name}` exists"));
            return Err(error.with_next("add `--overwrite` to replace it, or choose another name"));
        }
        _ => {}
    }
    let state = JobState::read(disk, path)?;
    match state.state {
        State::Running => return Err(leftovers::in_use(&state.files, state.owner.as_ref())),
        State::Unfinished => return Err(unfinished(path)),
        State::None | State::Done => {}
    }
    let needed = npy_len(args.shape.rows, args.shape.cols, args.dtype);
    let free = disk
        .free_bytes(parent)
        .map_err(|error| CliError::io("look at", parent, &error))?;
    // What is too large for any file is told by the output itself.
    if needed > free && needed <= i64::MAX as u64 {
        return Err(OutputError::DiskFull {
            path: path.clone(),
            needed,
            free,
        }
        .into());
    }
    Ok(())
}

fn unfinished(path: &Path) -> CliError {
    let name = path.display();
    CliError::usage(format!("`{name}` is the unfinished output of a job")).with_next(format!(
        "finish it: `tilework resume {name}`; or discard it: `tilework clean {name} --yes`"
    ))
}

fn write(disk: &dyn Disk, folder: &JobFolder, args: &GenerateArgs, output: &Output) -> Result<(), CliError> {
    let stop = StopSwitch::default();
    let _signals = signals::stop_on_signals(&stop, output)?;
    let (rows, cols) = (args.shape.rows, args.shape.cols);
    let matrix = NpyOutput::create(disk, &folder.files().partial(), rows, cols, args.dtype)?;
    let elements = Elements::new(args.kind, args.seed, rows, cols);
    let bar = ByteBar::new(output, "writing", rows * cols * args.dtype.size());
    match args.dtype {
        Dtype::F64 => write_blocks::<f64>(&elements, &matrix, &stop, &bar),
        Dtype::F32 => write_blocks::<f32>(&elements, &matrix, &stop, &bar),
    }?;
    matrix.sync_data()?;
    drop(bar);
    let path = folder.files().output();
    let failed = |error: std::io::Error| CliError::io("rename to", path, &error);
    // The journal of a finished job speaks of the file that is replaced now.
    leftovers::remove_journal(disk, folder.files()).map_err(failed)?;
    disk.rename(matrix.path(), path).map_err(failed)?;
    disk.sync_dir(parent_dir(path)).map_err(failed)
}

/// Blocks are dealt to threads as they come; what a block holds does not depend on who makes it.
fn write_blocks<T: Scalar>(
    elements: &Elements,
    matrix: &NpyOutput,
    stop: &StopSwitch,
    bar: &ByteBar,
) -> Result<(), CliError> {
    let blocks = elements.blocks;
    let n_threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX);
    let next = AtomicU64::new(0);
    let write_some = || -> Result<(), CliError> {
        let mut values = vec![T::default(); blocks.len_max()];
        loop {
            let block_idx = next.fetch_add(1, Ordering::Relaxed);
            if block_idx >= blocks.n_blocks() {
                return Ok(());
            }
            if stop.requested().is_some() {
                return Err(CliError::stopped(
                    StopCause::Interrupted,
                    "interrupted; nothing was written",
                ));
            }
            let block = blocks.block(block_idx);
            let values = &mut values[..block.len()];
            elements.fill(block_idx, values);
            let (n_rows, width) = (
                (block.rows.end - block.rows.start) as usize,
                block.cols.end - block.cols.start,
            );
            matrix.write_rows(block.rows.start, block.cols, values, width as usize, n_rows)?;
            bar.add(size_of_val(values) as u64);
        }
    };
    let outcomes = thread::scope(|scope| {
        // Fewer threads only take longer.
        let threads: Vec<_> = (1..n_threads)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, write_some).ok())
            .collect();
        let own = write_some();
        let panicked = || {
            Err(CliError::new(
                Exit::JobFailed,
                "a thread that makes elements panicked",
            ))
        };
        let joined = threads.into_iter().map(|thread| thread.join());
        let others = joined.map(|joined| joined.unwrap_or_else(|_| panicked()));
        std::iter::once(own).chain(others).collect::<Vec<_>>()
    });
    outcomes.into_iter().collect()
}

fn report(args: &GenerateArgs, output: &Output) -> Result<(), CliError> {
    let (shape, n_bytes) = (args.shape, npy_len(args.shape.rows, args.shape.cols, args.dtype));
    let json = json!({
        "status": "done",
        "path": args.output.display().to_string(),
        "rows": shape.rows,
        "cols": shape.cols,
        "dtype": args.dtype,
        "bytes": n_bytes,
        "seconds": output.seconds(),
    });
    output.report(json, |out| {
        let (path, size, time) = (
            args.output.display(),
            human::bytes(n_bytes),
            human::seconds(output.seconds()),
        );
        writeln!(out, "wrote {path}: {shape}, {}, {size}, {time}", args.dtype)
    })
}
