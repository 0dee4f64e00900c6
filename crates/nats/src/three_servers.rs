//! A cluster of three servers that replicate each other: a folder for each server, to be copied to its machine, and the join files.
//!
//! Three, because two of them then decide what is stored, whichever one is gone. With two servers the end of either stops both.

use crate::authority::{Authority, Proves};
use crate::cluster_config::{ClusterConfig, Routes};
use crate::cluster_folder::{ClusterError, Joins, SERVER_FOLDERS};
use crate::new_folder::{self, Contents};
use crate::role::Role;
use crate::server_address::ServerAddress;
use std::fs;
use std::path::{Path, PathBuf};

/// How many servers there are.
pub const N_SERVERS: usize = 3;

/// The folder of a cluster of three servers.
#[derive(Debug, Clone)]
pub struct ThreeServersFolder {
    path: PathBuf,
}

impl ThreeServersFolder {
    /// Makes the folder at `path` for servers at these addresses, under its name only once it is complete.
    ///
    /// # Errors
    /// See [`ClusterError`]; nothing is left behind.
    pub fn init(path: &Path, servers: &[ServerAddress]) -> Result<ThreeServersFolder, ClusterError> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(ClusterError::Exists(path.to_path_buf()));
        }
        check(servers)?;
        let authority = Authority::new()?;
        let urls: Vec<String> = servers.iter().map(ServerAddress::url).collect();
        let joins = Joins::new(&authority, &urls, N_SERVERS)?;
        let mut contents = Contents {
            folders: Vec::new(),
            files: vec![("authority.pem".to_owned(), authority.pem().to_owned())],
        };
        // A seed is nothing but 256 random bits in letters and digits, which no URL changes.
        let password = nkeys::KeyPair::new_user().seed()?;
        for (n, server) in (1..).zip(servers) {
            let config = config_of(n, server, servers, &joins, &password)?;
            let hosts = [server.host().to_owned()];
            let certified = authority.certify(&hosts, Proves::ToServersToo)?;
            let name = folder_name(n);
            contents.folders.push(name.clone());
            contents
                .folders
                .extend(SERVER_FOLDERS.map(|folder| format!("{name}/{folder}")));
            let files = [
                ("authority.pem", authority.pem().to_owned()),
                ("nats.conf", config),
                ("server.pem", certified.certificate),
                ("server.key", certified.key),
            ];
            contents
                .files
                .extend(files.map(|(file, text)| (format!("{name}/{file}"), text)));
        }
        contents.files.extend(joins.files);
        new_folder::write(path, &contents)?;
        Ok(ThreeServersFolder {
            path: path.to_path_buf(),
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the first, second or third server.
    pub fn server(&self, n: usize) -> PathBuf {
        self.path.join(folder_name(n))
    }

    /// A role's join file.
    pub fn join(&self, role: Role) -> PathBuf {
        self.path.join(format!("{role}.join"))
    }
}

fn folder_name(n: usize) -> String {
    format!("server-{n}")
}

fn config_of(
    n: usize,
    server: &ServerAddress,
    servers: &[ServerAddress],
    joins: &Joins,
    password: &str,
) -> Result<String, ClusterError> {
    let others = servers.iter().filter(|other| *other != server);
    let others: Result<Vec<String>, ClusterError> =
        others.map(|other| Ok(route(other)?.to_string())).collect();
    let own_route = route(server)?;
    let routes = Routes {
        listen: own_route.listen(),
        advertise: own_route.to_string(),
        password: password.to_owned(),
        others: others?,
    };
    let config = ClusterConfig {
        server_name: &format!("tilework-{n}"),
        listen: server.listen(),
        keys: &joins.keys,
        routes: Some(&routes),
    };
    Ok(config.text())
}

fn route(server: &ServerAddress) -> Result<ServerAddress, ClusterError> {
    server.route().ok_or(ClusterError::PortTooHigh(server.port()))
}

/// Three servers that reach each other and don't end together; on one machine only where that is plainly meant.
fn check(servers: &[ServerAddress]) -> Result<(), ClusterError> {
    if servers.len() != N_SERVERS {
        return Err(ClusterError::NotThree(servers.len()));
    }
    let mut taken = Vec::new();
    for server in servers {
        for address in [server.clone(), route(server)?] {
            if taken.contains(&address) {
                return Err(ClusterError::SameServer(address.to_string()));
            }
            taken.push(address);
        }
    }
    if servers.iter().all(ServerAddress::is_loopback) {
        return Ok(());
    }
    if let Some(own) = servers.iter().find(|server| server.is_loopback()) {
        return Err(ClusterError::OwnHost(own.host().to_owned()));
    }
    for (n, server) in servers.iter().enumerate() {
        if servers[..n].iter().any(|other| other.host() == server.host()) {
            return Err(ClusterError::SameHost(server.host().to_owned()));
        }
    }
    Ok(())
}
