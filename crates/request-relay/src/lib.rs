//! Runs requests: waits for a worker, runs the request there, continues on another worker
//! when one fails, and finishes exactly once.
//!
//! [`Relay::infer`] streams completions, [`Relay::call`] makes a call with a single response.
//! Both run on one loop, in the module `attempts`. Workers are reached through a
//! [`WorkerAccess`]; this crate knows neither nodes nor hives.

mod access;
mod attempts;
mod call;
mod choices;
mod errors;
mod groups;
mod infer;
mod metrics;
mod prompt;
mod relay;
mod stall;
mod verdict;

/// What the failure of a worker means for a request, without any connection.
pub mod decisions {
    pub use crate::{
        attempts::AttemptEnd,
        stall::{Silence, failure, remaining_patience},
        verdict::{Progress, judge_call, judge_error},
    };
}

pub use access::{WorkerAccess, WorkerExit};
pub use call::{CallOrigin, ShortCall};
pub use choices::{ChoiceEvent, Choices};
pub use infer::InferJob;
pub use metrics::RelayMetrics;
pub use relay::Relay;
