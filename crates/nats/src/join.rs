//! The file that lets a process join a cluster: where the server is, whom to trust, and the key of a role. Whoever reads it has the
//! role's rights, so it is only used where nobody but its owner may read it.

use crate::role::Role;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Version of the file's format.
const VERSION: u32 = 1;
/// No join file is longer.
const BYTES_MAX: u64 = 64 * 1024;

/// A join file's contents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinFile {
    version: u32,
    /// What its holder may do.
    pub role: Role,
    /// Servers, as `tls://host:port`.
    pub servers: Vec<String>,
    /// How many of them hold each task and record: 1 where the file does not say.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub replicas: usize,
    /// Certificate of the cluster's authority, in PEM.
    pub authority: String,
    /// Seed of the role's key: a secret.
    pub seed: String,
}

fn one() -> usize {
    1
}

/// A file for one server is what it was before there could be several.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(replicas: &usize) -> bool {
    *replicas == 1
}

impl std::fmt::Debug for JoinFile {
    /// Without the seed, so that no log has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinFile")
            .field("role", &self.role)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

/// Why a join file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It could not be read.
    #[error("cannot read the join file `{}`: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read or change it.
    #[error("the join file `{}` holds a secret, and others may read or change it (mode {mode:o})", .path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is something else.
    #[error("`{}` is no join file: {cause}", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Another version of tilework made it.
    #[error("the join file `{}` has version {version}, this tilework knows version {VERSION}", .path.display())]
    Version {
        /// Which.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// It is for something else.
    #[error("the join file `{}` is a {has}'s, here a {wanted}'s is needed", .path.display())]
    Role {
        /// Which.
        path: PathBuf,
        /// The role it gives.
        has: Role,
        /// The role asked for.
        wanted: Role,
    },
}

impl JoinError {
    /// The next command, where one helps.
    pub fn next(&self) -> Option<String> {
        match self {
            JoinError::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
            JoinError::Role { path, wanted, .. } => {
                let beside = path.with_file_name(format!("{wanted}.join"));
                Some(format!("use the file of that role: {}", beside.display()))
            }
            _ => None,
        }
    }
}

impl JoinFile {
    /// A join file of this version.
    pub fn new(role: Role, servers: Vec<String>, authority: String, seed: String) -> JoinFile {
        JoinFile {
            version: VERSION,
            role,
            servers,
            replicas: 1,
            authority,
            seed,
        }
    }

    /// The same for servers of which so many hold each task and record.
    #[must_use]
    pub fn with_replicas(self, replicas: usize) -> JoinFile {
        JoinFile { replicas, ..self }
    }

    /// Reads a join file for `wanted`.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn read(path: &Path, wanted: Role) -> Result<JoinFile, JoinError> {
        JoinFile::read_one_of(path, &[wanted])
    }

    /// Reads a join file of one of these roles, the first of which is the one to ask for.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn read_one_of(path: &Path, wanted: &[Role]) -> Result<JoinFile, JoinError> {
        let io_error = |source| JoinError::Io {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(io_error)?;
        let mode = file.metadata().map_err(io_error)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(JoinError::Exposed {
                path: path.to_path_buf(),
                mode,
            });
        }
        let mut text = Vec::new();
        file.take(BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(io_error)?;
        let join = JoinFile::parse(path, &text)?;
        match wanted {
            [first, ..] if !wanted.contains(&join.role) => Err(JoinError::Role {
                path: path.to_path_buf(),
                has: join.role,
                wanted: *first,
            }),
            _ => Ok(join),
        }
    }

    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<JoinFile, JoinError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |cause: String| JoinError::Malformed {
            path: path.to_path_buf(),
            cause,
        };
        if text.len() as u64 > BYTES_MAX {
            return Err(malformed(format!("longer than {BYTES_MAX} bytes")));
        }
        let found: Versioned = serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        if found.version != VERSION {
            return Err(JoinError::Version {
                path: path.to_path_buf(),
                version: found.version,
            });
        }
        let join: JoinFile = serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        if join.servers.is_empty() {
            return Err(malformed("it names no server".into()));
        }
        if !matches!(join.replicas, 1 | 3) || join.replicas > join.servers.len() {
            let (replicas, n_servers) = (join.replicas, join.servers.len());
            return Err(malformed(format!("{replicas} replicas on {n_servers} servers")));
        }
        nkeys::KeyPair::from_seed(&join.seed).map_err(|error| malformed(format!("its key: {error}")))?;
        Ok(join)
    }

    /// Version of its format.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers become JSON");
        text.push('\n');
        text
    }
}
