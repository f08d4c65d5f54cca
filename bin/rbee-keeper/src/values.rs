//! Values of arguments.

use std::str::FromStr;

use diagnostics::Diagnostic;

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
