//! `cluster status`: whether a cluster runs, who started it, and who is in it.

use super::up_lock;
use crate::args::cluster::StatusArgs;
use crate::cluster::board::{self, Board};
use crate::failure::CliError;
use crate::human::{self, shell_word};
use crate::output::Output;
use serde_json::{Value, json};
use std::io::{self, Write};
use tilework_nats::{ClusterFolder, JoinFile, Role};
use tilework_store::lock::Owner;

/// What is known of a cluster.
struct ClusterState {
    dir: String,
    servers: Vec<String>,
    /// Whether an `up` runs, and whose it is where that could be read.
    up: Option<Option<Owner>>,
    /// What the driver shows, or why that can't be seen.
    board: Result<Option<Board>, CliError>,
}

/// Runs the command.
pub fn run(args: &StatusArgs, output: &Output) -> Result<(), CliError> {
    let cluster = ClusterFolder::open(&args.dir)?;
    let client = JoinFile::read(&cluster.join(Role::Client), Role::Client)?;
    let up = up_lock::holder(&cluster)?;
    let board = match up {
        None => Ok(None),
        Some(_) => board::look(&client),
    };
    let state = ClusterState {
        dir: args.dir.display().to_string(),
        servers: client.servers,
        up,
        board,
    };
    output.result(state.to_json(), |out| state.describe(out))
}

impl ClusterState {
    fn to_json(&self) -> Value {
        let owner = self.up.as_ref().and_then(Option::as_ref);
        let board = self.board.as_ref().ok().and_then(Option::as_ref);
        json!({
            "status": "done",
            "cluster": self.dir,
            "running": self.up.is_some(),
            "pid": owner.map(|owner| owner.pid),
            "host": owner.map(|owner| &owner.host),
            "servers": self.servers,
            "board": board,
            "board_error": self.board.as_ref().err().map(|error| &error.message),
        })
    }

    fn describe(&self, out: &mut dyn Write) -> io::Result<()> {
        let (dir, servers) = (&self.dir, self.servers.join(", "));
        let Some(owner) = &self.up else {
            writeln!(out, "{dir}: not running; its server would be {servers}")?;
            return writeln!(out, "next: tilework cluster up {}", shell_word(dir));
        };
        let owner = owner
            .as_ref()
            .map_or("another process".to_owned(), Owner::to_string);
        writeln!(out, "{dir}: running, {owner}; server {servers}")?;
        match &self.board {
            Err(error) => writeln!(out, "who is in it can't be seen: {}", error.message),
            Ok(None) => writeln!(out, "no driver has shown itself yet"),
            Ok(Some(board)) => describe_board(board, out),
        }
    }
}

fn describe_board(board: &Board, out: &mut dyn Write) -> io::Result<()> {
    match &board.driver {
        Some(driver) => writeln!(
            out,
            "driver    {}, process {} on `{}`",
            driver.name, driver.pid, driver.host
        )?,
        None => writeln!(out, "driver    none leads")?,
    }
    for worker in &board.workers {
        writeln!(
            out,
            "worker {:<2} {}, process {} on `{}`: {}, {}, {} done",
            worker.id,
            worker.state,
            worker.pid,
            worker.host,
            human::counted(worker.threads.into(), "thread"),
            human::bytes(worker.memory_bytes),
            human::counted(worker.tasks_done, "task"),
        )?;
    }
    if board.workers.is_empty() {
        writeln!(out, "no workers")?;
    }
    writeln!(out, "{}", human::counted(board.jobs.len() as u64, "job"))
}
