//! Values of arguments.

use std::str::FromStr;

use clap::Args;
use diagnostics::Diagnostic;
use input_validation::whole_number;

#[derive(Debug, Args)]
pub(crate) struct LinesArg {
    /// Print at most this many lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = whole_number(1..=100_000_u32))]
    pub(crate) lines: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArg {
    /// Wait at most this long for running requests to finish; 0 ends them at once, unless another
    /// running worker can continue them [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = whole_number(0..=u64::MAX))]
    pub(crate) drain: Option<u64>,
}

/// Formats an error for clap, which prints only one text.
pub(crate) fn with_hint(error: Diagnostic) -> String {
    match error.hint {
        Some(hint) => format!("{}\n\nhint: {hint}", error.message),
        None => error.message,
    }
}

/// Parses a value.
pub(crate) fn parse<T: FromStr<Err = Diagnostic>>(text: &str) -> Result<T, String> {
    text.parse().map_err(with_hint)
}
