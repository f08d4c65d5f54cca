//! Limits of a request. Workers enforce them, and every other component that checks a request
//! uses the same constants. An edge may be stricter where its own API says so.

use std::ops::RangeInclusive;

/// Maximum size of a request body, in bytes.
pub const MAX_BODY_BYTES: usize = 4 << 20;
/// Maximum number of stop sequences.
pub const MAX_STOP_SEQUENCES: usize = 16;
/// Maximum length of a stop sequence, in bytes.
pub const MAX_STOP_SEQUENCE_BYTES: usize = 1024;
/// Maximum number of slots of a worker.
pub const MAX_SLOTS: u32 = 1024;
/// Maximum number of alternatives reported at each position.
pub const MAX_TOP_LOGPROBS: u8 = 20;

/// Range of the temperature.
pub const TEMPERATURE: RangeInclusive<f64> = 0.0..=100.0;
/// Range of `top_p` and `min_p`.
pub const PROBABILITY: RangeInclusive<f64> = 0.0..=1.0;
/// Range of the repetition penalty.
pub const REPETITION_PENALTY: RangeInclusive<f64> = 0.01..=100.0;
/// Range of the frequency penalty and the presence penalty.
pub const ADDITIVE_PENALTY: RangeInclusive<f64> = -2.0..=2.0;
/// Range of a logit bias.
pub const LOGIT_BIAS: RangeInclusive<f64> = -100.0..=100.0;
