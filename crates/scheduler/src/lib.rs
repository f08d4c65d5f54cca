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
mod decisions;
mod deployment;
mod deployments;
mod device_yield;
mod displaced;
mod dry_run;
mod errors;
mod estimate;
mod event;
mod eviction;
mod free_device;
mod idle;
mod node_facts;
mod node_sleep;
mod nodes;
mod placement;
mod policy;
mod prefixes;
mod reasons;
mod reconcile;
mod request;
mod residency;
mod room;
mod scheduler;
mod service_time;
mod serving;
mod sleeping;
mod target;
#[cfg(test)]
mod tests;
mod workers;
mod yielding;

pub use deployment::{Deployment, DeploymentMap, Shortfall};
pub use device_yield::{
    DeviceYield, Measurement, NOTABLE_BYTES, RETURN_AFTER, YieldEffect, YieldMode, foreign_bytes,
    threshold_bytes,
};
pub use errors::device_is_yielded;
pub use event::{
    Assignment, AttemptFailure, NewRequest, RequestOutcome, SchedulerEffect, SchedulerEvent,
    SchedulerSettings, SpawnTarget, StopCause, WaitReason, Waiting, WorkerRequirements,
};
pub use node_facts::{DeviceFacts, NodeFacts, NodeMap, NodeState, Sleeping};
pub use node_sleep::{NodeSleep, NodeUse, SUSPEND_LIMIT, SleepEffect, SleepEvent, SleepStage};
pub use policy::PolicyState;
pub use prefixes::PromptPrefixes;
pub use reasons::by_reason;
pub use scheduler::Scheduler;
pub use target::TargetState;
