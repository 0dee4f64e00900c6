//! A cluster's folder: certificates, keys, the server's configuration, its data and logs. Made once, complete or not at all.

use crate::authority;
use crate::cluster_config::ClusterConfig;
use crate::join::JoinFile;
use crate::role::Role;
use rustix::fs::{CWD, RenameFlags};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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
    /// Join files could not name the port.
    #[error("a cluster's port must be known beforehand: {0} lets the system choose one")]
    NoPort(SocketAddr),
    /// A host is neither a name nor an address.
    #[error("`{0}` is neither a host's name nor its address")]
    BadHost(String),
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
            ClusterError::NoHost(listen) => Some(format!("name it: --listen {listen} --host NAME")),
            ClusterError::NoPort(listen) => {
                let fixed = SocketAddr::new(listen.ip(), 4222);
                Some(format!("choose it: --listen {fixed}"))
            }
            ClusterError::BadHost(_) => Some("give it without port: --host head.example".into()),
            ClusterError::NoListen(_) => Some("put the line back, as in: listen: \"127.0.0.1:4222\"".into()),
            ClusterError::Certificate(_) | ClusterError::Key(_) | ClusterError::Io { .. } => None,
        }
    }
}

/// The folder.
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
        let certificates = authority::issue(&names)?;
        let mut keys = BTreeMap::new();
        let mut files = vec![
            ("authority.pem".to_owned(), certificates.authority.clone()),
            ("server.pem".to_owned(), certificates.server),
            ("server.key".to_owned(), certificates.server_key),
        ];
        let servers = vec![format!("tls://{}", url_host(&names[0], plan.listen.port()))];
        for role in Role::ALL {
            let key = nkeys::KeyPair::new_user();
            keys.insert(role, key.public_key());
            let join = JoinFile::new(role, servers.clone(), certificates.authority.clone(), key.seed()?);
            files.push((format!("{role}.join"), join.text()));
        }
        let config = ClusterConfig {
            listen: plan.listen,
            keys: &keys,
        };
        files.push(("nats.conf".to_owned(), config.text()));
        write_folder(path, &files)?;
        Ok(ClusterFolder {
            path: path.to_path_buf(),
        })
    }

    /// The cluster in `path`.
    ///
    /// # Errors
    /// [`ClusterError::Missing`].
    pub fn open(path: &Path) -> Result<ClusterFolder, ClusterError> {
        let folder = ClusterFolder {
            path: path.to_path_buf(),
        };
        if folder.config().is_file() {
            Ok(folder)
        } else {
            Err(ClusterError::Missing(path.to_path_buf()))
        }
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
        let path = self.config();
        let text = fs::read_to_string(&path).map_err(|source| ClusterError::Io {
            path: path.clone(),
            source,
        })?;
        let values = text.lines().filter_map(|line| line.strip_prefix("listen:"));
        values
            .filter_map(|value| value.trim().trim_matches('"').parse().ok())
            .next()
            .ok_or(ClusterError::NoListen(path))
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

/// A name of letters, digits, `-` and `.`, or an address.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.parse::<IpAddr>().is_ok() || host.len() <= 253 && host.split('.').all(is_label)
}

/// A host and port as they stand in a URL.
fn url_host(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// Writes a folder under another name, and gives it its own once all of it is durable.
fn write_folder(path: &Path, files: &[(String, String)]) -> Result<(), ClusterError> {
    let Some(name) = path.file_name() else {
        return Err(ClusterError::Exists(path.to_path_buf()));
    };
    let mut incomplete = name.to_owned();
    incomplete.push(format!(".{}.partial", std::process::id()));
    let incomplete = path.with_file_name(incomplete);
    let written = try_write_folder(&incomplete, path, files);
    if written.is_err() {
        let _ = fs::remove_dir_all(&incomplete);
    }
    written
}

fn try_write_folder(incomplete: &Path, path: &Path, files: &[(String, String)]) -> Result<(), ClusterError> {
    let io_error = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ClusterError::Io { path, source }
    };
    DirBuilder::new()
        .mode(0o700)
        .create(incomplete)
        .map_err(io_error(incomplete))?;
    for (name, text) in files {
        let file = incomplete.join(name);
        write_secret(&file, text.as_bytes()).map_err(io_error(&file))?;
    }
    for name in ["data", "logs"] {
        let dir = incomplete.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(io_error(&dir))?;
    }
    File::open(incomplete)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error(incomplete))?;
    rustix::fs::renameat_with(CWD, incomplete, CWD, path, RenameFlags::NOREPLACE).map_err(
        |error| match error {
            rustix::io::Errno::EXIST => ClusterError::Exists(path.to_path_buf()),
            error => io_error(path)(error.into()),
        },
    )?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error(parent))
}

fn write_secret(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}
