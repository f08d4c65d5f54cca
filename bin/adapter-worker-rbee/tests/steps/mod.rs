//! The steps of the feature.

mod engines;
mod llama_cpp;
mod outputs;
mod requests;
mod workers;

use std::time::Duration;

/// Time within which everything happens that a step waits for.
const LIMIT: Duration = Duration::from_secs(30);
