//! `cluster down`: stops the cluster that `up` started, and removes its data if asked to.

use super::up_lock;
use crate::args::cluster::DownArgs;
use crate::failure::{CliError, Exit};
use crate::human::shell_word;
use crate::output::Output;
use crate::signals;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::failure::StopCause;
use tilework_nats::ClusterFolder;
use tilework_runtime::StopSwitch;
use tilework_store::disk::RealDisk;
use tilework_store::lock::Owner;

/// How long a cluster may take to stop: its workers finish what they write.
const END_WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Runs the command.
pub fn run(args: &DownArgs, output: &Output) -> Result<(), CliError> {
    let cluster = ClusterFolder::open(&args.dir)?;
    let stopped = match up_lock::holder(&cluster)? {
        None => None,
        Some(None) => return Err(unknown_owner(&cluster)),
        Some(Some(owner)) => {
            let stop = StopSwitch::default();
            let _signals = signals::stop_on_signals(&stop, output)?;
            ask_to_end(&cluster, &owner)?;
            wait_until_it_ends(&cluster, &owner, &stop)?;
            Some(owner)
        }
    };
    if args.purge {
        purge(&cluster)?;
    }
    tell(args, stopped.as_ref(), output)
}

fn ask_to_end(cluster: &ClusterFolder, owner: &Owner) -> Result<(), CliError> {
    if !up_lock::is_here(owner) {
        let message = format!(
            "the cluster in `{}` was started by {owner}, which is not here",
            cluster.path().display()
        );
        return Err(CliError::usage(message).with_next(format!("stop it there: {}", command(cluster))));
    }
    let pid = i32::try_from(owner.pid).ok().and_then(Pid::from_raw);
    match pid.map(|pid| kill_process(pid, Signal::TERM)) {
        // It ends by itself this very moment.
        Some(Ok(()) | Err(Errno::SRCH)) => Ok(()),
        Some(Err(error)) => {
            let message = format!("cannot stop {owner}: {}", io::Error::from(error));
            Err(CliError::usage(message).with_next("stop it as the user who started it"))
        }
        None => Err(unknown_owner(cluster)),
    }
}

fn wait_until_it_ends(cluster: &ClusterFolder, owner: &Owner, stop: &StopSwitch) -> Result<(), CliError> {
    let until = Instant::now() + END_WAIT;
    // Another owner has started it again since.
    while up_lock::holder(cluster)?.is_some_and(|now| now.as_ref() == Some(owner)) {
        if stop.requested().is_some() {
            let text = format!("{owner} was asked to stop, and has not ended yet");
            return Err(CliError::stopped(StopCause::Interrupted, text));
        }
        if Instant::now() >= until {
            let message = format!("{owner} did not end within {} s", END_WAIT.as_secs());
            let next = format!("kill -9 {}; its processes end with it", owner.pid);
            return Err(CliError::new(Exit::JobFailed, message).with_next(next));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn unknown_owner(cluster: &ClusterFolder) -> CliError {
    let path = up_lock::path(cluster);
    let message = format!("`{}` is held by a process that it does not name", path.display());
    CliError::usage(message).with_next(format!("find it: fuser {}", shell_word(&path.to_string_lossy())))
}

/// Empties the folders of data and logs, while nobody can start the cluster.
fn purge(cluster: &ClusterFolder) -> Result<(), CliError> {
    let lock = up_lock::take(cluster)?;
    for name in ["data", "logs"] {
        let folder = cluster.path().join(name);
        empty(&folder).map_err(|error| CliError::io("empty", &folder, &error))?;
    }
    let path = up_lock::path(cluster);
    lock.remove(&RealDisk)
        .map_err(|error| CliError::io("remove", &path, &error))
}

fn empty(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn command(cluster: &ClusterFolder) -> String {
    let dir = cluster.path().to_string_lossy();
    format!("tilework cluster down {}", shell_word(&dir))
}

fn tell(args: &DownArgs, stopped: Option<&Owner>, output: &Output) -> Result<(), CliError> {
    let dir = args.dir.display();
    let json = json!({
        "status": "done",
        "cluster": dir.to_string(),
        "was_running": stopped.is_some(),
        "pid": stopped.map(|owner| owner.pid),
        "purged": args.purge,
    });
    output.result(json, |out| {
        match stopped {
            Some(owner) => writeln!(out, "stopped the cluster in {dir}: {owner}")?,
            None => writeln!(out, "the cluster in {dir} is not running")?,
        }
        if args.purge {
            writeln!(
                out,
                "removed the server's data and the logs; keys and certificates stay"
            )?;
        }
        Ok(())
    })
}
