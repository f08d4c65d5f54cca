//! Which workers there are, and which of them may get work: from their heartbeats, from
//! broken connections, and from the requests that this queen itself runs on them.
//!
//! Pure: time comes in as a [`Duration`] since the queen's start, monotonic. Wall clocks of
//! machines are never compared.
//!
//! A worker is known by its id and its generation, the number of its spawn. A heartbeat of
//! an older generation than the newest one seen, or of one that was stopped, is fenced: the
//! sender must end.

mod registry;
mod worker;

pub use registry::{Heard, Prospect, Registry};
pub use worker::{Candidate, Filter, Lease};

use std::time::Duration;

/// After this long without a heartbeat a worker gets no new work.
pub const SILENT_AFTER: Duration = Duration::from_secs(15);
/// After this long without a heartbeat a worker is forgotten.
pub const REMOVED_AFTER: Duration = Duration::from_secs(30);
