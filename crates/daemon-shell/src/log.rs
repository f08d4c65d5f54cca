use std::{fmt, io::IsTerminal as _, str::FromStr};

use diagnostics::Diagnostic;
use tracing_subscriber::EnvFilter;

use crate::errors;

/// Levels of log lines, by name and by number as `tracing-subscriber` accepts them.
const LEVELS: [&str; 12] = [
    "off", "error", "warn", "info", "debug", "trace", "0", "1", "2", "3", "4", "5",
];

/// Which log lines are written: a level, or a filter in the syntax of `tracing-subscriber`
/// (`info,queen_rbee=debug`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        // A name without a level would select only the module of that name, so that a level
        // with a typing error would disable the log.
        let is_named = |part: &str| {
            part.contains(['=', '[']) || LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level))
        };
        if text.split(',').all(is_named) && EnvFilter::try_new(text).is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(errors::invalid_log_filter(text))
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sends `tracing` to standard error.
pub fn init_logging(filter: &LogFilter) {
    // Fails on a second call in the same process, as in tests; the first one stays in effect.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&filter.0))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Reporting a line that cannot be written to standard error would panic there.
        .log_internal_errors(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn refuses_filters_that_are_not_levels() {
        for valid in [
            "info",
            "OFF",
            "3",
            "info,queen_rbee=debug",
            "warn,queen_rbee[request{id=1}]=trace",
        ] {
            assert_eq!(valid.parse::<LogFilter>().unwrap().to_string(), valid);
        }
        for invalid in ["", "infoo", "foo bar", "info,", "info,queen_rbee=loud"] {
            let error = invalid.parse::<LogFilter>().unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid, "{invalid}");
        }
    }
}
