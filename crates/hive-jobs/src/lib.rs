//! Long operations of a hive as jobs.
//!
//! A job runs in its own task. Its [`JobEvent`](hive_contract::JobEvent)s are kept, so that any
//! number of readers can follow them from the first one, at any time. The last event is the
//! only terminal one: `result`, `error` or `cancelled`.
//!
//! - [`JobRegistry`] starts jobs and finds them by id.
//! - [`SharedOperation`] is an operation that several jobs follow.
//! - [`JobContext`] is what the operation gets: a [`Reporter`] for its events, and a token that
//!   is cancelled with the job.
//! - [`NodeEvents`] distributes the narration of all jobs, and of everything else that happens
//!   on the node.
//!
//! # Adding a kind of operation
//!
//! 1. Write the operation as an async function that takes a [`JobContext`] and returns
//!    `Result<T, Diagnostic>`, where `T` is the response type of the plain HTTP call.
//! 2. Narrate what happens with [`Reporter::info`] and [`Reporter::warn`], and report how far it
//!    is with [`Reporter::progress`]. The `phase` of a progress event names what is counted:
//!    `load`, `download`.
//! 3. Run each phase with [`JobContext::phase`], which ends it when the job is cancelled and,
//!    if the phase has a limit, when that has passed. A phase that starts a process or a
//!    transfer watches [`JobContext::cancel`] itself and cleans up before it returns
//!    `CANCELLED`.
//! 4. Start it with [`JobRegistry::start`] under a kind of its own (`spawn`), in an HTTP handler
//!    that answers with the job's events, its id, or its result.

mod context;
mod errors;
mod job;
mod node_events;
mod registry;
mod reporter;
mod shared;

pub use context::JobContext;
pub use job::Job;
pub use node_events::NodeEvents;
pub use registry::JobRegistry;
pub use reporter::Reporter;
pub use shared::SharedOperation;

/// Number of jobs that are kept. The oldest finished one is removed for a new one.
const JOBS_KEPT: usize = 256;
