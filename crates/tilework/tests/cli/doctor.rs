//! `doctor` and `explain` where no cluster runs; with one: `tests/cluster_up.rs`.

use crate::vocabulary::Folder;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

/// A folder with a cluster `c` in it that nobody started.
fn folder_with_a_cluster() -> Folder {
    let folder = Folder::new();
    // Nobody listens there once this is dropped.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    folder.done(&format!("cluster init c --listen {free}"));
    folder
}

#[test]
fn doctor_without_a_server_says_which_check_failed() {
    let folder = folder_with_a_cluster();
    for role in ["driver", "worker", "client", "viewer"] {
        let answer = folder.run(&format!("doctor --cluster c/{role}.join"));
        assert!(answer.stdout.starts_with("ok      join-file"), "{answer:?}");
        assert!(answer.stdout.contains("\nFAILED  server "), "{answer:?}");
        assert_eq!(answer.code, 6, "{answer:?}");
        assert!(
            answer.stderr.starts_with("error: 1 of 2 checks failed: server"),
            "{answer:?}"
        );
    }
    let json = folder.run("doctor --cluster c/client.join --json").json();
    assert_eq!(
        (&json["status"], &json["exit_code"]),
        (&"failed".into(), &6.into())
    );
    assert_eq!(json["checks"][0]["ok"], true);
    assert_eq!(
        (&json["checks"][1]["check"], &json["checks"][1]["ok"]),
        (&"server".into(), &false.into())
    );
}

#[test]
fn doctor_uses_no_join_file_that_others_may_read() {
    let folder = folder_with_a_cluster();
    let join = folder.path("c/client.join");
    fs::set_permissions(&join, fs::Permissions::from_mode(0o640)).unwrap();
    folder
        .run("doctor --cluster c/client.join")
        .fails(2, &["mode 640", "chmod 600"]);
    folder.text("none.join", "{}");
    fs::set_permissions(folder.path("none.join"), fs::Permissions::from_mode(0o600)).unwrap();
    folder
        .run("doctor --cluster none.join")
        .fails(2, &["`none.join` is no join file"]);
}

#[test]
fn a_cluster_that_cannot_be_reached_hides_nothing_that_stands_here() {
    let folder = folder_with_a_cluster();
    folder
        .run("explain C.npy --cluster c/client.join")
        .fails(6, &["cannot connect to NATS"]);
    folder.unfinished("C.npy");
    let answer = folder.done("explain C.npy --cluster c/client.join");
    assert!(answer.stdout.starts_with("C.npy: unfinished"), "{answer:?}");
    assert!(
        answer.stderr.contains("what stands beside the output here"),
        "{answer:?}"
    );
    // Nor does one that is gone, or another role's.
    for (join, why) in [("c/worker.join", "is a worker's"), ("gone.join", "gone.join")] {
        for command in ["explain", "status"] {
            folder
                .run(&format!("{command} D.npy --cluster {join}"))
                .fails(2, &[why]);
            let answer = folder.done(&format!("{command} C.npy --cluster {join}"));
            assert!(answer.stdout.starts_with("C.npy: unfinished"), "{answer:?}");
            assert!(
                answer.stderr.contains("could not be asked") && answer.stderr.contains(why),
                "{answer:?}"
            );
        }
    }
}
