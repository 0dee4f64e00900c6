//! Outputs, states and reports between what a job says and what its next round, or its output's reader, sees.

use super::*;
use serde::Deserialize;
use tilework_core::driver::Assign;
use tilework_core::failure::JobEnd;
use tilework_runtime::{JobFolder, RunOptions, StopSwitch};
use tilework_store::fake_disk::FakeDisk;

const OUTPUT: &str = "/data/out";

/// Fields that are often left out, in the ways that serde has for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Sparse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    b: Option<u32>,
    #[serde(flatten)]
    more: More,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct More {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    c: Vec<u32>,
    #[serde(default)]
    d: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Shape {
    Wide { width: u32 },
    High { height: u32 },
}

impl Default for Shape {
    fn default() -> Shape {
        Shape::High { height: 3 }
    }
}

fn sparse(task: u64) -> Sparse {
    let number = task as u32;
    let mut sparse = Sparse::default();
    match task {
        0 => sparse.a = Some(number),
        1 => sparse.b = Some(number),
        _ => sparse.more.d = vec![number],
    }
    sparse
}

/// Two rounds, whose second state is what the tasks of the first returned.
#[derive(Serialize, Deserialize)]
struct Echo {}

impl Job for Echo {
    const KIND: &'static str = "echo";
    const VERSION: u32 = 1;
    type State = Vec<Sparse>;
    type Output = Sparse;

    fn start(&self, _: &Files) -> Result<Vec<Sparse>, TaskError> {
        Ok(Vec::new())
    }

    fn tasks(&self, _: &Vec<Sparse>) -> u64 {
        3
    }

    fn run(&self, state: &Vec<Sparse>, task: u64, _: &TaskContext<'_>) -> Result<Sparse, TaskError> {
        Ok(state.get(task as usize).cloned().unwrap_or_else(|| sparse(task)))
    }

    fn advance(
        &self,
        state: &Vec<Sparse>,
        outputs: &mut dyn Iterator<Item = Sparse>,
    ) -> Result<Next<Vec<Sparse>>, TaskError> {
        let outputs: Vec<Sparse> = outputs.collect();
        Ok(if state.is_empty() {
            Next::Round(outputs)
        } else {
            Next::Done(Report::json(&outputs)?)
        })
    }
}

fn disk() -> FakeDisk {
    let disk = FakeDisk::new(3);
    disk.install("/data/other", b"");
    disk
}

fn place(disk: &FakeDisk) -> Place {
    Place {
        disk: Arc::new(disk.clone()),
        files: JobFiles::beside(Path::new(OUTPUT)),
        inputs: Vec::new(),
        tally: Arc::default(),
    }
}

#[test]
fn outputs_and_states_come_back_as_they_were_whatever_serde_leaves_out() {
    let disk = disk();
    let rounds = Arc::new(Rounds::start(Echo {}, place(&disk)).unwrap());
    let mut folder = JobFolder::open(Arc::new(disk.clone()), Path::new(OUTPUT)).unwrap();
    let options = RunOptions {
        n_workers: 1,
        memory_bytes: u64::MAX,
        assign: Assign::Dynamic,
        may_replace_output: false,
        stop: StopSwitch::default(),
    };
    let report = tilework_runtime::run(&rounds, b"{}", &mut folder, &options, &(), &|_| Vec::new());
    assert_eq!(report.end, JobEnd::Done);
    let echoed: Vec<Sparse> = serde_json::from_slice(&disk.contents(OUTPUT).unwrap()).unwrap();
    assert_eq!(echoed, [sparse(0), sparse(1), sparse(2)]);
}
