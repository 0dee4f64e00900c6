//! `worker` and `driver`: they run until they are told to stop.

use super::multiply::simd;
use crate::args::multiply::ResourceArgs;
use crate::args::processes::{DriverArgs, ProcessArgs, WorkerArgs};
use crate::cluster::driving::{self, DriverSettings};
use crate::cluster::joining::read_join;
use crate::cluster::opened::WorkerResources;
use crate::cluster::working::{self, WorkerSettings};
use crate::failure::{CliError, Exit};
use crate::job::kinds::Kinds;
use crate::output::Output;
use crate::settings::Settings;
use crate::signals;
use serde_json::json;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use tilework_core::failure::Failure;
use tilework_core::ids::Attempt;
use tilework_nats::Role;
use tilework_runtime::{Observer, StopSwitch};
use tilework_store::data_roots::DataRoots;

/// Runs `worker`.
pub fn work(args: &WorkerArgs, kinds: &'static Kinds, output: &Output) -> Result<(), CliError> {
    let join = read_join(&args.process.cluster, Role::Worker)?;
    let roots = open_roots(&args.process)?;
    let allowed = ResourceArgs {
        memory: args.memory,
        threads: args.threads,
        ..ResourceArgs::default()
    };
    let settings = Settings::resolve(&allowed, None, output.started())?;
    let settings = WorkerSettings {
        join,
        roots,
        resources: WorkerResources {
            memory_bytes: settings.memory_bytes,
            n_threads: settings.n_threads,
            simd: simd()?,
        },
        kinds,
    };
    let stop = StopSwitch::default();
    let _signals = signals::stop_on_signals(&stop, output)?;
    end_with_stdin(&args.process)?;
    working::run(&settings, &stop, &Logged, &|worker| {
        output.note(&format!(
            "worker {worker} takes tasks; Ctrl-C lets it finish or give back what it has"
        ));
    })?;
    output.result(json!({ "status": "done" }), |_| Ok(()))
}

/// Runs `driver`.
pub fn drive(args: &DriverArgs, kinds: &'static Kinds, output: &Output) -> Result<(), CliError> {
    let settings = DriverSettings {
        join: read_join(&args.process.cluster, Role::Driver)?,
        roots: open_roots(&args.process)?,
        simd: simd()?,
        kinds,
        webhook: args.alert_webhook.clone(),
    };
    let stop = StopSwitch::default();
    let _signals = signals::stop_on_signals(&stop, output)?;
    end_with_stdin(&args.process)?;
    output.note("the driver waits for the lease; Ctrl-C hands it on");
    driving::run(&settings, &stop)?;
    output.result(json!({ "status": "done" }), |_| Ok(()))
}

fn open_roots(args: &ProcessArgs) -> Result<Arc<DataRoots>, CliError> {
    let opened = DataRoots::open(&args.data_root);
    opened.map(Arc::new).map_err(|error| {
        CliError::usage(error.to_string()).with_next("name a directory that is there: --data-root NAME=DIR")
    })
}

/// Whoever started this process is gone when its end of the pipe is: then nobody would ever stop it.
fn end_with_stdin(args: &ProcessArgs) -> Result<(), CliError> {
    if !args.until_stdin_closes {
        return Ok(());
    }
    let wait = || {
        let mut buffer = [0; 64];
        while matches!(io::stdin().read(&mut buffer), Ok(n) if n > 0) {}
        std::process::exit(Exit::Interrupted.code().into());
    };
    let spawned = thread::Builder::new().name("stdin".to_owned()).spawn(wait);
    spawned
        .map(drop)
        .map_err(|error| CliError::new(Exit::JobFailed, format!("cannot start a thread: {error}")))
}

/// What a worker does is in its log.
struct Logged;

impl Observer for Logged {
    fn on_started(&self, attempt: Attempt) {
        tracing::debug!(task = attempt.task.0, attempt = attempt.attempt.0, "started");
    }
    fn on_failed(&self, attempt: Attempt, failure: &Failure) {
        tracing::warn!(task = attempt.task.0, "failed: {}", failure.text);
    }
}
