//! The jobs of the stream: what they are asked for by, and the bytes that an undisturbed process makes of each.

use crate::common::Stage;
use crate::harness::{Cluster, DATA};
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

/// A job, whoever computes it and whatever its output is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// Its command without its output. `@data` stands for the folder of its inputs, `@out` for the output.
    command: &'static str,
    /// What its output is before, if it is added to.
    pub(crate) adds_to: Option<&'static str>,
}

/// So little memory that a product of these inputs has 15 tasks or so.
pub(crate) const SPECS: [Spec; 6] = [
    Spec {
        name: "multiply",
        command: "multiply @data/A.npy @data/B.npy --memory 16MiB -o @out",
        adds_to: None,
    },
    Spec {
        name: "multiply of other inputs, scaled, and a matrix added",
        command: "multiply @data/A2.npy @data/B.npy --alpha 0.5 --add @data/D.npy --memory 16MiB -o @out",
        adds_to: None,
    },
    Spec {
        name: "multiply, added to its own output",
        command: "multiply @data/A.npy @data/B.npy --beta -2 --add @out --overwrite --memory 16MiB -o @out",
        adds_to: Some("D.npy"),
    },
    Spec {
        name: "gram",
        command: "gram @data/B.npy --memory 16MiB -o @out",
        adds_to: None,
    },
    Spec {
        name: "three rounds whose tasks hand each other files",
        command: "run relay --set seed=1 --set tasks=5 --set rounds=3 --set bytes=20000 --set in_files=true -o @out",
        adds_to: None,
    },
    Spec {
        name: "four rounds whose tasks hand each other bytes in the journal",
        command: "run relay --set seed=2 --set tasks=4 --set rounds=4 --set bytes=500 --set in_files=false -o @out",
        adds_to: None,
    },
];

impl Spec {
    /// Its command on the cluster.
    pub(crate) fn on_cluster(&self, output: &str) -> String {
        self.line("data:", &format!("data:/{output}"))
    }

    /// The ending of its outputs' names.
    pub(crate) fn ending(&self) -> &'static str {
        if self.command.starts_with("run ") {
            "bin"
        } else {
            "npy"
        }
    }

    fn line(&self, data: &str, output: &str) -> String {
        self.command.replace("@data", data).replace("@out", output)
    }

    /// The bytes that one undisturbed process writes, which are computed once.
    pub(crate) fn undisturbed(&self, cluster: &Cluster) -> Arc<Vec<u8>> {
        static KNOWN: Mutex<BTreeMap<&str, Arc<Vec<u8>>>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let computed = || {
            let stage = Stage::empty();
            let output = stage.path(&format!("undisturbed.{}", self.ending()));
            if let Some(before) = self.adds_to {
                fs::copy(cluster.data(before), &output).unwrap();
            }
            let data = cluster.stage.path(DATA);
            let line = self.line(data.to_str().unwrap(), output.to_str().unwrap());
            let ended = cluster.alone(&line);
            assert!(ended.status.success(), "{line}: {ended:?}");
            Arc::new(fs::read(output).unwrap())
        };
        Arc::clone(known.entry(self.name).or_insert_with(computed))
    }
}
