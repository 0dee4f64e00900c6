//! The names in all directories twice: as a process sees them, and as a power cut leaves them.
//!
//! Between the two lies a log of changes. A rename is one change, so that a crash shows the old name or the new
//! one; it belongs to the directory that it renames into.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

use super::CrashMode;
use super::dice::Dice;

/// Number of a file or directory.
pub(super) type Inode = u64;

/// The directory that always exists.
pub(super) const ROOT: Inode = 1;

/// The entries of every directory; an inode that is no key here is a file.
type Tables = BTreeMap<Inode, BTreeMap<OsString, Inode>>;

/// A name: the directory that holds it, and how it is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dir: Inode,
    pub(super) name: OsString,
}

/// A change that a sync makes durable.
#[derive(Clone, Debug)]
enum Change {
    Link { place: Place, inode: Inode },
    Unlink { place: Place, inode: Inode },
    Rename { from: Place, to: Place, inode: Inode },
}

/// All directories.
#[derive(Clone, Debug)]
pub(super) struct Names {
    volatile: Tables,
    durable: Tables,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        let tables = Tables::from([(ROOT, BTreeMap::new())]);
        Self {
            volatile: tables.clone(),
            durable: tables,
            pending: Vec::new(),
        }
    }

    pub(super) fn is_dir(&self, inode: Inode) -> bool {
        self.volatile.contains_key(&inode)
    }

    /// The inode at `path`.
    pub(super) fn find(&self, path: &Path) -> io::Result<Inode> {
        let names = components(path);
        names
            .iter()
            .try_fold(ROOT, |dir, name| self.lookup(dir, name)?.ok_or_else(not_found))
    }

    /// The place of `path`, whose parent exists, and the inode there, if any.
    pub(super) fn place(&self, path: &Path) -> io::Result<(Place, Option<Inode>)> {
        let mut names = components(path);
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let dir = names
            .iter()
            .try_fold(ROOT, |dir, name| self.lookup(dir, name)?.ok_or_else(not_found))?;
        let inode = self.lookup(dir, &name)?;
        Ok((Place { dir, name }, inode))
    }

    fn lookup(&self, dir: Inode, name: &OsStr) -> io::Result<Option<Inode>> {
        let table = self.volatile.get(&dir).ok_or(io::ErrorKind::NotADirectory)?;
        Ok(table.get(name).copied())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let table = self
            .volatile
            .get(&self.find(path)?)
            .ok_or(io::ErrorKind::NotADirectory)?;
        Ok(table.keys().cloned().collect())
    }

    /// Gives a new inode a name.
    pub(super) fn link(&mut self, place: Place, inode: Inode, is_dir: bool) {
        if is_dir {
            // An empty directory is whole from the start; what a crash can take away is its name.
            self.volatile.insert(inode, BTreeMap::new());
            self.durable.insert(inode, BTreeMap::new());
        }
        self.change(Change::Link { place, inode });
    }

    pub(super) fn unlink(&mut self, place: Place, inode: Inode) {
        self.change(Change::Unlink { place, inode });
    }

    pub(super) fn rename(&mut self, from: Place, to: Place, inode: Inode) {
        self.change(Change::Rename { from, to, inode });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.volatile);
        self.pending.push(change);
    }

    /// Makes the changes in one directory durable, in their order.
    pub(super) fn sync(&mut self, dir: Inode) {
        let changes = std::mem::take(&mut self.pending).into_iter();
        let (now, later): (Vec<_>, Vec<_>) = changes.partition(|change| change.dir() == dir);
        self.pending = later;
        for change in now {
            change.apply(&mut self.durable);
        }
    }

    /// Gives an inode a durable name at once; all other changes stay as they are.
    pub(super) fn install(&mut self, place: &Place, inode: Inode) {
        insert(&mut self.volatile, place, inode);
        insert(&mut self.durable, place, inode);
    }

    pub(super) fn n_links(&self, inode: Inode) -> usize {
        self.volatile
            .values()
            .flat_map(BTreeMap::values)
            .filter(|linked| **linked == inode)
            .count()
    }

    /// What is left after a power cut.
    pub(super) fn after_crash(&self, mode: CrashMode, dice: &mut Dice) -> Names {
        let mut tables = match mode {
            CrashMode::Vanish | CrashMode::Tear => self.durable.clone(),
            CrashMode::Keep => self.volatile.clone(),
        };
        if mode == CrashMode::Tear {
            for change in &self.pending {
                if dice.below(2) == 0 {
                    change.apply(&mut tables);
                }
            }
        }
        Names {
            volatile: tables.clone(),
            durable: tables,
            pending: Vec::new(),
        }
    }
}

impl Change {
    fn dir(&self) -> Inode {
        match self {
            Change::Link { place, .. } | Change::Unlink { place, .. } => place.dir,
            Change::Rename { to, .. } => to.dir,
        }
    }

    /// A removal takes a name away only from the inode that it was meant for: the changes before it may be lost.
    fn apply(&self, tables: &mut Tables) {
        let remove = |tables: &mut Tables, place: &Place, inode: &Inode| {
            if let Some(table) = tables.get_mut(&place.dir)
                && table.get(&place.name) == Some(inode)
            {
                table.remove(&place.name);
            }
        };
        match self {
            Change::Link { place, inode } => insert(tables, place, *inode),
            Change::Unlink { place, inode } => remove(tables, place, inode),
            Change::Rename { from, to, inode } => {
                remove(tables, from, inode);
                insert(tables, to, *inode);
            }
        }
    }
}

fn insert(tables: &mut Tables, place: &Place, inode: Inode) {
    if let Some(table) = tables.get_mut(&place.dir) {
        table.insert(place.name.clone(), inode);
    }
}

/// The names of a path from the root on; a relative path starts there as well.
fn components(path: &Path) -> Vec<&OsStr> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                names.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    names
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}
