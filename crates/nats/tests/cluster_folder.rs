//! A cluster's folder: complete, private, made once; join files are refused where they can't be trusted.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use tilework_nats::cluster_folder::{ClusterError, ClusterPlan};
use tilework_nats::join::{JoinError, JoinFile};
use tilework_nats::{ClusterFolder, Role, ServerAddress, ThreeServersFolder};

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

fn addresses(texts: &[&str]) -> Vec<ServerAddress> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn three_servers_get_a_folder_each_and_join_files_in_common() {
    let dir = TempDir::new().unwrap();
    let servers = addresses(&["a.example", "10.0.0.7:4300", "fd00::1"]);
    let folder = ThreeServersFolder::init(&dir.path().join("c"), &servers).unwrap();
    let mut certificates = Vec::new();
    for (n, (name, listen, routes)) in (1..).zip([
        ("tilework-1", "0.0.0.0:4222", ["10.0.0.7:6300", "[fd00::1]:6222"]),
        ("tilework-2", "0.0.0.0:4300", ["a.example:6222", "[fd00::1]:6222"]),
        ("tilework-3", "[::]:4222", ["a.example:6222", "10.0.0.7:6300"]),
    ]) {
        let server = folder.server(n);
        assert_eq!(mode(&server), 0o700);
        for entry in fs::read_dir(&server).unwrap() {
            let path = entry.unwrap().path();
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), expected, "{}", path.display());
        }
        let config = fs::read_to_string(server.join("nats.conf")).unwrap();
        for needed in [
            format!("server_name: {name}\n"),
            format!("\nlisten: \"{listen}\"\n"),
            format!("@{}\"", routes[0]),
            format!("@{}\"", routes[1]),
            "    verify: true\n".to_owned(),
            "  sync_interval: always\n".to_owned(),
        ] {
            assert!(config.contains(&needed), "`{needed}` is not in {config}");
        }
        assert_eq!(config.matches("nats-route://").count(), 2);
        certificates.push(fs::read_to_string(server.join("server.pem")).unwrap());
        let refused = ClusterFolder::open(&server);
        assert!(matches!(refused, Err(ClusterError::OneOfThree(_))), "{refused:?}");
    }
    certificates.sort();
    certificates.dedup();
    assert_eq!(certificates.len(), 3);
    for role in Role::ALL {
        let join = JoinFile::read(&folder.join(role), role).unwrap();
        assert_eq!(
            join.servers,
            [
                "tls://a.example:4222",
                "tls://10.0.0.7:4300",
                "tls://[fd00::1]:4222"
            ]
        );
        assert_eq!(join.replicas, 3);
    }
    let refused = ClusterFolder::open(folder.path());
    assert!(
        matches!(refused, Err(ClusterError::ThreeServers(_))),
        "{refused:?}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn servers_that_would_not_outlive_each_other_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("c");
    let refused = |texts: &[&str]| {
        let refused = ThreeServersFolder::init(&path, &addresses(texts)).unwrap_err();
        assert!(refused.next().is_some(), "{refused}");
        assert!(!path.exists());
        refused.to_string()
    };
    assert!(refused(&["a", "b"]).contains("not 2"));
    assert!(refused(&["a", "b", "c", "d"]).contains("not 4"));
    assert!(refused(&["a", "b", "A"]).contains("`a:4222`"));
    assert!(refused(&["a", "b", "a:4300"]).contains("on `a`"));
    assert!(refused(&["a:4222", "b", "a:6222"]).contains("`a:6222`"));
    assert!(refused(&["a", "localhost", "c"]).contains("`localhost`"));
    assert!(refused(&["a", "b", "c:64000"]).contains("64000"));
}

#[test]
fn a_join_file_says_how_many_servers_hold_everything() {
    let dir = TempDir::new().unwrap();
    let one = ClusterFolder::init(&dir.path().join("one"), &plan("127.0.0.1:4222", &[])).unwrap();
    let path = one.join(Role::Worker);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("replicas"),
        "one server's file is what it always was"
    );
    assert_eq!(JoinFile::read(&path, Role::Worker).unwrap().replicas, 1);
    for more in ["3", "0", "2", "-1", "\"3\""] {
        let changed = text.replace("\"version\"", &format!("\"replicas\": {more}, \"version\""));
        fs::write(&path, changed).unwrap();
        let refused = JoinFile::read(&path, Role::Worker);
        assert!(
            matches!(refused, Err(JoinError::Malformed { .. })),
            "{more}: {refused:?}"
        );
    }
}
