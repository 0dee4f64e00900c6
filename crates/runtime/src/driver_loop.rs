//! Executes the driver machine's effects: what concerns the workers goes to the engine, the rest to the driver's host.

use crate::engine::DriverPort;
use crate::steps::Step;
use std::time::{Duration, Instant};
use tilework_core::alarm::{Alarm, AlarmKind};
use tilework_core::driver::{Driver, DriverEffect, DriverEvent};
use tilework_core::failure::JobEnd;
use tilework_core::ids::{JobId, Millis};
use tilework_core::limits::DRIVER_POLL_MS;

/// What surrounds the driver machine in a process.
pub trait DriverHost {
    /// An event that comes before whatever the engine has. Asked before each event, and a few times a second.
    fn urgent(&mut self, machine: &Driver) -> Option<DriverEvent>;
    /// The machine is about to take an event.
    fn on_event(&mut self, event: &DriverEvent, machine: &Driver);
    /// Asked before each event too: what the host does itself meanwhile.
    fn on_tick(&mut self, _port: &mut dyn DriverPort) {}
    /// The machine wants a step of a job; its event is to be put into the port's inbox.
    fn take_step(&mut self, job: JobId, step: Step, port: &mut dyn DriverPort);
    /// Tells whoever watches.
    fn on_alarm(&mut self, alarm: &Alarm);
    /// A job's run is over.
    fn on_end(&mut self, job: JobId, end: JobEnd, port: &mut dyn DriverPort);
    /// Whether the driver's work is done, or is another's.
    fn is_over(&self) -> bool;
}

/// Drives until the host says that it is over.
pub fn drive(port: &mut dyn DriverPort, host: &mut dyn DriverHost) {
    let started = Instant::now();
    let poll = Duration::from_millis(DRIVER_POLL_MS);
    let mut machine = Driver::new();
    let mut effects = Vec::new();
    let mut next_wake: Option<Instant> = None;
    while !host.is_over() {
        let until_wake = next_wake.map_or(poll, |at| at.saturating_duration_since(Instant::now()).min(poll));
        host.on_tick(port);
        let event = match host.urgent(&machine) {
            Some(event) => event,
            None => port.next(until_wake).unwrap_or(DriverEvent::Tick),
        };
        // The process may have been stopped while it waited: what it would say now, say of jobs that it does not know, is another's to say.
        if host.is_over() {
            break;
        }
        host.on_event(&event, &machine);
        next_wake = None;
        let now = Millis(started.elapsed().as_millis() as u64);
        machine.on_event(now, event, &mut effects);
        for effect in effects.drain(..) {
            if let Some((job, step)) = Step::of(&effect) {
                host.take_step(job, step, port);
                continue;
            }
            match effect {
                DriverEffect::Release(attempt, queue) => port.release(attempt, queue),
                DriverEffect::Send(worker, message) => port.send(worker, message),
                DriverEffect::Alarm(alarm) => {
                    if let AlarmKind::WorkerLost { worker, .. } = alarm.kind {
                        port.forget(worker);
                    }
                    host.on_alarm(&alarm);
                }
                DriverEffect::WakeAt(at) => next_wake = Some(started + Duration::from_millis(at.0)),
                DriverEffect::End(job, end) => host.on_end(job, end, port),
                // Steps, taken above.
                DriverEffect::Advance(..)
                | DriverEffect::ReadCommits(..)
                | DriverEffect::VerifyOutputs(_)
                | DriverEffect::FinishOutputs(_) => {}
            }
        }
    }
}
