//! What `up` says once a cluster is ready: how to use it here, and how from other machines.

use super::supervisor::Supervisor;
use crate::failure::CliError;
use crate::human::{self, shell_word};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use tilework_nats::{ClusterFolder, Role};

/// A cluster that is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Always `ready`.
    pub status: String,
    /// Its folder, as it was named.
    pub cluster: String,
    /// The file by which clients join, absolute.
    pub join_file: String,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The process of `up`.
    pub pid: u32,
    /// The server's.
    pub server_pid: Option<u32>,
    /// The driver's.
    pub driver_pid: Option<u32>,
    /// The workers'.
    pub worker_pids: Vec<Option<u32>>,
    /// Memory of each worker.
    pub worker_memory_bytes: u64,
    /// Whether it runs in the background.
    pub in_background: bool,
    /// What to run next on this machine.
    pub next: Vec<String>,
    /// What brings workers of other machines in: of this cluster, or of one that other machines reach.
    pub other_machines: String,
    /// What stops it.
    pub stop: String,
}

impl Started {
    /// Of what runs now.
    ///
    /// # Errors
    /// If the folder is gone.
    pub fn of(
        cluster: &ClusterFolder,
        listen: SocketAddr,
        worker_memory_bytes: u64,
        supervisor: &Supervisor,
        in_background: bool,
    ) -> Result<Started, CliError> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map(|path| path.display().to_string())
                .map_err(|error| CliError::io("find", path, &error))
        };
        let dir = cluster.path().display().to_string();
        let join_file = absolute(&cluster.join(Role::Client))?;
        let next = vec![
            format!("export TILEWORK_CLUSTER={}", shell_word(&join_file)),
            "tilework multiply A.npy B.npy -o C.npy".to_owned(),
        ];
        let other_machines = if listen.ip().is_loopback() {
            let other = shell_word(&format!("{}-open", dir.trim_end_matches('/')));
            format!(
                "tilework cluster init {other} --listen 0.0.0.0:{} --host NAME",
                listen.port()
            )
        } else {
            "tilework worker --cluster worker.join --data-root data=DIR".to_owned()
        };
        Ok(Started {
            status: "ready".to_owned(),
            stop: format!("tilework cluster down {}", shell_word(&dir)),
            cluster: dir,
            join_file,
            listen,
            pid: std::process::id(),
            server_pid: supervisor.server().and_then(|standing| standing.pid),
            driver_pid: supervisor.driver().and_then(|standing| standing.pid),
            worker_pids: supervisor.workers().iter().map(|standing| standing.pid).collect(),
            worker_memory_bytes,
            in_background,
            next,
            other_machines,
        })
    }

    /// In words: what runs, then the lines to run.
    ///
    /// # Errors
    /// As `out` has them.
    pub fn describe(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "ready: nats-server on {}, a driver, {} with {}",
            self.listen,
            human::counted(self.worker_pids.len() as u64, "worker"),
            human::bytes(self.worker_memory_bytes)
        )?;
        if self.in_background {
            writeln!(
                out,
                "it runs in the background, as process {}; to stop it:",
                self.pid
            )?;
            writeln!(out, "  {}", self.stop)?;
        } else {
            writeln!(out, "Ctrl-C stops it")?;
        }
        if self.listen.ip().is_loopback() {
            writeln!(out, "this machine only; a cluster that others reach:")?;
            writeln!(out, "  {}", self.other_machines)?;
        } else {
            let worker = Path::new(&self.join_file).with_file_name("worker.join");
            writeln!(out, "on another machine, with a copy of {}:", worker.display())?;
            writeln!(out, "  {}", self.other_machines)?;
        }
        writeln!(out, "on this machine:")?;
        self.next.iter().try_for_each(|line| writeln!(out, "  {line}"))
    }
}
