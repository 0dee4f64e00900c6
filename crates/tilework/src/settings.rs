//! What the options mean on this machine: defaults filled in, nothing opened.
//!
//! The default memory is half of what the process may use: of what the system has left, or of what the tightest control
//! group above the process allows.

use crate::args::multiply::{AssignArg, ResourceArgs};
use crate::failure::{CliError, Exit};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::driver::Assign;

/// What a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Memory of the whole process.
    pub memory_bytes: u64,
    /// Threads of all workers together, at least one for each worker.
    pub n_threads: usize,
    /// Workers in this process.
    pub n_workers: usize,
    /// How tasks find their workers.
    pub assign: Assign,
    /// When to stop, if there is a limit.
    pub deadline: Option<Instant>,
}

impl Settings {
    /// Fills in the defaults. The time limit counts from `started`.
    pub fn resolve(
        resources: &ResourceArgs,
        time_limit: Option<Duration>,
        started: Instant,
    ) -> Result<Settings, CliError> {
        let memory_bytes = match resources.memory {
            Some(memory_bytes) => memory_bytes,
            None => default_memory_bytes(Path::new("/"))?,
        };
        let n_workers = resources.workers.unwrap_or(1) as usize;
        let n_threads = match resources.threads {
            Some(n_threads) => n_threads as usize,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        Ok(Settings {
            memory_bytes,
            n_threads: n_threads.max(n_workers),
            n_workers,
            assign: match resources.assign {
                Some(AssignArg::RoundRobin) => Assign::RoundRobin {
                    n_workers: n_workers as u32,
                },
                Some(AssignArg::Dynamic) | None => Assign::Dynamic,
            },
            // A limit beyond the clock's range is none.
            deadline: time_limit.and_then(|limit| started.checked_add(limit)),
        })
    }
}

/// Half of what this process may use.
pub(crate) fn default_memory_bytes(root: &Path) -> Result<u64, CliError> {
    match usable_memory_bytes(root) {
        Some(usable) => Ok(usable / 2),
        None => Err(
            CliError::new(Exit::Usage, "cannot tell how much memory this machine has")
                .with_next("say how much may be used, for example `--memory 2GiB`"),
        ),
    }
}

/// Bytes that this process may use, by the files under `root`, which is `/` outside of tests.
pub fn usable_memory_bytes(root: &Path) -> Option<u64> {
    let system = system_memory_bytes(root);
    let group = control_group_bytes(root);
    system.into_iter().chain(group).min()
}

/// Memory that is available without swapping; old kernels only know the total.
fn system_memory_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    field("MemAvailable").or_else(|| field("MemTotal"))
}

/// The tightest limit of this process's control group and the groups above it, version 1 or 2.
fn control_group_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
        match controllers {
            "" => tightest(&root.join("sys/fs/cgroup"), group, "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                tightest(&root.join("sys/fs/cgroup/memory"), group, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

/// The smallest limit in `file` from `group` up to the mount point; in a container the group's own path may not exist.
fn tightest(mount: &Path, group: &str, file: &str) -> Option<u64> {
    let group = PathBuf::from(group.trim_start_matches('/'));
    let limit = |group: &Path| -> Option<u64> {
        // Without a limit version 2 says `max`, and version 1 a number that no system memory reaches.
        fs::read_to_string(mount.join(group).join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    group.ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str =
        "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n";

    fn usable(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        usable_memory_bytes(root.path())
    }

    #[test]
    fn without_control_groups_it_is_what_the_system_has_left() {
        assert_eq!(usable(&[("proc/meminfo", MEMINFO)]), Some(8_000_000 * 1024));
        assert_eq!(usable(&[("proc/meminfo", "MemTotal: 64 kB\n")]), Some(64 * 1024));
        assert_eq!(usable(&[]), None);
    }

    #[test]
    fn the_tightest_group_above_the_process_counts() {
        let files = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/user/session\n"),
            ("sys/fs/cgroup/user/session/memory.max", "max\n"),
            ("sys/fs/cgroup/user/memory.max", "1073741824\n"),
        ];
        assert_eq!(usable(&files), Some(1 << 30));
    }

    #[test]
    fn a_container_sees_its_limit_at_the_mount_point() {
        let files = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "536870912\n"),
        ];
        assert_eq!(usable(&files), Some(512 << 20));
    }

    #[test]
    fn version_1_is_read_from_its_memory_controller() {
        let files = [
            ("proc/meminfo", MEMINFO),
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n0::/\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
        ];
        assert_eq!(usable(&files), Some(256 << 20));
        let unlimited = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "4:memory:/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ];
        assert_eq!(usable(&unlimited), Some(8_000_000 * 1024));
    }

    #[test]
    fn every_worker_gets_a_thread_and_given_values_win() {
        let resources = ResourceArgs {
            memory: Some(1 << 20),
            threads: Some(2),
            workers: Some(3),
            assign: None,
        };
        let started = Instant::now();
        let settings = Settings::resolve(&resources, Some(Duration::from_secs(5)), started).unwrap();
        assert_eq!(
            (settings.memory_bytes, settings.n_threads, settings.n_workers),
            (1 << 20, 3, 3)
        );
        assert_eq!(settings.deadline, Some(started + Duration::from_secs(5)));
    }
}
