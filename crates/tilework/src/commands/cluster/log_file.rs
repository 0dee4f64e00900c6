//! Logs of a cluster's processes: kept small at each start, and quoted where a process fails.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log that is longer is set aside at the next start.
const BYTES_MAX: u64 = 10_000_000;
/// Logs that are set aside, at most: `.1` is the newest.
const KEPT: u32 = 3;
/// Lines that an error quotes, and how far from the end they are looked for.
const QUOTED_LINES: usize = 3;
const QUOTED_BYTES: u64 = 4096;

/// Opens a log to append to it; a long one is set aside first.
///
/// # Errors
/// If the log can't be opened or renamed.
pub fn open(path: &Path) -> io::Result<File> {
    rotate(path, BYTES_MAX)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

fn rotate(path: &Path, bytes_max: u64) -> io::Result<()> {
    if fs::metadata(path).map_or(0, |metadata| metadata.len()) <= bytes_max {
        return Ok(());
    }
    for n in (1..KEPT).rev() {
        match fs::rename(aside(path, n), aside(path, n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, aside(path, 1))
}

fn aside(path: &Path, n: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{n}"));
    name.into()
}

/// The last lines of a log, as one line; nothing where there is none.
pub fn end_of(path: &Path) -> String {
    let text = read_end(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join(" | ")
}

fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(QUOTED_BYTES)))?;
    let mut end = Vec::new();
    file.take(QUOTED_BYTES).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_long_logs_are_kept_and_short_ones_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("up.log");
        for text in ["a", "b", "c", "d", "e"] {
            fs::write(&log, text.repeat(10)).unwrap();
            rotate(&log, 10).unwrap();
            assert!(log.exists());
            fs::write(&log, text.repeat(11)).unwrap();
            rotate(&log, 10).unwrap();
            assert!(!log.exists());
        }
        let first = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap()[..1].to_owned();
        assert_eq!(["up.log.1", "up.log.2", "up.log.3"].map(first), ["e", "d", "c"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn the_end_is_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(end_of(&log), "");
        fs::write(&log, format!("{}\none\n two\n\nthree", "x".repeat(10_000))).unwrap();
        assert_eq!(end_of(&log), "one | two | three");
    }
}
