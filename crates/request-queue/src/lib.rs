//! The requests of a queen that wait for a worker: one bounded queue per model.
//!
//! The queue decides the order in which waiting requests are offered to workers; nothing
//! outside this crate depends on that order. It is first come, first served. To add
//! priorities, fairness among keys or batching by model, extend [`QueuedRequest`] with what
//! the order depends on and change [`RequestQueue::in_order`] and [`RequestQueue::offer`].
//!
//! Pure: no IO and no clock. Time is a [`Duration`](std::time::Duration) since the start of
//! the queen.

mod deadline;
mod queue;

pub use deadline::Deadline;
pub use queue::{Offer, QueueFull, QueuedRequest, RequestQueue, Ticket};
