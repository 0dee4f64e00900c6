//! What tells an input from another one, or from itself after a change.
//!
//! Taken when a job is planned and compared whenever it goes on. Cheap: it reads at most 1 MiB. A change that keeps
//! size and all sampled blocks, and resets the modification time, is not seen.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskFile, DiskFileExt};

const N_BLOCKS: u64 = 256;
const BLOCK_BYTES: u64 = 4096;
/// Of files of which nothing but their bytes is known.
const FILE_HEADER: &str = "file";
/// Of folders, before the number of their files.
const FOLDER_HEADER: &str = "folder of ";

/// What is recorded of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputIdentity {
    /// The path as given; for people, not compared.
    pub path: String,
    /// Bytes of the file.
    pub len: u64,
    /// Last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Format, element type, shape and order.
    pub header: String,
    /// BLAKE3, in hex, of 256 evenly spaced blocks of 4 KiB of the elements and of their length in bytes.
    pub sample_hash: String,
}

/// How an input differs from what was recorded of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityDifference {
    /// It doesn't.
    Same,
    /// Only the time of modification differs; a job goes on with a note.
    Touched,
    /// It is another matrix; a job must not go on.
    Changed {
        /// What changed, from what to what.
        what: String,
    },
}

impl InputIdentity {
    /// The identity of a file of any kind, or of a folder: that of all files below it, by their names, sizes and times of modification.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn of_path(disk: &dyn Disk, path: &Path) -> io::Result<InputIdentity> {
        match disk.stat(path)? {
            Some(stat) if stat.is_dir => InputIdentity::of_folder(disk, path),
            _ => InputIdentity::of_file(disk, path),
        }
    }

    fn of_folder(disk: &dyn Disk, folder: &Path) -> io::Result<InputIdentity> {
        let mut hasher = blake3::Hasher::new();
        let (mut len, mut mtime_ns) = (0, 0);
        let files = files_below(disk, folder)?;
        for path in &files {
            let stat = disk.stat(path)?.ok_or(io::ErrorKind::NotFound)?;
            let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy();
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&stat.len.to_le_bytes());
            hasher.update(&stat.mtime_ns.to_le_bytes());
            len += stat.len;
            mtime_ns = stat.mtime_ns.max(mtime_ns);
        }
        Ok(InputIdentity {
            path: folder.to_string_lossy().into_owned(),
            len,
            mtime_ns,
            header: format!("{FOLDER_HEADER}{} files", files.len()),
            sample_hash: hasher.finalize().to_hex().to_string(),
        })
    }

    fn of_file(disk: &dyn Disk, path: &Path) -> io::Result<InputIdentity> {
        let file = disk.open_read(path)?;
        let stat = file.stat()?;
        Ok(InputIdentity {
            path: path.to_string_lossy().into_owned(),
            len: stat.len,
            mtime_ns: stat.mtime_ns,
            header: FILE_HEADER.to_owned(),
            sample_hash: sample_hash(&*file, 0, stat.len)?.0,
        })
    }

    /// Whether it was taken by [`of_path`](Self::of_path), of what may be no matrix.
    pub fn is_of_path(&self) -> bool {
        self.header == FILE_HEADER || self.header.starts_with(FOLDER_HEADER)
    }

    /// Compares what was recorded (`self`) with what is there now.
    pub fn difference(&self, now: &InputIdentity) -> IdentityDifference {
        let changed = |what| IdentityDifference::Changed { what };
        if self.header != now.header {
            changed(format!(
                "its header was `{}` and is `{}`",
                self.header, now.header
            ))
        } else if self.len != now.len {
            changed(format!("its size was {} bytes and is {}", self.len, now.len))
        } else if self.sample_hash != now.sample_hash {
            changed("its elements are not the same".to_owned())
        } else if self.mtime_ns != now.mtime_ns {
            IdentityDifference::Touched
        } else {
            IdentityDifference::Same
        }
    }
}

/// All regular files in a folder and the folders in it, in the order of their paths.
///
/// # Errors
/// If a folder can't be read.
pub fn files_below(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for name in disk.read_dir(&folder)? {
            let path = folder.join(name);
            match disk.stat(&path)? {
                Some(stat) if stat.is_dir => folders.push(path),
                Some(stat) if stat.is_file => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Hashes a sample of the `data_len` bytes at `data_offset`; returns the hash in hex and the bytes read.
pub(crate) fn sample_hash(file: &dyn DiskFile, data_offset: u64, data_len: u64) -> io::Result<(String, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0; BLOCK_BYTES as usize];
    let mut n_bytes = 0;
    for (offset, len) in sample_blocks(data_len) {
        let block = &mut buffer[..len];
        file.read_exact_at(block, data_offset + offset)?;
        hasher.update(block);
        n_bytes += len as u64;
    }
    hasher.update(&data_len.to_le_bytes());
    Ok((hasher.finalize().to_hex().to_string(), n_bytes))
}

/// Offset and length of each block: all of short data; else first, last, and evenly spaced between.
fn sample_blocks(data_len: u64) -> impl Iterator<Item = (u64, usize)> {
    let whole = data_len <= N_BLOCKS * BLOCK_BYTES;
    let n_blocks = if whole {
        data_len.div_ceil(BLOCK_BYTES)
    } else {
        N_BLOCKS
    };
    (0..n_blocks).map(move |block_idx| {
        if whole {
            let offset = block_idx * BLOCK_BYTES;
            return (offset, (data_len - offset).min(BLOCK_BYTES) as usize);
        }
        let last = u128::from(data_len - BLOCK_BYTES);
        let offset = last * u128::from(block_idx) / u128::from(N_BLOCKS - 1);
        (offset as u64, BLOCK_BYTES as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_disk::FakeDisk;
    use proptest::prelude::*;

    fn hash_of(data: &[u8]) -> (String, u64) {
        let disk = FakeDisk::new(1);
        disk.install("/a", &[b"header", data].concat());
        let file = disk.open_read(Path::new("/a")).unwrap();
        sample_hash(&*file, 6, data.len() as u64).unwrap()
    }

    fn identity() -> InputIdentity {
        InputIdentity {
            path: "a.npy".to_owned(),
            len: 100,
            mtime_ns: 5,
            header: "npy <f8 1 x 2 row-major".to_owned(),
            sample_hash: "00".to_owned(),
        }
    }

    #[test]
    fn a_file_of_any_kind_is_known_again() {
        let disk = FakeDisk::new(1);
        disk.install("/text", b"words");
        let identity = || InputIdentity::of_path(&disk, Path::new("/text")).unwrap();
        let before = identity();
        assert_eq!(before.difference(&identity()), IdentityDifference::Same);
        disk.install("/text", b"wards");
        assert!(matches!(
            before.difference(&identity()),
            IdentityDifference::Changed { .. }
        ));
        assert!(InputIdentity::of_path(&disk, Path::new("/none")).is_err());
    }

    #[test]
    fn a_folder_is_another_one_with_another_file_in_it() {
        let disk = FakeDisk::new(1);
        for folder in ["/texts", "/texts/inner"] {
            disk.create_dir(Path::new(folder)).unwrap();
        }
        let identity = || InputIdentity::of_path(&disk, Path::new("/texts")).unwrap();
        disk.install("/texts/b", b"words");
        disk.install("/texts/inner/a", b"more words");
        let before = identity();
        assert_eq!(before.len, 15);
        assert_eq!(before.difference(&identity()), IdentityDifference::Same);
        disk.install("/texts/inner/c", b"");
        assert!(matches!(
            before.difference(&identity()),
            IdentityDifference::Changed { .. }
        ));
    }

    #[test]
    fn short_data_is_hashed_whole() {
        let data = vec![3; 300_000];
        let (hash, n_bytes) = hash_of(&data);
        assert_eq!(n_bytes, 300_000);
        let expected = blake3::Hasher::new()
            .update(&data)
            .update(&300_000_u64.to_le_bytes())
            .finalize();
        assert_eq!(hash, expected.to_hex().to_string());
        let mut changed = data;
        changed[299_999] = 4;
        assert_ne!(hash, hash_of(&changed).0);
        assert_ne!(hash_of(&[]).0, hash_of(&[0]).0);
    }

    #[test]
    fn long_data_is_sampled_from_the_first_byte_to_the_last() {
        let mut data = vec![3; 2 << 20];
        let (hash, n_bytes) = hash_of(&data);
        assert_eq!(n_bytes, 1 << 20);
        for at in [0, (2 << 20) - 1] {
            data[at] = 4;
            assert_ne!(hash, hash_of(&data).0);
            data[at] = 3;
        }
    }

    #[test]
    fn the_difference_is_the_gravest_one() {
        let recorded = identity();
        assert_eq!(recorded.difference(&recorded), IdentityDifference::Same);
        let moved = InputIdentity {
            path: "b.npy".to_owned(),
            ..identity()
        };
        assert_eq!(recorded.difference(&moved), IdentityDifference::Same);
        let touched = InputIdentity {
            mtime_ns: 6,
            ..identity()
        };
        assert_eq!(recorded.difference(&touched), IdentityDifference::Touched);
        for (changed, word) in [
            (
                InputIdentity {
                    header: "npy <f8 2 x 1 row-major".to_owned(),
                    mtime_ns: 6,
                    ..identity()
                },
                "header",
            ),
            (
                InputIdentity {
                    len: 101,
                    mtime_ns: 6,
                    ..identity()
                },
                "size",
            ),
            (
                InputIdentity {
                    sample_hash: "01".to_owned(),
                    ..identity()
                },
                "elements",
            ),
        ] {
            match recorded.difference(&changed) {
                IdentityDifference::Changed { what } => assert!(what.contains(word), "{what}"),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn identities_round_trip(
            path in any::<String>(), len in any::<u64>(), mtime_ns in any::<i64>(), header in any::<String>()
        ) {
            let identity = InputIdentity { path, len, mtime_ns, header, sample_hash: "00".to_owned() };
            let text = serde_json::to_string(&identity).unwrap();
            prop_assert_eq!(serde_json::from_str::<InputIdentity>(&text).unwrap(), identity);
        }

        #[test]
        fn blocks_lie_inside_the_data_in_order(data_len in 0_u64..1 << 62) {
            let mut end = 0;
            for (offset, len) in sample_blocks(data_len) {
                prop_assert!(offset >= end && len > 0);
                end = offset + len as u64;
            }
            prop_assert_eq!(end, data_len);
        }
    }
}
