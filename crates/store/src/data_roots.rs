//! Named directories, the only ones that a cluster's processes touch: paths are `NAME:/relative/path`, whatever the directory is
//! called on each machine, and none of them leads out of its root.
//!
//! cap-std resolves every path below the root's open directory, so neither `..` nor a symbolic link gets out, also not one that is
//! put there between a look and a use.

use crate::disk::{Disk, DiskFile, FileStat, parent_dir};
use crate::real_disk::{describe, file, free_bytes_of, uninterrupted};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of a root's name, at most.
const NAME_LEN_MAX: usize = 32;

/// A root as a user gives it: `NAME=DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRoot {
    /// What it is called on every machine.
    pub name: String,
    /// Where it is on this one.
    pub dir: PathBuf,
}

impl FromStr for NamedRoot {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedRoot, String> {
        let (name, dir) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is no data root: give NAME=DIR"))?;
        let is_fit = (1..=NAME_LEN_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !is_fit {
            return Err(format!(
                "`{name}` is no name for a data root: letters, digits, `-` and `_`, at most {NAME_LEN_MAX}"
            ));
        }
        if dir.is_empty() {
            return Err(format!("data root `{name}` has no directory: give {name}=DIR"));
        }
        Ok(NamedRoot {
            name: name.to_owned(),
            dir: PathBuf::from(dir),
        })
    }
}

/// Open roots, as a file system.
#[derive(Debug)]
pub struct DataRoots {
    roots: BTreeMap<String, Root>,
}

#[derive(Debug)]
struct Root {
    dir: Dir,
    /// Without links, to recognise paths of this machine.
    canonical: PathBuf,
}

impl DataRoots {
    /// Opens the directories.
    ///
    /// # Errors
    /// If a directory can't be opened, with its path, or a name is given twice.
    pub fn open(named: &[NamedRoot]) -> io::Result<DataRoots> {
        let mut roots = BTreeMap::new();
        for NamedRoot { name, dir } in named {
            let explain = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot open data root {name}=`{}`: {error}", dir.display()),
                )
            };
            let canonical = fs::canonicalize(dir).map_err(explain)?;
            let dir = Dir::open_ambient_dir(&canonical, ambient_authority()).map_err(explain)?;
            if roots.insert(name.clone(), Root { dir, canonical }).is_some() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("data root `{name}` is given twice"),
                ));
            }
        }
        Ok(DataRoots { roots })
    }

    /// What a path of this machine is called everywhere: in the innermost root that holds it, or `None` outside of all.
    ///
    /// The file itself need not exist, its directory must.
    ///
    /// # Errors
    /// If its directory can't be read.
    pub fn name(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some(file_name) = path.file_name() else {
            return Ok(None);
        };
        let canonical = fs::canonicalize(parent_dir(path))?.join(file_name);
        Ok(self.name_of_canonical(&canonical))
    }

    /// What an absolute path without links is called, by where the roots are on this machine; nothing is looked at.
    pub fn name_of_canonical(&self, path: &Path) -> Option<PathBuf> {
        let holding = self.roots.iter().filter_map(|(name, root)| {
            let inner = path.strip_prefix(&root.canonical).ok()?;
            Some((inner.components().count(), name, inner))
        });
        let (_, name, inner) = holding.min_by_key(|(depth, _, _)| *depth)?;
        Some(Path::new(&format!("{name}:")).join(inner))
    }

    /// The names of all roots.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.roots.keys().map(String::as_str)
    }

    /// Where each root is on this machine.
    pub fn places(&self) -> BTreeMap<String, String> {
        let place = |root: &Root| root.canonical.to_string_lossy().into_owned();
        let roots = self.roots.iter();
        roots.map(|(name, root)| (name.clone(), place(root))).collect()
    }

    /// All roots as they are given: `NAME=DIR`.
    pub fn described(&self) -> String {
        let given: Vec<String> = self
            .places()
            .into_iter()
            .map(|(name, dir)| format!("{name}={dir}"))
            .collect();
        if given.is_empty() {
            "none".to_owned()
        } else {
            given.join(", ")
        }
    }

    /// The root that a path names, and the path within it.
    fn resolve<'p>(&self, path: &'p Path) -> io::Result<(&Dir, &'p Path)> {
        let refuse = |kind, text: &str| Err(io::Error::new(kind, format!("`{}` {text}", path.display())));
        let mut components = path.components();
        let named = match components.next() {
            Some(Component::Normal(first)) => first.to_str().and_then(|first| first.strip_suffix(':')),
            _ => None,
        };
        let Some(name) = named else {
            return refuse(io::ErrorKind::InvalidInput, "names no data root");
        };
        let Some(root) = self.roots.get(name) else {
            return refuse(
                io::ErrorKind::NotFound,
                "is in a data root that is not given here",
            );
        };
        let inner = components.as_path();
        if inner
            .components()
            .any(|component| !matches!(component, Component::Normal(_)))
        {
            return refuse(io::ErrorKind::PermissionDenied, "leads out of its data root");
        }
        let inner = if inner.as_os_str().is_empty() {
            Path::new(".")
        } else {
            inner
        };
        Ok((&root.dir, inner))
    }

    fn open_with(&self, options: &OpenOptions, path: &Path) -> io::Result<File> {
        let (root, inner) = self.resolve(path)?;
        Ok(uninterrupted(|| root.open_with(inner, options))?.into_std())
    }

    fn open_for_writing(&self, options: &OpenOptions, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let opened = self.open_with(options, path)?;
        if is_nfs(&opened)? {
            write_through(&opened)?;
        }
        Ok(file(opened))
    }
}

/// `f_type` of the network file system, from linux/magic.h.
const NFS_SUPER_MAGIC: u64 = 0x6969;

fn is_nfs(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type as u64 == NFS_SUPER_MAGIC)
}

/// Two machines that write to different parts of one page would each write back the whole page from a cache of their own, with what
/// the other's part was before. Direct writes go to the server as they are; on NFS, Linux asks for no alignment (open(2)).
fn write_through(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags | rustix::fs::OFlags::DIRECT)?)
}

impl Disk for DataRoots {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_for_writing(OpenOptions::new().read(true).write(true).create_new(true), path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(OpenOptions::new().read(true), path).map(file)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open_for_writing(OpenOptions::new().read(true).write(true), path)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        let (root, inner) = self.resolve(path)?;
        // Opened for its path alone: what is described is what is there, and nothing is read.
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let mut options = OpenOptions::new();
        cap_std::fs::OpenOptionsExt::custom_flags(options.read(true), flags.bits() as i32);
        match uninterrupted(|| root.open_with(inner, &options)?.into_std().metadata()) {
            Ok(metadata) => Ok(Some(describe(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (root, inner) = self.resolve(path)?;
        uninterrupted(|| root.create_dir(inner))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let (root, inner) = self.resolve(path)?;
        let names = || {
            let entries = root.read_dir(inner)?;
            entries.map(|entry| Ok(entry?.file_name())).collect()
        };
        let mut names: Vec<OsString> = uninterrupted(names)?;
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_root, from) = self.resolve(from)?;
        let (to_root, to) = self.resolve(to)?;
        uninterrupted(|| from_root.rename(from, to_root, to))
    }

    fn hard_link(&self, file: &Path, name: &Path) -> io::Result<()> {
        let (file_root, file) = self.resolve(file)?;
        let (name_root, name) = self.resolve(name)?;
        uninterrupted(|| file_root.hard_link(file, name_root, name))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (root, inner) = self.resolve(path)?;
        uninterrupted(|| root.remove_file(inner))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (root, inner) = self.resolve(path)?;
        uninterrupted(|| root.remove_dir(inner))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (root, inner) = self.resolve(path)?;
        // Not `open_dir`, which opens a directory for its path alone.
        let dir = uninterrupted(|| root.open(inner))?;
        uninterrupted(|| dir.sync_all())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let (root, inner) = self.resolve(path)?;
        free_bytes_of(&uninterrupted(|| root.open(inner))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskFileExt;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn roots(dirs: &[(&str, &Path)]) -> DataRoots {
        let named: Vec<NamedRoot> = dirs
            .iter()
            .map(|(name, dir)| format!("{name}={}", dir.display()).parse().unwrap())
            .collect();
        DataRoots::open(&named).unwrap()
    }

    #[test]
    fn files_are_created_once_written_renamed_and_removed() {
        let dir = TempDir::new().unwrap();
        let disk = roots(&[("d", dir.path())]);
        let (a, b, sub) = (Path::new("d:/sub/a"), Path::new("d:/sub/b"), Path::new("d:/sub"));
        disk.create_dir(sub).unwrap();
        let file = disk.create_new(a).unwrap();
        let again = disk.create_new(a).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        file.write_all_at(b"xyz", 97).unwrap();
        file.sync_data().unwrap();
        disk.rename(a, b).unwrap();
        disk.sync_dir(sub).unwrap();
        assert_eq!(disk.stat(a).unwrap(), None);
        let stat = disk.stat(b).unwrap().unwrap();
        assert_eq!((stat.len, stat.is_file, stat.is_dir), (100, true, false));
        assert_eq!(stat, file.stat().unwrap());
        assert!(disk.stat(Path::new("d:")).unwrap().unwrap().is_dir);
        assert_eq!(disk.read_dir(sub).unwrap(), ["b"]);
        assert!(disk.free_bytes(sub).unwrap() > 0);
        assert!(disk.free_bytes(Path::new("d:")).unwrap() > 0);
        let mut read = [0; 3];
        disk.open_read(b).unwrap().read_exact_at(&mut read, 97).unwrap();
        assert_eq!(&read, b"xyz");
        disk.open_write(b).unwrap().set_len(1).unwrap();
        disk.remove_file(b).unwrap();
        disk.remove_dir(sub).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_outside_of_a_root_is_touched() {
        let dir = TempDir::new().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        symlink("../outside", inside.join("link")).unwrap();
        symlink(outside.join("secret"), inside.join("absolute")).unwrap();
        fs::write(inside.join("real"), "r").unwrap();
        symlink("real", inside.join("own")).unwrap();
        let disk = roots(&[("d", &inside)]);
        for path in [
            "d:/../outside/secret",
            "d:/link/secret",
            "d:/absolute",
            "d:/sub/../../outside/secret",
            "/etc/passwd",
            "etc/passwd",
            "../outside/secret",
            "e:/secret",
            ":/secret",
            "",
        ] {
            let path = Path::new(path);
            let refused = disk.open_read(path).unwrap_err();
            assert!(
                !matches!(refused.kind(), io::ErrorKind::NotFound)
                    || path.starts_with("e:")
                    || path.starts_with(":"),
                "{}: {refused}",
                path.display()
            );
            assert!(disk.open_write(path).is_err() && disk.create_new(path).is_err());
            assert!(disk.stat(path).is_err(), "{}", path.display());
            assert!(disk.create_dir(path).is_err());
            // The name of a link that leads out is the root's own.
            if path != Path::new("d:/absolute") {
                assert!(disk.rename(Path::new("d:/real"), path).is_err());
                assert!(disk.remove_file(path).is_err());
            }
        }
        assert!(disk.create_new(Path::new("d:/link/new")).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(outside.join("secret")).unwrap(), b"s");
        // A link that stays inside is followed.
        assert_eq!(disk.stat(Path::new("d:/own")).unwrap().unwrap().len, 1);
    }

    #[test]
    fn only_files_on_nfs_are_written_through() {
        let dir = TempDir::new().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        assert!(!is_nfs(&file).unwrap(), "no test runs on NFS");
        let is_direct = || {
            let flags = rustix::fs::fcntl_getfl(&file).unwrap();
            flags.contains(rustix::fs::OFlags::DIRECT)
        };
        assert!(!is_direct());
        // Some file systems refuse it, as tmpfs did for long.
        if write_through(&file).is_ok() {
            assert!(is_direct());
        }
    }

    #[test]
    fn a_path_has_the_name_of_the_innermost_root() {
        let dir = TempDir::new().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        symlink(&inner, dir.path().join("alias")).unwrap();
        let disk = roots(&[("outer", dir.path()), ("inner", &inner)]);
        let name = |path: &Path| disk.name(path).unwrap();
        assert_eq!(
            name(&dir.path().join("A.npy")),
            Some(PathBuf::from("outer:/A.npy"))
        );
        assert_eq!(name(&inner.join("A.npy")), Some(PathBuf::from("inner:/A.npy")));
        assert_eq!(
            name(&dir.path().join("alias/A.npy")),
            Some(PathBuf::from("inner:/A.npy"))
        );
        assert_eq!(name(Path::new("/etc/passwd")), None);
        assert!(disk.name(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn roots_that_make_no_sense_are_refused() {
        for text in [
            "",
            "name",
            "=dir",
            "name=",
            "na me=dir",
            "na/me=dir",
            &format!("{}=d", "n".repeat(33)),
        ] {
            assert!(text.parse::<NamedRoot>().is_err(), "{text}");
        }
        let root: NamedRoot = "data=/tmp/x=y".parse().unwrap();
        assert_eq!(
            (root.name.as_str(), root.dir.as_path()),
            ("data", Path::new("/tmp/x=y"))
        );
        let missing = DataRoots::open(&["data=/nowhere/at/all".parse().unwrap()]).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/at/all"), "{missing}");
        let dir = TempDir::new().unwrap();
        let root: NamedRoot = format!("d={}", dir.path().display()).parse().unwrap();
        assert!(DataRoots::open(&[root.clone(), root]).is_err());
    }
}
