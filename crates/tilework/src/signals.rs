//! Ctrl-C, SIGTERM and SIGHUP: the first stops the run cleanly, the second stops the process at once.

use crate::failure::{CliError, Exit};
use crate::output::{self, Output};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::thread::{self, JoinHandle};
use tilework_runtime::StopSwitch;

/// Signals are handled as long as this lives.
#[derive(Debug)]
pub struct SignalGuard {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes the first signal interrupt `switch`, and the second end the process with exit code 130.
pub fn stop_on_signals(switch: &StopSwitch, output: &Output) -> Result<SignalGuard, CliError> {
    // The line with `^C` or the progress bar ends first.
    on_signals(switch, output, b"\nstopping cleanly; once more to stop at once\n")
}

/// The same for a command that only watches: nothing has to stop.
pub fn leave_on_signals(switch: &StopSwitch, output: &Output) -> Result<SignalGuard, CliError> {
    on_signals(switch, output, b"\n")
}

fn on_signals(switch: &StopSwitch, output: &Output, words: &'static [u8]) -> Result<SignalGuard, CliError> {
    let failed = |error: std::io::Error| CliError::system("handle signals", &error);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let handle = signals.handle();
    let (switch, output) = (switch.clone(), output.clone());
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if !switch.interrupt() {
                std::process::exit(Exit::Interrupted.code().into());
            }
            if !output.is_quiet() {
                output::say(words);
            }
        }
    });
    Ok(SignalGuard {
        handle,
        thread: Some(thread.map_err(failed)?),
    })
}
