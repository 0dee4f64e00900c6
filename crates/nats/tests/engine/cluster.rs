//! A cluster with keys, certificates and least rights, and somebody who tries more than that.

use crate::harness::{SOON, found_server};
use async_nats::{Client, Event};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;
use tilework_core::ids::WorkerIdx;
use tilework_nats::cluster_folder::ClusterPlan;
use tilework_nats::{
    ChildServer, ClusterFolder, Control, JoinFile, NatsDriverPort, NatsOptions, NatsWorkerPort, Role,
};

/// A cluster's folder and its running server.
pub(crate) struct Cluster {
    folder: ClusterFolder,
    _server: ChildServer,
    _dir: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        // Somebody else may take a port between its being found free and its use.
        for n in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let folder = made(&dir, &format!("cluster{n}"), free);
            if let Ok(server) = ChildServer::of_cluster(&found_server().path, &folder) {
                assert_eq!(server.port(), free.port());
                return Cluster {
                    folder,
                    _server: server,
                    _dir: dir,
                };
            }
        }
        panic!("the server did not start at any of five ports");
    }

    pub(crate) fn join(&self, role: Role) -> JoinFile {
        JoinFile::read(&self.folder.join(role), role).unwrap()
    }

    pub(crate) fn options(&self, role: Role, name: &str) -> NatsOptions {
        NatsOptions::joining(&self.join(role), name)
    }

    pub(crate) fn control(&self, role: Role) -> Control {
        Control::connect(&self.options(role, role.name())).expect("it joins")
    }

    pub(crate) fn driver(&self) -> NatsDriverPort {
        NatsDriverPort::connect(&self.options(Role::Driver, "driver")).expect("the driver joins")
    }

    pub(crate) fn worker(&self) -> NatsWorkerPort {
        let options = self.options(Role::Worker, "w0");
        NatsWorkerPort::connect(&options, WorkerIdx(0)).expect("the worker joins")
    }
}

pub(crate) fn made(dir: &TempDir, name: &str, listen: SocketAddr) -> ClusterFolder {
    let plan = ClusterPlan {
        listen,
        hosts: Vec::new(),
    };
    ClusterFolder::init(&dir.path().join(name), &plan).unwrap()
}

/// Somebody with a role's key and no good intentions.
pub(crate) struct Intruder {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) client: Client,
    errors: Receiver<String>,
}

/// Nobody may say this, so its refusal shows that all before it was judged.
pub(crate) const MARK: &str = "tw.mark";

impl Intruder {
    pub(crate) fn with(join: &JoinFile) -> Intruder {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (to_here, errors) = channel();
        let pem = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(pem.path(), &join.authority).unwrap();
        let client = async_nats::ConnectOptions::with_nkey(join.seed.clone())
            .add_root_certificates(pem.path().to_path_buf())
            .require_tls(true)
            .custom_inbox_prefix(join.role.inboxes())
            .event_callback(move |event| {
                if let Event::ServerError(error) = &event {
                    let _ = to_here.send(error.to_string());
                }
                async {}
            });
        let client = runtime.block_on(client.connect(join.servers.clone())).unwrap();
        Intruder {
            runtime,
            client,
            errors,
        }
    }

    /// Which of these it may publish to.
    pub(crate) fn may_publish<'s>(&self, subjects: &[&'s str]) -> Vec<&'s str> {
        self.allowed(subjects, |subject| {
            self.runtime
                .block_on(self.client.publish(subject.to_owned(), "x".into()))
                .unwrap();
        })
    }

    /// Which of these it may subscribe to.
    pub(crate) fn may_subscribe<'s>(&self, subjects: &[&'s str]) -> Vec<&'s str> {
        self.allowed(subjects, |subject| {
            let subscribed = self.runtime.block_on(self.client.subscribe(subject.to_owned()));
            // Dropping it would take it back before it was judged.
            std::mem::forget(subscribed.unwrap());
        })
    }

    fn allowed<'s>(&self, subjects: &[&'s str], act: impl Fn(&str)) -> Vec<&'s str> {
        subjects.iter().for_each(|subject| act(subject));
        self.runtime
            .block_on(self.client.publish(MARK, "".into()))
            .unwrap();
        let mut refused = Vec::new();
        loop {
            let error = self.errors.recv_timeout(SOON).expect("the mark is refused");
            if error.contains(&format!("\"{MARK}\"")) {
                break;
            }
            refused.push(error);
        }
        let is_refused = |subject: &str| {
            refused
                .iter()
                .any(|error| error.contains(&format!("\"{subject}\"")))
        };
        subjects
            .iter()
            .copied()
            .filter(|subject| !is_refused(subject))
            .collect()
    }
}
