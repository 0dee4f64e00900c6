//! A small disk below a cluster's data root, which can be filled up, and a store that can be slowed. The disk is a mount of this process's
//! own, which all processes that it starts see too; where no such thing may be made, there is none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Says that this process may mount.
const INSIDE: &str = "TILEWORK_CHAOS_INSIDE";
/// Room for the outputs of a round and more.
const MIB: usize = 768;

/// Runs this test again where it may mount, unless this is there already. `None` if there is no such place: then it runs here.
pub(crate) fn run_inside(test: &str) -> Option<ExitStatus> {
    if is_inside() || !may_mount() {
        return None;
    }
    let own = std::env::current_exe().unwrap();
    let mut again = Command::new("unshare");
    again
        .args(["-rm", "--"])
        .arg(own)
        .args(["--exact", test, "--nocapture"]);
    Some(again.env(INSIDE, "1").status().unwrap())
}

/// Whether there can be a small disk.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// A disk of few bytes.
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Below `data` in this folder, with what is in it.
    pub(crate) fn below(folder: &Path) -> SmallDisk {
        let script = format!("cp -r data held && mount -t tmpfs -o size={MIB}m none data && cp held/* data/");
        let status = Command::new("sh")
            .args(["-c", &script])
            .current_dir(folder)
            .status();
        assert!(status.unwrap().success(), "{script}");
        SmallDisk {
            folder: folder.join("data"),
        }
    }

    /// Fills it up: until nothing more fits.
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let mut block = vec![0; 1 << 20];
        loop {
            match filler.write_all(&block) {
                Ok(()) => {}
                Err(error) if block.len() == 1 => {
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
                    return;
                }
                Err(_) => block.truncate(block.len() / 2),
            }
        }
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
