//! Load on a queen and its nodes while links fail and machines freeze: `cargo xtask soak`, and
//! short runs in the tests of this crate. Queen, hives, workers and SSH servers are real; the
//! engine is the mock engine, so that a request takes as long as it should.

mod census;
mod fleet;
pub mod freeze;
pub mod links;
mod load;

use std::time::Duration;

/// Longest time for a request to end, whatever fails.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(120);
