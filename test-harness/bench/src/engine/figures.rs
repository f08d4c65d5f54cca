use std::{collections::BTreeMap, fmt, str::FromStr};

use anyhow::{Error, bail};

/// Tokens of the prompt in the prefill test.
pub const PROMPT_TOKENS: u32 = 512;
/// Tokens that each sequence of a decode test generates.
pub const DECODED_TOKENS: u32 = 128;
/// Maximum number of concurrent sequences.
pub const MAX_SEQUENCES: u32 = 16;

/// A test of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// Prefill of one prompt.
    Prefill,
    /// Decode of this many sequences.
    Decode(u32),
}

impl Test {
    /// Returns the number of tokens that are computed.
    pub fn tokens(self) -> u32 {
        match self {
            Self::Prefill => PROMPT_TOKENS,
            Self::Decode(sequences) => sequences * DECODED_TOKENS,
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefill => write!(f, "pp{PROMPT_TOKENS}"),
            Self::Decode(1) => write!(f, "tg{DECODED_TOKENS}"),
            Self::Decode(sequences) => write!(f, "tg{DECODED_TOKENS}x{sequences}"),
        }
    }
}

impl FromStr for Test {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let decodes = (1..=MAX_SEQUENCES).map(Self::Decode);
        let mut known = std::iter::once(Self::Prefill).chain(decodes);
        match known.find(|test| test.to_string() == text) {
            Some(test) => Ok(test),
            None => bail!("expected pp512, tg128, or tg128x2 to tg128x{MAX_SEQUENCES}"),
        }
    }
}

/// Duration of one test, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub wall: f64,
    /// CPU time of all threads.
    pub cpu: f64,
}

/// Results of one run of an engine.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Seconds from the start of the process until the model is loaded.
    pub load: f64,
    /// Resident memory in bytes, after prefill and decode of one sequence.
    pub resident: u64,
    /// Peak of the resident memory until then, in bytes.
    pub peak: u64,
    pub figures: BTreeMap<Test, Figure>,
}
