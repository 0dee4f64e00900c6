//! One process of a cluster: how it is started, whether it has ended, how it is stopped.
//!
//! None outlives `up`: the server has a watcher, and our own programs end when their standard input closes.

use super::log_file;
use crate::failure::CliError;
use crate::own_program;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use tilework_nats::{ChildServer, ClusterFolder};

/// How a process is started.
#[derive(Debug, Clone)]
pub enum Launch {
    /// The cluster's nats-server.
    Server {
        /// The program.
        program: PathBuf,
        /// Its folder.
        cluster: ClusterFolder,
    },
    /// A program that ends when its standard input closes.
    Program {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
        /// What it says beside its own log goes there too.
        log: PathBuf,
    },
}

/// A running process.
#[derive(Debug)]
pub enum Process {
    /// The cluster's nats-server.
    Server(ChildServer),
    /// A program of ours.
    Program(Child),
}

impl Launch {
    /// Starts it.
    ///
    /// # Errors
    /// If it can't be started; a server that does not listen counts as that.
    pub fn start(&self) -> Result<Process, CliError> {
        match self {
            Launch::Server { program, cluster } => {
                Ok(Process::Server(ChildServer::of_cluster(program, cluster)?))
            }
            Launch::Program { program, args, log } => {
                let log =
                    log_file::open(log).map_err(|error| CliError::io("open the log file", log, &error))?;
                let mut command = Command::new(program);
                own_program::without_options(&mut command);
                let child = command
                    .args(args)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .stderr(log)
                    // Ctrl-C in a terminal is for `up`, which then stops all of them in good order.
                    .process_group(0)
                    .spawn();
                Ok(Process::Program(
                    child.map_err(|error| CliError::io("start", program, &error))?,
                ))
            }
        }
    }
}

impl Process {
    /// Its id.
    pub fn pid(&self) -> u32 {
        match self {
            Process::Server(server) => server.pid(),
            Process::Program(child) => child.id(),
        }
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        match self {
            Process::Server(server) => server.ended(),
            Process::Program(child) => child.try_wait(),
        }
    }

    /// Asks a program to end in good order; a server is asked by [`end`](Self::end), which waits for it.
    pub fn ask_to_end(&mut self) {
        if let Process::Program(child) = self
            && matches!(child.try_wait(), Ok(None))
        {
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
    }

    /// Ends it: a server in good order, a program at once.
    pub fn end(self) {
        match self {
            Process::Server(server) => server.stop(),
            Process::Program(mut child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
