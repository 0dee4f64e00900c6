//! `cluster up`: does what is missing, starts server, driver and workers, and keeps them running until it is stopped.

use super::preparation::{Preparation, Share, check_port, prepare};
use super::process::Launch;
use super::readiness::{self, Awaited, READY_WAIT};
use super::started::Started;
use super::supervisor::{LOOK, Member, Members, Supervisor};
use super::{background, up_lock};
use crate::args::cluster::UpArgs;
use crate::cluster::board;
use crate::failure::{CliError, Exit};
use crate::output::Output;
use crate::{own_program, signals};
use std::ffi::OsString;
use std::path::Path;
use std::thread;
use tilework_nats::{JoinFile, Role};
use tilework_runtime::StopSwitch;
use tilework_store::disk::RealDisk;

/// Runs the command.
pub fn run(args: &UpArgs, output: &Output) -> Result<(), CliError> {
    if args.in_background {
        // No terminal's end reaches it any more. Where it leads a session already, that is so.
        let _ = rustix::process::setsid();
    }
    let preparation = prepare(args, output)?;
    if args.detach {
        return background::start(args, &preparation, output);
    }
    let stop = StopSwitch::default();
    let _signals = signals::stop_on_signals(&stop, output)?;
    let was_killed = up_lock::path(&preparation.cluster).exists();
    let lock = up_lock::take(&preparation.cluster)?;
    let ended = hold_up(args, &preparation, was_killed, &stop, output);
    // Without its file the lock is let go as well, when this process ends.
    let _ = lock.remove(&RealDisk);
    ended
}

/// Starts all processes, and keeps them running until `stop` says otherwise.
fn hold_up(
    args: &UpArgs,
    preparation: &Preparation,
    was_killed: bool,
    stop: &StopSwitch,
    output: &Output,
) -> Result<(), CliError> {
    let cluster = &preparation.cluster;
    check_port(preparation.listen, cluster.path(), was_killed)?;
    let client = JoinFile::read(&cluster.join(Role::Client), Role::Client)?;
    let mut supervisor = Supervisor::start(members(preparation), output)?;
    let ready = get_ready(&mut supervisor, &client, stop).and_then(|()| {
        let memory_bytes = preparation.shares[0].memory_bytes;
        let started = Started::of(
            cluster,
            preparation.listen,
            memory_bytes,
            &supervisor,
            args.in_background,
        )?;
        let json = serde_json::to_value(&started)
            .map_err(|error| CliError::new(Exit::JobFailed, error.to_string()))?;
        output.result(json, |out| started.describe(out))
    });
    if ready.is_ok() {
        while stop.requested().is_none() {
            supervisor.tend();
            thread::sleep(LOOK);
        }
    }
    supervisor.stop();
    if ready.is_ok() {
        output.note(&format!("the cluster in {} is stopped", cluster.path().display()));
    }
    ready
}

fn get_ready(supervisor: &mut Supervisor, client: &JoinFile, stop: &StopSwitch) -> Result<(), CliError> {
    let tend = || {
        supervisor.tend();
        Awaited {
            server: supervisor.server().unwrap_or_default(),
            driver: supervisor.driver().unwrap_or_default(),
            workers: supervisor.workers(),
        }
    };
    readiness::wait(READY_WAIT, stop, tend, || board::look(client)).map(|_| ())
}

/// Who is in the cluster, and how each is started.
fn members(preparation: &Preparation) -> Members {
    let Preparation {
        cluster,
        server,
        data_roots,
        shares,
        ..
    } = preparation;
    let logs = cluster.path().join("logs");
    let program = own_program::path();
    let roots: Vec<OsString> = data_roots
        .iter()
        .flat_map(|root| {
            let mut named = OsString::from(format!("{}=", root.name));
            named.push(&root.dir);
            ["--data-root".into(), named]
        })
        .collect();
    let own = |name: String, verb: &str, role: Role, options: Vec<String>| {
        let log = logs.join(format!("{name}.log"));
        let mut args = words(&[verb, "--cluster"], &cluster.join(role));
        args.extend(options.into_iter().map(OsString::from));
        args.extend(roots.iter().cloned());
        args.extend(words(&["--until-stdin-closes", "--quiet", "--log-file"], &log));
        Member {
            name,
            log: log.clone(),
            launch: Launch::Program {
                program: program.clone(),
                args,
                log,
            },
        }
    };
    let worker = |(idx, share): (usize, &Share)| {
        let threads = share.n_threads.to_string();
        let memory = share.memory_bytes.to_string();
        let options = ["--threads".to_owned(), threads, "--memory".to_owned(), memory];
        own(
            format!("worker-{}", idx + 1),
            "worker",
            Role::Worker,
            options.to_vec(),
        )
    };
    Members {
        server: Member {
            name: "nats-server".to_owned(),
            log: logs.join("nats-server.log"),
            launch: Launch::Server {
                program: server.path.clone(),
                cluster: cluster.clone(),
            },
        },
        driver: own("driver".to_owned(), "driver", Role::Driver, Vec::new()),
        workers: shares.iter().enumerate().map(worker).collect(),
    }
}

fn words(words: &[&str], path: &Path) -> Vec<OsString> {
    let mut all: Vec<OsString> = words.iter().map(OsString::from).collect();
    all.push(path.into());
    all
}
