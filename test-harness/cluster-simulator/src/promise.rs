//! What is promised about every run.

use std::{fmt, time::Duration};

/// A promise about every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Each request ends exactly once for its client.
    OneEnd,
    /// No request ends later than its deadline and the time to notice that.
    Deadline,
    /// The client receives each token once and in order.
    Tokens,
    /// The workers of a device have room in its memory together.
    Memory,
    /// A worker that must not serve any more does not serve.
    Fence,
    /// A worker has at most one process.
    OneProcess,
    /// A request runs on one worker that has a free slot for it.
    Assignment,
    /// Every target has at most one spawn, and none is forgotten.
    Spawns,
    /// Nothing is decided that the policy refuses.
    Policy,
    /// The queues are bounded.
    Bounded,
    /// The scheduler counts what runs.
    Counts,
    /// After the faults each deployment has the workers that it wants, as far as there is memory.
    Desired,
    /// After the faults every model can be used.
    Recovery,
    /// Without faults every request completes.
    Completion,
    /// At the end no slot, block, connection or call is in use.
    Leak,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    /// Time since the start of the run.
    pub at: Duration,
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            promise,
            at,
            message,
        } = self;
        write!(f, "{promise:?} at {:.3} s: {message}", at.as_secs_f64())
    }
}
