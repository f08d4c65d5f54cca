//! Values of arguments.

use std::str::FromStr;

use clap::Args;
use diagnostics::Diagnostic;
use input_validation::{NodeName, whole_number};
use queen_contract::MAX_EXPIRY_SECONDS;

use crate::errors;

#[derive(Debug, Args)]
pub(crate) struct NodeNameArg {
    /// Name of the node
    #[arg(value_parser = parse::<NodeName>)]
    pub(crate) name: NodeName,
}

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

/// Parses a time such as `90s`, `30m`, `2h` or `7d` into seconds.
pub(crate) fn parse_expiry(text: &str) -> Result<u32, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => 0,
    };
    let number: Option<u32> = text.strip_suffix(unit).and_then(|n| n.parse().ok());
    number
        .and_then(|number| number.checked_mul(seconds))
        .filter(|expiry| (1..=MAX_EXPIRY_SECONDS).contains(expiry))
        .ok_or_else(|| with_hint(errors::invalid_expiry(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_has_a_unit_and_a_limit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("30d", 2_592_000)] {
            assert_eq!(parse_expiry(text), Ok(seconds), "{text}");
        }
        for bad in [
            "",
            "1",
            "h",
            "0h",
            "31d",
            "-1h",
            "1.5h",
            "1 h",
            "99999999999s",
            "1w",
            "1hh",
        ] {
            assert!(parse_expiry(bad).unwrap_err().contains("hint: "), "{bad}");
        }
    }
}
