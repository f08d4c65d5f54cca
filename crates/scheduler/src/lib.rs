//! Which worker serves a request, how long it may wait, and when a worker is spawned.
//!
//! [`Scheduler`] is a state machine: [`Scheduler::handle`] takes an [`Event`] and the time,
//! and tells what is to be done as [`Effect`]s. It does no IO and reads no clock; time is a
//! [`Duration`](std::time::Duration) since the queen's start.
//!
//! Every request that [`Event::Submit`] brings ends exactly once: by [`Effect::Fail`], or by
//! the [`Event::Ended`] of whoever ran it.

mod event;
mod scheduler;
mod spawning;

pub use event::{
    Assignment, Effect, Event, Lost, Outcome, Settings, Submission, Target, Wait, Want,
};
pub use scheduler::Scheduler;
pub use spawning::TargetState;
