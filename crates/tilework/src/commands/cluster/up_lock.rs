//! One `up` per folder: the lock that it holds, and who that is.

use crate::failure::CliError;
use std::path::{Path, PathBuf};
use tilework_nats::ClusterFolder;
use tilework_store::disk::RealDisk;
use tilework_store::lock::{self, Lock, LockError, Owner};

/// The lock's file in a cluster's folder.
pub fn path(cluster: &ClusterFolder) -> PathBuf {
    cluster.path().join("up.lock")
}

/// Takes the lock for this process.
///
/// # Errors
/// If another `up` holds it: which, and how to stop it.
pub fn take(cluster: &ClusterFolder) -> Result<Lock, CliError> {
    let path = path(cluster);
    Lock::acquire(&RealDisk, &path, &Owner::current()).map_err(|error| match error {
        LockError::Held(owner) => runs_already(cluster.path(), owner.as_ref()),
        LockError::Io(error) => CliError::io("lock", &path, &error),
    })
}

/// Who holds the lock: nobody, somebody unknown, or an owner.
///
/// # Errors
/// If the lock's file can't be read.
pub fn holder(cluster: &ClusterFolder) -> Result<Option<Option<Owner>>, CliError> {
    let path = path(cluster);
    lock::holder(&RealDisk, &path).map_err(|error| CliError::io("read", &path, &error))
}

/// The refusal of a second `up`.
pub fn runs_already(dir: &Path, owner: Option<&Owner>) -> CliError {
    let owner = owner.map_or("another process".to_owned(), Owner::to_string);
    CliError::usage(format!(
        "the cluster in `{}` is up already: {owner}",
        dir.display()
    ))
    .with_next(format!(
        "use it, or stop it: tilework cluster down {}",
        dir.display()
    ))
}

/// Whether a process of this machine, since it was booted, is meant.
pub fn is_here(owner: &Owner) -> bool {
    let here = Owner::current();
    (&owner.host, &owner.boot_id) == (&here.host, &here.boot_id)
}
