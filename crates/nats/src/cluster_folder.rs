//! A cluster's folder: certificates, keys, the server's configuration, its data and logs. Made once, complete or not at all.

use crate::authority::{Authority, Proves};
use crate::cluster_config::{ClusterConfig, ROUTES_LINE};
use crate::join::JoinFile;
use crate::new_folder::{self, Contents};
use crate::role::Role;
use crate::server_address::{ROUTE_PORT_OFFSET, ServerAddress, is_host};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What a cluster's folder is made for.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Names and addresses under which other machines reach it, beside the one it listens on.
    pub hosts: Vec<String>,
}

/// Why a cluster's folder can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Something is there already.
    #[error("`{}` exists already", .0.display())]
    Exists(PathBuf),
    /// There is no cluster in it.
    #[error("there is no cluster in `{}`", .0.display())]
    Missing(PathBuf),
    /// It is a cluster of three servers, none of which runs in this folder.
    #[error("the cluster in `{}` has three servers, each to be run on its own machine", .0.display())]
    ThreeServers(PathBuf),
    /// It is the folder of one server of three.
    #[error("`{}` is the folder of one server of a cluster of three", .0.display())]
    OneOfThree(PathBuf),
    /// There are fewer servers or more.
    #[error("a cluster has one server or three, not {0}: with two, the end of either would stop both")]
    NotThree(usize),
    /// Two servers would be one.
    #[error("two servers have the address `{0}`")]
    SameServer(String),
    /// Two servers would end with one machine.
    #[error("two servers are on `{0}`: whatever ends that machine would end the cluster")]
    SameHost(String),
    /// A server that no other one reaches.
    #[error("`{0}` is this machine's own address: the other servers can't reach it")]
    OwnHost(String),
    /// A server that could not be reached by other servers.
    #[error("port {0} is too high: other servers use the port {ROUTE_PORT_OFFSET} above it")]
    PortTooHigh(u16),
    /// Join files could not name the port.
    #[error("a cluster's port must be known beforehand: {0} lets the system choose one")]
    NoPort(SocketAddr),
    /// A host is neither a name nor an address.
    #[error("`{0}` is neither a host's name nor its address")]
    BadHost(String),
    /// A server's address is none.
    #[error("`{0}` is not a server's address: it is HOST or HOST:PORT")]
    BadServer(String),
    /// It listens on all addresses, and none was named by which others reach it.
    #[error("other machines need a name or address for a server that listens on {0}")]
    NoHost(SocketAddr),
    /// The certificates could not be made.
    #[error("cannot make certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A key could not be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] nkeys::error::Error),
    /// The server's configuration does not say where it listens.
    #[error("`{}` has no line `listen: \"ADDRESS:PORT\"`", .0.display())]
    NoListen(PathBuf),
    /// The storage failed.
    #[error("cannot use `{}`: {source}", .path.display())]
    Io {
        /// What was accessed.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl ClusterError {
    /// The next command, where one helps.
    pub fn next(&self) -> Option<String> {
        match self {
            ClusterError::Exists(path) => Some(format!(
                "start it: `tilework cluster up {}`; or choose another folder",
                path.display()
            )),
            ClusterError::Missing(path) => {
                Some(format!("make one: `tilework cluster init {}`", path.display()))
            }
            ClusterError::ThreeServers(path) => Some(format!(
                "copy {0}/server-1 to its machine and run `nats-server -c nats.conf` in it, likewise the others; then `tilework driver --cluster {0}/driver.join --data-root NAME=DIR`",
                path.display()
            )),
            ClusterError::OneOfThree(path) => {
                Some(format!("cd {} && nats-server -c nats.conf", path.display()))
            }
            ClusterError::SameServer(_) | ClusterError::SameHost(_) => {
                Some("name three machines; to try it on one: --servers 127.0.0.1:4222,127.0.0.1:4223,127.0.0.1:4224".into())
            }
            ClusterError::OwnHost(_) => Some("name it as other machines do".into()),
            ClusterError::PortTooHigh(_) => Some("leave it out: it is then 4222".into()),
            ClusterError::NoHost(listen) => Some(format!("name it: --listen {listen} --host NAME")),
            ClusterError::NoPort(listen) => {
                let fixed = SocketAddr::new(listen.ip(), 4222);
                Some(format!("choose it: --listen {fixed}"))
            }
            ClusterError::BadHost(_) => Some("give it without port: --host head.example".into()),
            ClusterError::NotThree(_) | ClusterError::BadServer(_) => {
                Some("name three machines: --servers HOST1,HOST2,HOST3".into())
            }
            ClusterError::NoListen(_) => Some("put the line back, as in: listen: \"127.0.0.1:4222\"".into()),
            ClusterError::Certificate(_) | ClusterError::Key(_) | ClusterError::Io { .. } => None,
        }
    }
}

/// What a server keeps beside its configuration: its streams and its logs.
pub(crate) const SERVER_FOLDERS: [&str; 2] = ["data", "logs"];

/// The folder of a cluster with one server.
#[derive(Debug, Clone)]
pub struct ClusterFolder {
    path: PathBuf,
}

impl ClusterFolder {
    /// Makes a cluster's folder at `path`, under its name only once it is complete.
    ///
    /// # Errors
    /// See [`ClusterError`]; nothing is left behind.
    pub fn init(path: &Path, plan: &ClusterPlan) -> Result<ClusterFolder, ClusterError> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(ClusterError::Exists(path.to_path_buf()));
        }
        let names = plan.names()?;
        let authority = Authority::new()?;
        let server = authority.certify(&names, Proves::ToClients)?;
        let url = ServerAddress::new(&names[0], plan.listen.port()).url();
        let Joins { keys, files: joins } = Joins::new(&authority, &[url], 1)?;
        let config = ClusterConfig {
            server_name: "tilework",
            listen: plan.listen,
            keys: &keys,
            routes: None,
        };
        let mut files = vec![
            ("authority.pem".to_owned(), authority.pem().to_owned()),
            ("nats.conf".to_owned(), config.text()),
            ("server.pem".to_owned(), server.certificate),
            ("server.key".to_owned(), server.key),
        ];
        files.extend(joins);
        let folders = SERVER_FOLDERS.map(str::to_owned).to_vec();
        new_folder::write(path, &Contents { folders, files })?;
        Ok(ClusterFolder {
            path: path.to_path_buf(),
        })
    }

    /// The cluster in `path`.
    ///
    /// # Errors
    /// [`ClusterError::Missing`], or [`ClusterError::ThreeServers`] if it has no server of its own.
    pub fn open(path: &Path) -> Result<ClusterFolder, ClusterError> {
        let folder = ClusterFolder {
            path: path.to_path_buf(),
        };
        if folder.path.join("server-1/nats.conf").is_file() {
            return Err(ClusterError::ThreeServers(path.to_path_buf()));
        }
        if !folder.config().is_file() {
            return Err(ClusterError::Missing(path.to_path_buf()));
        }
        let has_routes = folder.config_text()?.lines().any(|line| line == ROUTES_LINE);
        if has_routes {
            return Err(ClusterError::OneOfThree(path.to_path_buf()));
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The server's configuration, whose paths are relative to the folder.
    pub fn config(&self) -> PathBuf {
        self.path.join("nats.conf")
    }

    /// Where its server listens, as its configuration says.
    ///
    /// # Errors
    /// If the configuration can't be read, or does not say it in one line.
    pub fn listen(&self) -> Result<SocketAddr, ClusterError> {
        let text = self.config_text()?;
        let values = text.lines().filter_map(|line| line.strip_prefix("listen:"));
        values
            .filter_map(|value| value.trim().trim_matches('"').parse().ok())
            .next()
            .ok_or_else(|| ClusterError::NoListen(self.config()))
    }

    fn config_text(&self) -> Result<String, ClusterError> {
        let path = self.config();
        fs::read_to_string(&path).map_err(|source| ClusterError::Io { path, source })
    }

    /// A role's join file.
    pub fn join(&self, role: Role) -> PathBuf {
        self.path.join(format!("{role}.join"))
    }
}

impl ClusterPlan {
    /// What the certificate holds; the first one is what join files name.
    fn names(&self) -> Result<Vec<String>, ClusterError> {
        if self.listen.port() == 0 {
            return Err(ClusterError::NoPort(self.listen));
        }
        if let Some(bad) = self.hosts.iter().find(|host| !is_host(host)) {
            return Err(ClusterError::BadHost(bad.clone()));
        }
        let mut names = self.hosts.clone();
        if self.listen.ip().is_unspecified() {
            if names.is_empty() {
                return Err(ClusterError::NoHost(self.listen));
            }
        } else {
            names.push(self.listen.ip().to_string());
        }
        if self.listen.ip().is_loopback() || self.listen.ip().is_unspecified() {
            names.extend(["localhost", "127.0.0.1"].map(String::from));
        }
        let mut unique = Vec::new();
        names.retain(|name| {
            let is_new = !unique.contains(name);
            unique.push(name.clone());
            is_new
        });
        Ok(names)
    }
}

/// A cluster's roles: their keys, and the files by which they join.
pub(crate) struct Joins {
    /// The public key of each role.
    pub(crate) keys: BTreeMap<Role, String>,
    /// The join files: names and texts.
    pub(crate) files: Vec<(String, String)>,
}

impl Joins {
    /// Makes new keys, for servers that hold each record so many times.
    pub(crate) fn new(
        authority: &Authority,
        urls: &[String],
        n_replicas: usize,
    ) -> Result<Joins, ClusterError> {
        let (mut keys, mut files) = (BTreeMap::new(), Vec::new());
        for role in Role::ALL {
            let key = nkeys::KeyPair::new_user();
            keys.insert(role, key.public_key());
            let authority = authority.pem().to_owned();
            let join = JoinFile::new(role, urls.to_vec(), authority, key.seed()?);
            files.push((format!("{role}.join"), join.with_replicas(n_replicas).text()));
        }
        Ok(Joins { keys, files })
    }
}
