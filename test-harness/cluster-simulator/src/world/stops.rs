//! How a hive stops workers.

use std::time::Duration;

use daemon_shell::Signal;
use worker_lifecycle::{
    StopLimits,
    decisions::{StopEffect, StopEvent, StopSequence},
};

use crate::{
    message::{Event, Number, ProcessIndex, Reply, ToProcess},
    world::World,
};

/// How often a starting worker is polled. The real hive does it more often.
pub(super) const POLL: Duration = Duration::from_millis(250);
/// Time until a process has reacted to a signal.
const SIGNAL_TAKES: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Stop {
    pub(super) process: ProcessIndex,
    pub(super) sequence: StopSequence,
    /// When the sequence continues without another event.
    pub(super) until: Option<Duration>,
}

impl World<'_> {
    pub(super) fn signal(&mut self, process: ProcessIndex, signal: Signal) {
        let message = match signal {
            Signal::Kill => ToProcess::Exit,
            _ => ToProcess::Terminate,
        };
        self.at(self.now + SIGNAL_TAKES, Event::Process(process, message));
    }

    pub(super) fn step_stop(&mut self, node: usize, number: Number, event: StopEvent) {
        let now = self.now;
        let Some(stop) = self.hives[node].stops.get_mut(&number) else {
            return;
        };
        let process = stop.process;
        let (mut ended, mut requested) = (false, false);
        let mut signals = Vec::new();
        for effect in stop.sequence.step(event, now) {
            match effect {
                StopEffect::RequestShutdown => requested = true,
                StopEffect::Signal(signal) => signals.push(signal),
                StopEffect::WaitUntil(time) => stop.until = Some(time),
                StopEffect::Done | StopEffect::GiveUp => ended = true,
            }
        }
        for signal in signals {
            self.signal(process, signal);
        }
        if ended {
            self.hives[node].stops.remove(&number);
            self.reply(node, number, Reply::Stopped);
            return;
        }
        if requested && self.processes[process].frozen_until <= now {
            self.at(
                now + SIGNAL_TAKES,
                Event::Process(process, ToProcess::Drain),
            );
            self.step_stop(node, number, StopEvent::Requested);
        }
        let run = self.hives[node].run;
        self.at(now + POLL, Event::Stop(node, number, run));
    }

    pub(crate) fn continue_stop(&mut self, node: usize, number: Number, run: u32) {
        let hive = &self.hives[node];
        let Some(stop) = hive.stops.get(&number) else {
            return;
        };
        if hive.run != run || hive.is_down {
            return;
        }
        if self.processes[stop.process].is_dead() {
            self.step_stop(node, number, StopEvent::Exited);
        } else if stop.until.is_some_and(|until| until <= self.now) {
            self.step_stop(node, number, StopEvent::Timeout);
        } else {
            self.at(self.now + POLL, Event::Stop(node, number, run));
        }
    }
}

pub(super) fn stop_limits(drains: bool) -> StopLimits {
    let mut limits = StopLimits::default();
    if !drains {
        limits.drain = Duration::ZERO;
    }
    limits
}
