//! Starts the processes of a cluster, keeps them running, and stops them in good order: workers, driver, server.

use super::kept::{Kept, Standing};
use super::process::Launch;
use crate::failure::CliError;
use crate::human;
use crate::output::Output;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long a worker may take to give back its tasks, and the driver its lease.
const END_WAIT: Duration = Duration::from_secs(20);
/// Pause between two looks at the processes.
pub const LOOK: Duration = Duration::from_millis(50);

/// What a process is called, where its log is, how it is started.
#[derive(Debug, Clone)]
pub struct Member {
    /// `nats-server`, `driver` or `worker-1`.
    pub name: String,
    /// Its log.
    pub log: PathBuf,
    /// How it is started.
    pub launch: Launch,
}

/// The processes of a cluster.
#[derive(Debug, Clone)]
pub struct Members {
    /// The messages' server.
    pub server: Member,
    /// The driver.
    pub driver: Member,
    /// The workers.
    pub workers: Vec<Member>,
}

/// A cluster's processes, kept running until it is stopped.
#[derive(Debug)]
pub struct Supervisor {
    output: Output,
    server: Option<Kept>,
    driver: Option<Kept>,
    workers: Vec<Kept>,
}

impl Supervisor {
    /// Starts them: the server first.
    ///
    /// # Errors
    /// If one of them can't be started; none is left then.
    pub fn start(members: Members, output: &Output) -> Result<Supervisor, CliError> {
        let mut supervisor = Supervisor {
            output: output.clone(),
            server: None,
            driver: None,
            workers: Vec::new(),
        };
        match supervisor.start_all(members) {
            Ok(()) => Ok(supervisor),
            Err(error) => {
                supervisor.stop();
                Err(error)
            }
        }
    }

    fn start_all(&mut self, members: Members) -> Result<(), CliError> {
        let start = |member: Member| {
            let kept = Kept::start(&member.name, member.log, member.launch)?;
            tracing::info!(pid = kept.standing().pid, "{} is started", member.name);
            Ok::<_, CliError>(kept)
        };
        self.server = Some(start(members.server)?);
        self.driver = Some(start(members.driver)?);
        for member in members.workers {
            self.workers.push(start(member)?);
        }
        Ok(())
    }

    /// Starts again what has ended.
    pub fn tend(&mut self) {
        let told: Vec<String> = self.all_mut().filter_map(Kept::tend).collect();
        for text in told {
            tracing::info!("{text}");
            self.output.note(&text);
        }
    }

    /// How the server stands.
    pub fn server(&self) -> Option<Standing> {
        self.server.as_ref().map(Kept::standing)
    }

    /// How the driver stands.
    pub fn driver(&self) -> Option<Standing> {
        self.driver.as_ref().map(Kept::standing)
    }

    /// How the workers stand.
    pub fn workers(&self) -> Vec<Standing> {
        self.workers.iter().map(Kept::standing).collect()
    }

    /// Stops all of them: first the workers, who need the others to give back what they hold, last the server.
    pub fn stop(mut self) {
        end_in_good_order(std::mem::take(&mut self.workers), &self.output);
        end_in_good_order(self.driver.take().into_iter().collect(), &self.output);
        if let Some(server) = self.server.take() {
            server.end();
        }
        tracing::info!("all processes of the cluster have ended");
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Kept> {
        let first = self.server.iter_mut().chain(self.driver.iter_mut());
        first.chain(self.workers.iter_mut())
    }
}

/// Asks programs to end, and kills those that take too long.
fn end_in_good_order(mut programs: Vec<Kept>, output: &Output) {
    programs.iter_mut().for_each(Kept::ask_to_end);
    let until = Instant::now() + END_WAIT;
    while programs.iter_mut().any(Kept::runs) && Instant::now() < until {
        thread::sleep(LOOK);
    }
    for mut program in programs {
        if program.runs() {
            let name = program.standing().name;
            let text = format!(
                "{name} did not end within {}: it is killed",
                human::duration(END_WAIT)
            );
            tracing::warn!("{text}");
            output.note(&text);
        }
        program.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process, test_kill_process};
    use std::path::Path;

    /// No wait of these tests is longer.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A process that ends when its input closes, as a driver and a worker do, and on SIGTERM.
    fn member(name: &str, folder: &Path, script: &str) -> Member {
        let log = folder.join(format!("{name}.log"));
        Member {
            name: name.to_owned(),
            log: log.clone(),
            launch: Launch::Program {
                program: PathBuf::from("/bin/sh"),
                args: ["-c", script].map(Into::into).to_vec(),
                log,
            },
        }
    }

    fn members(folder: &Path) -> Members {
        let member = |name| member(name, folder, "exec cat >/dev/null");
        Members {
            server: member("nats-server"),
            driver: member("driver"),
            workers: vec![member("worker-1"), member("worker-2")],
        }
    }

    fn silent() -> Output {
        Output::new(false, true, 0, Instant::now())
    }

    fn pids(supervisor: &Supervisor) -> Vec<Pid> {
        let all = supervisor.server().into_iter().chain(supervisor.driver());
        all.chain(supervisor.workers())
            .map(|standing| Pid::from_raw(standing.pid.unwrap() as i32).unwrap())
            .collect()
    }

    fn tend_until(supervisor: &mut Supervisor, what: &str, is_so: impl Fn(&Supervisor) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(supervisor) {
            assert!(Instant::now() < until, "{what}");
            supervisor.tend();
            thread::sleep(Duration::from_millis(5)); // waits: another process
        }
    }

    #[test]
    fn whoever_dies_is_started_again_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut supervisor = Supervisor::start(members(folder.path()), &silent()).unwrap();
        let before = pids(&supervisor);
        for _ in 0..2 {
            let worker = supervisor.workers()[1].pid.unwrap();
            kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL).unwrap();
            tend_until(&mut supervisor, "it is started again", |supervisor| {
                supervisor.workers()[1].pid.is_some_and(|pid| pid != worker)
            });
        }
        let after = pids(&supervisor);
        assert_eq!(before[..3], after[..3]);
        assert_eq!(supervisor.workers()[1].n_ends, 2);
        supervisor.stop();
        for pid in after {
            assert!(test_kill_process(pid).is_err(), "{pid:?} is left");
        }
    }

    #[test]
    fn a_program_that_always_ends_is_counted_and_its_log_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut members = members(folder.path());
        members.driver = member("driver", folder.path(), "echo trouble >&2; exit 3");
        let mut supervisor = Supervisor::start(members, &silent()).unwrap();
        tend_until(&mut supervisor, "it ends three times", |supervisor| {
            supervisor.driver().unwrap().n_ends == 3
        });
        let log = supervisor.driver().unwrap().log;
        assert_eq!(
            super::super::log_file::end_of(&log),
            "trouble | trouble | trouble"
        );
        supervisor.stop();
    }

    #[test]
    fn none_is_left_where_one_cannot_be_started() {
        let folder = tempfile::tempdir().unwrap();
        let mut members = members(folder.path());
        let pid_file = folder.path().join("pid");
        let script = format!("echo $$ >'{}'; exec cat >/dev/null", pid_file.display());
        members.driver = member("driver", folder.path(), &script);
        let Launch::Program { program, .. } = &mut members.workers[1].launch else {
            unreachable!("a member of these tests is a program")
        };
        *program = PathBuf::from("/nonexistent/tilework");
        let error = Supervisor::start(members, &silent()).unwrap_err();
        assert!(error.message.contains("`/nonexistent/tilework`"), "{error:?}");
        if let Ok(pid) = std::fs::read_to_string(&pid_file) {
            let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            assert!(test_kill_process(pid).is_err(), "the driver is left");
        }
    }
}
