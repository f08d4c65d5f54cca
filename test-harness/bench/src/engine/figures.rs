use std::{collections::BTreeMap, fmt, str::FromStr};

use anyhow::{Error, bail};

/// Tokens of the prompt in a prefill.
pub const PROMPT_TOKENS: u32 = 512;
/// Tokens that each sequence decodes.
pub const DECODED_TOKENS: u32 = 128;
/// Most sequences at once.
pub const MOST_SEQUENCES: u32 = 16;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// One prompt of 512 tokens.
    Prefill,
    /// 128 tokens of each of so many sequences.
    Decode(u32),
}

impl Test {
    /// Tokens that it computes.
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
        let decodes = (1..=MOST_SEQUENCES).map(Self::Decode);
        let mut known = std::iter::once(Self::Prefill).chain(decodes);
        match known.find(|test| test.to_string() == text) {
            Some(test) => Ok(test),
            None => bail!("expected pp512, tg128, or tg128x2 to tg128x{MOST_SEQUENCES}"),
        }
    }
}

/// What one test took.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Seconds of the clock.
    pub wall: f64,
    /// Seconds of processor time, of all threads together.
    pub cpu: f64,
}

/// One engine on one file, measured once.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Seconds of the clock from the start of the process to a loaded model.
    pub load: f64,
    /// Bytes in memory after prefill and decode of one sequence.
    pub resident: u64,
    /// Most bytes in memory until then.
    pub peak: u64,
    /// What each test took.
    pub figures: BTreeMap<Test, Figure>,
}
