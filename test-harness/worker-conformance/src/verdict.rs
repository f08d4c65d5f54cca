use std::fmt::{self, Display};

/// Why a case did not pass.
#[derive(Debug)]
pub enum Verdict {
    /// The worker does something else.
    Miss { expected: String, received: String },
    /// The case cannot be checked with this worker.
    NotApplicable(String),
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Miss { expected, received } => write!(f, "{received}, expected {expected}"),
            Self::NotApplicable(why) => f.write_str(why),
        }
    }
}

/// Result of a check.
pub type Checked<T = ()> = Result<T, Verdict>;

/// Returns a failure.
pub fn miss(expected: impl Display, received: impl Display) -> Verdict {
    Verdict::Miss {
        expected: expected.to_string(),
        received: received.to_string(),
    }
}

/// Fails unless `holds`.
pub fn expect(holds: bool, expected: impl Display, received: impl Display) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(miss(expected, received))
    }
}

/// Fails unless the values are equal. `what` names them.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, received: &T, expected: &T) -> Checked {
    expect(
        received == expected,
        format_args!("{what}: {expected:?}"),
        format_args!("{what}: {received:?}"),
    )
}

/// Returns that the case cannot be checked.
pub fn not_applicable(why: impl Display) -> Verdict {
    Verdict::NotApplicable(why.to_string())
}

/// Shows an error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
