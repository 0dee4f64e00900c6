//! What has to be there before `up` starts anything: a nats-server, data roots, a share for each worker, the folder, its port.

use crate::args::cluster::UpArgs;
use crate::failure::{CliError, Exit};
use crate::human::shell_word;
use crate::output::Output;
use crate::settings::default_memory_bytes;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tilework_nats::cluster_folder::{ClusterError, ClusterFolder, ClusterPlan};
use tilework_nats::server::{FoundServer, Places};
use tilework_store::data_roots::{DataRoots, NamedRoot};

/// The port of every nats-server, unless somebody says otherwise.
const PORT: u16 = 4222;
/// What the only data root is called if none is given.
const DATA_ROOT: &str = "data";
/// How long the server of an `up` that was killed may still hold its port.
const OLD_SERVER_WAIT: Duration = Duration::from_secs(5);
const PORT_POLL: Duration = Duration::from_millis(50);

/// What `up` starts from.
#[derive(Debug)]
pub(super) struct Preparation {
    pub(super) cluster: ClusterFolder,
    pub(super) listen: SocketAddr,
    pub(super) server: FoundServer,
    /// With absolute directories.
    pub(super) data_roots: Vec<NamedRoot>,
    pub(super) shares: Vec<Share>,
}

/// What one worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) n_threads: u32,
    pub(super) memory_bytes: u64,
}

/// Looks for everything, and makes the folder if it is missing; that comes last, so that a failure leaves none.
pub(super) fn prepare(args: &UpArgs, output: &Output) -> Result<Preparation, CliError> {
    let server = Places::from_env().find()?;
    if let Some(warning) = server.warning() {
        output.note(&warning);
    }
    let data_roots = data_roots(&args.data_root)?;
    let shares = shares(args)?;
    let cluster = match ClusterFolder::open(&args.dir) {
        Ok(cluster) => cluster,
        Err(ClusterError::Missing(_)) => make(args, output)?,
        Err(error) => return Err(error.into()),
    };
    let listen = cluster.listen()?;
    if let Some(port) = args.port.filter(|port| *port != listen.port()) {
        let dir = shell_word(&args.dir.to_string_lossy());
        let message = format!(
            "the cluster in `{}` was made for {listen}, not for port {port}",
            args.dir.display()
        );
        return Err(CliError::usage(message).with_next(format!(
            "leave `--port` out: tilework cluster up {dir}; or name another folder"
        )));
    }
    let logs = cluster.path().join("logs");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&logs)
        .map_err(|error| CliError::io("make", &logs, &error))?;
    Ok(Preparation {
        cluster,
        listen,
        server,
        data_roots,
        shares,
    })
}

fn make(args: &UpArgs, output: &Output) -> Result<ClusterFolder, CliError> {
    let dir = &args.dir;
    if fs::symlink_metadata(dir).is_ok() {
        let message = format!("`{}` exists, and there is no cluster in it", dir.display());
        return Err(CliError::usage(message).with_next("name a folder that does not exist yet: it is made"));
    }
    let listen = match args.port {
        Some(port) => {
            let listen = loopback(port);
            if !is_free(listen) {
                return Err(port_taken(listen).with_next("choose another one, or leave `--port` out"));
            }
            listen
        }
        None if is_free(loopback(PORT)) => loopback(PORT),
        None => {
            let listen = free_port().map_err(|error| {
                CliError::new(Exit::JobFailed, format!("cannot find a free port: {error}"))
            })?;
            output.note(&format!(
                "port {PORT} is taken by another process: the cluster gets port {}",
                listen.port()
            ));
            listen
        }
    };
    let plan = ClusterPlan {
        listen,
        hosts: Vec::new(),
    };
    match ClusterFolder::init(dir, &plan) {
        // Another `up` was faster; the lock decides who goes on.
        Err(ClusterError::Exists(_)) => Ok(ClusterFolder::open(dir)?),
        Err(error) => Err(error.into()),
        Ok(cluster) => {
            output.note(&format!(
                "made a cluster in {}, for this machine only",
                dir.display()
            ));
            Ok(cluster)
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn is_free(listen: SocketAddr) -> bool {
    TcpListener::bind(listen).is_ok()
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind(loopback(0))?.local_addr()
}

fn port_taken(listen: SocketAddr) -> CliError {
    CliError::usage(format!("port {} is taken by another process", listen.port()))
        .with_facts(serde_json::json!({ "listen": listen.to_string() }))
}

/// Makes sure that the server will get its port. One of an `up` that was killed ends by itself and needs a moment.
pub(super) fn check_port(listen: SocketAddr, dir: &Path, was_killed: bool) -> Result<(), CliError> {
    let until = Instant::now()
        + if was_killed {
            OLD_SERVER_WAIT
        } else {
            Duration::ZERO
        };
    loop {
        let error = match TcpListener::bind(listen) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::AddrInUse {
            let message = format!(
                "the server of `{}` cannot listen on {listen}: {error}",
                dir.display()
            );
            return Err(CliError::usage(message));
        }
        if Instant::now() >= until {
            let error = port_taken(listen);
            let message = format!(
                "{}, and the cluster in `{}` was made for it",
                error.message,
                dir.display()
            );
            let next = format!(
                "see who has it: ss -ltnp 'sport = :{}'; stop that, or make another cluster",
                listen.port()
            );
            return Err(CliError { message, ..error }.with_next(next));
        }
        thread::sleep(PORT_POLL);
    }
}

/// The data roots as given, or the working directory; each with its absolute path, since a worker may be started anywhere.
fn data_roots(given: &[NamedRoot]) -> Result<Vec<NamedRoot>, CliError> {
    let mut roots = given.to_vec();
    if roots.is_empty() {
        roots.push(NamedRoot {
            name: DATA_ROOT.to_owned(),
            dir: PathBuf::from("."),
        });
    }
    DataRoots::open(&roots).map_err(|error| {
        CliError::usage(error.to_string()).with_next("name a directory that exists: --data-root NAME=DIR")
    })?;
    for root in &mut roots {
        root.dir = fs::canonicalize(&root.dir).map_err(|error| CliError::io("find", &root.dir, &error))?;
    }
    Ok(roots)
}

fn shares(args: &UpArgs) -> Result<Vec<Share>, CliError> {
    let n_workers = args.workers.unwrap_or(1);
    let memory_bytes = match args.memory {
        Some(memory_bytes) => memory_bytes,
        None => default_memory_bytes(Path::new("/"))? / u64::from(n_workers),
    };
    let n_threads = thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let share = |worker| Share {
        n_threads: args
            .threads
            .unwrap_or_else(|| share_of(n_threads, n_workers, worker)),
        memory_bytes,
    };
    Ok((0..n_workers).map(share).collect())
}

/// Threads of one of `n_workers`: the first ones get what is left over, and nobody gets none.
fn share_of(n_threads: u32, n_workers: u32, worker: u32) -> u32 {
    let more = u32::from(worker < n_threads % n_workers);
    (n_threads / n_workers + more).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_all_threads_and_each_has_one() {
        let of = |n_threads, n_workers| -> Vec<u32> {
            (0..n_workers)
                .map(|worker| share_of(n_threads, n_workers, worker))
                .collect()
        };
        assert_eq!(of(8, 1), [8]);
        assert_eq!(of(8, 3), [3, 3, 2]);
        assert_eq!(of(2, 4), [1, 1, 1, 1]);
    }

    #[test]
    fn without_data_roots_it_is_the_working_directory() {
        let roots = data_roots(&[]).unwrap();
        assert_eq!(roots[0].name, "data");
        assert_eq!(
            roots[0].dir,
            std::env::current_dir().unwrap().canonicalize().unwrap()
        );
        let missing = data_roots(&["x=/nonexistent/x".parse().unwrap()]).unwrap_err();
        assert!(missing.message.contains("x=`/nonexistent/x`"), "{missing:?}");
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind(loopback(0)).unwrap();
        let listen = taken.local_addr().unwrap();
        let error = check_port(listen, Path::new("c"), false).unwrap_err();
        assert!(
            error
                .message
                .contains(&format!("port {} is taken", listen.port())),
            "{error:?}"
        );
        drop(taken);
        check_port(listen, Path::new("c"), true).unwrap();
    }
}
