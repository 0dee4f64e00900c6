//! A cluster's folder: complete, private, made once; join files are refused where they can't be trusted.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use tilework_nats::cluster_folder::{ClusterError, ClusterPlan};
use tilework_nats::join::{JoinError, JoinFile};
use tilework_nats::{ClusterFolder, Role};

fn plan(listen: &str, hosts: &[&str]) -> ClusterPlan {
    ClusterPlan {
        listen: listen.parse().unwrap(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_folder_is_complete_and_nobody_elses() {
    let dir = TempDir::new().unwrap();
    let folder = ClusterFolder::init(&dir.path().join("c"), &plan("127.0.0.1:4223", &[])).unwrap();
    assert_eq!(mode(folder.path()), 0o700);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
    let mut seeds = Vec::new();
    for role in Role::ALL {
        let join = JoinFile::read(&folder.join(role), role).unwrap();
        assert_eq!(join.servers, ["tls://127.0.0.1:4223"]);
        assert!(join.authority.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(!format!("{join:?}").contains(&join.seed));
        seeds.push(join.seed);
    }
    seeds.sort();
    seeds.dedup();
    assert_eq!(seeds.len(), Role::ALL.len());
    let config = fs::read_to_string(folder.config()).unwrap();
    assert!(seeds.iter().all(|seed| !config.contains(seed.as_str())));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "something was left beside it"
    );
    let opened = ClusterFolder::open(folder.path()).unwrap();
    assert_eq!(opened.path(), folder.path());
    assert_eq!(opened.listen().unwrap(), "127.0.0.1:4223".parse().unwrap());
}

#[test]
fn a_folder_is_never_made_over_something() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("c");
    fs::create_dir(&path).unwrap();
    let refused = ClusterFolder::init(&path, &plan("127.0.0.1:4222", &[]));
    assert!(matches!(refused, Err(ClusterError::Exists(_))), "{refused:?}");
    let refused = ClusterFolder::open(&path);
    assert!(matches!(refused, Err(ClusterError::Missing(_))), "{refused:?}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    let nowhere = ClusterFolder::init(&dir.path().join("no/c"), &plan("127.0.0.1:4222", &[]));
    assert!(matches!(nowhere, Err(ClusterError::Io { .. })), "{nowhere:?}");
}

#[test]
fn a_server_for_other_machines_needs_a_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("c");
    let listen: SocketAddr = "0.0.0.0:4222".parse().unwrap();
    let refused = ClusterFolder::init(&path, &plan("0.0.0.0:4222", &[]));
    assert!(
        matches!(refused, Err(ClusterError::NoHost(at)) if at == listen),
        "{refused:?}"
    );
    for host in ["näme", "head:4222", "a b", "", ".", "a..b"] {
        let refused = ClusterFolder::init(&path, &plan("0.0.0.0:4222", &[host]));
        assert!(matches!(refused, Err(ClusterError::BadHost(_))), "{refused:?}");
    }
    let refused = ClusterFolder::init(&path, &plan("127.0.0.1:0", &[]));
    assert!(matches!(refused, Err(ClusterError::NoPort(_))), "{refused:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let folder = ClusterFolder::init(&path, &plan("0.0.0.0:4222", &["head.example", "10.0.0.7"])).unwrap();
    let join = JoinFile::read(&folder.join(Role::Worker), Role::Worker).unwrap();
    assert_eq!(join.servers, ["tls://head.example:4222"]);
    let six = ClusterFolder::init(&dir.path().join("six/"), &plan("[::1]:4222", &[])).unwrap();
    let join = JoinFile::read(&six.join(Role::Worker), Role::Worker).unwrap();
    assert_eq!(join.servers, ["tls://[::1]:4222"]);
}

#[test]
fn join_files_that_cannot_be_trusted_are_refused() {
    let dir = TempDir::new().unwrap();
    let folder = ClusterFolder::init(&dir.path().join("c"), &plan("127.0.0.1:4222", &[])).unwrap();
    let path = folder.join(Role::Worker);
    let refused = JoinFile::read(&path, Role::Driver).unwrap_err();
    assert!(matches!(refused, JoinError::Role { .. }), "{refused}");
    assert!(refused.next().unwrap().contains("driver.join"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = JoinFile::read(&path, Role::Worker).unwrap_err();
    assert!(
        matches!(refused, JoinError::Exposed { mode: 0o644, .. }),
        "{refused}"
    );
    assert!(refused.next().unwrap().starts_with("chmod 600 "));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    let text = fs::read_to_string(&path).unwrap();
    let refused = |text: &str| {
        fs::write(&path, text).unwrap();
        JoinFile::read(&path, Role::Worker).unwrap_err()
    };
    let newer = refused(&text.replace("\"version\": 1", "\"version\": 2"));
    assert!(matches!(newer, JoinError::Version { version: 2, .. }), "{newer}");
    let damaged = text.replace("\"seed\": \"SU", "\"seed\": \"SV");
    for malformed in [
        "",
        "{}",
        "\u{0}",
        damaged.as_str(),
        &" ".repeat(70_000),
        &text[..text.len() / 2],
    ] {
        let refused = refused(malformed);
        assert!(matches!(refused, JoinError::Malformed { .. }), "{refused}");
    }
    fs::remove_file(&path).unwrap();
    let missing = JoinFile::read(&path, Role::Worker).unwrap_err();
    assert!(matches!(missing, JoinError::Io { .. }), "{missing}");
}
