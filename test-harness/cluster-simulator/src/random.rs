//! Random numbers that are the same on every machine and in every version.

use std::time::Duration;

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers that a seed and a purpose determine.
#[derive(Debug, Clone)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(purpose);
        Self(random)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = (high - low).saturating_add(1);
        low + self.0.next_u64() % span
    }

    /// True in `permille` of 1000 cases.
    pub(crate) fn happens(&mut self, permille: u32) -> bool {
        permille > 0 && self.between(0, 999) < u64::from(permille)
    }

    pub(crate) fn micros(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low, high))
    }

    /// An index below `length`, which must not be 0.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.between(0, length as u64 - 1) as usize
    }
}

/// Spreads the bits of a number.
pub(crate) fn mix(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
