//! The dispatcher: the only owner of the queen's [`Scheduler`](scheduler::Scheduler). It
//! passes events and the time to the scheduler and executes its effects.
//!
//! [`Dispatcher`] is a handle; all state is in one task, which receives messages. The owner of
//! a request holds an [`OpenRequest`], which receives orders and reports the outcome exactly
//! once. Workers come from a [`WorkerSource`].

mod actor;
mod clock;
mod dispatcher;
mod message;
mod open_request;
mod policy_file;
mod source;
mod waiting;

pub use clock::Clock;
pub use dispatcher::Dispatcher;
pub use message::{DispatcherSnapshot, DryRun, PolicyReport, TargetEntry};
pub use open_request::{Directive, Notice, OpenRequest, Order};
pub use policy_file::PolicyFile;
pub use source::WorkerSource;
