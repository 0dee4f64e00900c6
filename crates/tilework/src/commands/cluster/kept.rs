//! A process that is kept running: started again whenever it ends, after a pause.

use super::back_off::BackOff;
use super::process::{Launch, Process};
use crate::failure::CliError;
use crate::human;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A process that is kept running.
#[derive(Debug)]
pub struct Kept {
    name: String,
    log: PathBuf,
    launch: Launch,
    back_off: BackOff,
    state: State,
    n_ends: u32,
}

#[derive(Debug)]
enum State {
    Running { process: Process, since: Instant },
    Pausing { until: Instant },
}

/// How a kept process stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// `nats-server`, `driver` or `worker-1`.
    pub name: String,
    /// Its log.
    pub log: PathBuf,
    /// Its id while it runs.
    pub pid: Option<u32>,
    /// How often it has ended by itself.
    pub n_ends: u32,
}

impl Kept {
    /// Starts it for the first time.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(name: &str, log: PathBuf, launch: Launch) -> Result<Kept, CliError> {
        let process = launch.start()?;
        Ok(Kept {
            name: name.to_owned(),
            log,
            launch,
            back_off: BackOff::default(),
            state: State::Running {
                process,
                since: Instant::now(),
            },
            n_ends: 0,
        })
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let pid = match &self.state {
            State::Running { process, .. } => Some(process.pid()),
            State::Pausing { .. } => None,
        };
        Standing {
            name: self.name.clone(),
            log: self.log.clone(),
            pid,
            n_ends: self.n_ends,
        }
    }

    /// Looks whether it still runs, and starts it again once its pause is over; returns what is to be told.
    pub fn tend(&mut self) -> Option<String> {
        let now = Instant::now();
        match &mut self.state {
            State::Running { process, since } => {
                let cause = match process.ended() {
                    Ok(None) => return None,
                    Ok(Some(status)) => status.to_string(),
                    Err(error) => error.to_string(),
                };
                let ran = now.duration_since(*since);
                self.n_ends += 1;
                Some(self.pause(ran, &format!("{} ended ({cause})", self.name)))
            }
            State::Pausing { until } if now < *until => None,
            State::Pausing { .. } => match self.launch.start() {
                Ok(process) => {
                    let told = format!("{} runs again, as process {}", self.name, process.pid());
                    self.state = State::Running {
                        process,
                        since: Instant::now(),
                    };
                    Some(told)
                }
                Err(error) => {
                    self.n_ends += 1;
                    Some(self.pause(Duration::ZERO, &format!("{}: {}", self.name, error.message)))
                }
            },
        }
    }

    fn pause(&mut self, ran: Duration, what: &str) -> String {
        let pause = self.back_off.pause_after(ran);
        self.state = State::Pausing {
            until: Instant::now() + pause,
        };
        format!("{what}; it is started again in {}", human::duration(pause))
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        match &mut self.state {
            State::Running { process, .. } => matches!(process.ended(), Ok(None)),
            State::Pausing { .. } => false,
        }
    }

    /// Asks it to end in good order.
    pub fn ask_to_end(&mut self) {
        if let State::Running { process, .. } = &mut self.state {
            process.ask_to_end();
        }
    }

    /// Ends it: a server in good order, a program at once.
    pub fn end(self) {
        if let State::Running { process, .. } = self.state {
            process.end();
        }
    }
}
