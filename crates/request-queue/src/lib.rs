//! The requests of a queen that wait for a worker: one bounded queue per model and priority.
//!
//! The queue decides the order in which waiting requests are offered to workers; nothing
//! outside this crate depends on that order:
//!
//! 1. Interactive requests precede batch requests. While a batch request waits, at most
//!    [`INTERACTIVE_PER_BATCH`] interactive ones are served before one batch request is offered
//!    first.
//! 2. Of the same priority, those precede that had a worker and lost it, in order of arrival.
//! 3. The others are served in turns among their clients, each in order of arrival: a client with
//!    many requests delays the only one of another client by at most one.
//!
//! Pure: no IO and no clock. Time is a [`Duration`](std::time::Duration) since the start of
//! the queen.

mod class;
mod client_key;
mod deadline;
mod model_queue;
mod queue;
mod request;
#[cfg(test)]
mod tests;

pub use client_key::ClientKey;
pub use deadline::Deadline;
pub use model_queue::INTERACTIVE_PER_BATCH;
pub use queue::{QueueFull, QueueState, RequestQueue};
pub use request::{Offer, QueuedRequest, Ticket};
