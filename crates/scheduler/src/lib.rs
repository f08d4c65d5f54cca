//! Decides which worker serves a request, how long a request waits, and when a worker is
//! spawned.
//!
//! [`Scheduler`] is a state machine: it takes a [`SchedulerEvent`] and the current time and
//! returns the [`SchedulerEffect`]s to execute. It does no IO and reads no clock; time is a
//! [`Duration`](std::time::Duration) since the start of the queen.
//!
//! Every request that [`Scheduler::submit`] accepts finishes exactly once: by
//! [`SchedulerEffect::Fail`], or by the [`SchedulerEvent::Finished`] that its owner sends.

mod attempts;
mod errors;
mod event;
mod idle;
mod node_facts;
mod nodes;
mod placement;
mod request;
mod scheduler;
mod target;
#[cfg(test)]
mod tests;
mod workers;

pub use event::{
    Assignment, AttemptFailure, NewRequest, RequestOutcome, SchedulerEffect, SchedulerEvent,
    SchedulerSettings, SpawnTarget, StopCause, WaitReason, WorkerRequirements,
};
pub use node_facts::{DeviceFacts, NodeFacts, NodeMap, NodeState};
pub use scheduler::Scheduler;
pub use target::TargetState;
