//! Runs a nats-server as a child process on the loopback interface. It never outlives this process.

use crate::cluster_config::SERVER_LOG;
use crate::cluster_folder::ClusterFolder;
use crate::limits::{CHILD_POLL, SERVER_START_WAIT, SERVER_STOP_WAIT};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

/// How a server is run.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Its folder: configuration, log and store.
    pub folder: PathBuf,
    /// The port to listen at; without one the system chooses.
    pub port: Option<u16>,
    /// Further lines of its configuration: accounts, TLS.
    pub settings: String,
}

impl ServerConfig {
    /// A server that keeps everything in `folder` and listens at whichever port is free.
    pub fn in_folder(folder: impl Into<PathBuf>) -> ServerConfig {
        ServerConfig {
            folder: folder.into(),
            port: None,
            settings: String::new(),
        }
    }

    /// Each write is synced: one server has no replicas to get it back from.
    fn text(&self) -> String {
        let port = self.port.map_or("-1".to_string(), |port| port.to_string());
        let quoted = |name: &str| format!("{:?}", self.folder.join(name));
        let (store, log) = (quoted("store"), quoted("log"));
        let settings = &self.settings;
        format!(
            r#"listen: "127.0.0.1:{port}"
log_file: {log}
ping_interval: "3s"
ping_max: 2
write_deadline: "5s"
jetstream {{ store_dir: {store}, max_memory_store: 64MB, max_file_store: 1GB, sync_interval: always }}
{settings}
"#
        )
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartServerError {
    /// Its folder or the program itself could not be used.
    #[error("cannot start `{}`", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended at once.
    #[error("the nats-server ended as it started: {log}")]
    Ended {
        /// The end of its log.
        log: String,
    },
    /// It does not listen.
    #[error("the nats-server did not listen within {} s: {log}", SERVER_START_WAIT.as_secs())]
    Silent {
        /// The end of its log.
        log: String,
    },
}

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct ChildServer {
    child: Child,
    watcher: Child,
    port: u16,
}

/// What the server writes about the ports that it listens at.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl ChildServer {
    /// Starts the server `program` and waits until it listens.
    ///
    /// # Errors
    /// If it does not start, or does not listen in time.
    pub fn start(program: &Path, config: &ServerConfig) -> Result<ChildServer, StartServerError> {
        fs::create_dir_all(&config.folder).map_err(failed(&config.folder))?;
        let conf = config.folder.join("nats.conf");
        fs::write(&conf, config.text()).map_err(failed(&conf))?;
        ChildServer::launch(program, &config.folder, "log")
    }

    /// Starts the server of a cluster as its folder says, and waits until it listens.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn of_cluster(program: &Path, cluster: &ClusterFolder) -> Result<ChildServer, StartServerError> {
        ChildServer::in_folder(program, cluster.path())
    }

    /// Starts the server of a folder that `tilework cluster init` made, and waits until it listens: for one of several servers that is
    /// before they have agreed on anything.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn in_folder(program: &Path, folder: &Path) -> Result<ChildServer, StartServerError> {
        ChildServer::launch(program, folder, SERVER_LOG)
    }

    fn launch(program: &Path, folder: &Path, log: &str) -> Result<ChildServer, StartServerError> {
        let absolute = |path: &Path| fs::canonicalize(path).map_err(failed(path));
        let (program, folder) = (&absolute(program)?, &absolute(folder)?);
        let ports = folder.join("ports");
        // What an earlier server said of its ports must not be taken for this one's.
        let _ = fs::remove_dir_all(&ports);
        fs::create_dir_all(&ports).map_err(failed(&ports))?;
        let mut child = Command::new(program)
            .current_dir(folder)
            .arg("--config")
            .arg(folder.join("nats.conf"))
            .arg("--ports_file_dir")
            .arg(&ports)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal is for this process, which then stops the server itself.
            .process_group(0)
            .spawn()
            .map_err(failed(program))?;
        let watcher = match watcher_of(&child) {
            Ok(watcher) => watcher,
            Err(source) => {
                end_now(&mut child);
                return Err(failed(Path::new("sh"))(source));
            }
        };
        let mut server = ChildServer {
            child,
            watcher,
            port: 0,
        };
        server.port = server.wait_until_it_listens(&ports, &folder.join(log))?;
        Ok(server)
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port that it listens at.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended by itself, if it did.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Stops it in good order, and kills it if that takes too long.
    pub fn stop(mut self) {
        self.end(Signal::TERM);
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.end(Signal::KILL);
    }

    fn wait_until_it_listens(&mut self, ports: &Path, log: &Path) -> Result<u16, StartServerError> {
        let file = ports.join(format!("nats-server_{}.ports", self.child.id()));
        let until = Instant::now() + SERVER_START_WAIT;
        loop {
            if let Some(port) = fs::read(&file).ok().as_deref().and_then(port_of) {
                return Ok(port);
            }
            let has_ended = !matches!(self.child.try_wait(), Ok(None));
            if has_ended || Instant::now() >= until {
                let log = end_of_log(log);
                return Err(if has_ended {
                    StartServerError::Ended { log }
                } else {
                    StartServerError::Silent { log }
                });
            }
            thread::sleep(CHILD_POLL);
        }
    }

    fn end(&mut self, signal: Signal) {
        dismiss(&mut self.watcher);
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.child), signal);
        let until = Instant::now() + SERVER_STOP_WAIT;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(CHILD_POLL);
        }
        end_now(&mut self.child);
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        self.end(Signal::TERM);
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StartServerError + use<> {
    let path = path.to_path_buf();
    move |source| StartServerError::Io { path, source }
}

/// A shell that waits for this process to end, however it does, and then ends the server: its input is a pipe that the system closes
/// with this process. (The signal that Linux can send when a parent dies would need `unsafe`, and comes when a *thread* ends.)
fn watcher_of(server: &Child) -> io::Result<Child> {
    Command::new("sh")
        .arg("-c")
        .arg(r#"read -r _ || kill -TERM "$0""#)
        .arg(server.id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Tells the watcher that there is nothing to watch any more. It must be gone before the server's number can be another process's.
fn dismiss(watcher: &mut Child) {
    if let Some(mut stdin) = watcher.stdin.take() {
        let _ = stdin.write_all(b"done\n");
        let _ = watcher.wait();
    }
}

fn end_now(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

pub(crate) fn port_of(text: &[u8]) -> Option<u16> {
    let ports: Ports = serde_json::from_slice(text).ok()?;
    ports.nats.first()?.rsplit(':').next()?.parse().ok()
}

fn end_of_log(log: &Path) -> String {
    const LINES: usize = 3;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
