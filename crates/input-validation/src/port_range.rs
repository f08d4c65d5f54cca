use std::{fmt, str::FromStr};

use diagnostics::Diagnostic;

use crate::errors::invalid_port_range;

/// Ports that workers may listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRange {
    /// Any port that the system has free. Written `0`.
    Any,
    /// From the first to the last, inclusive. Written `8081-8999`.
    Between(u16, u16),
}

impl Default for PortRange {
    fn default() -> Self {
        Self::Between(8081, 8999)
    }
}

impl FromStr for PortRange {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        if text == "0" {
            return Ok(Self::Any);
        }
        text.split_once('-')
            .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
            .filter(|(first, last)| *first >= 1024 && first <= last)
            .map(|(first, last)| Self::Between(first, last))
            .ok_or_else(|| invalid_port_range(text))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("0"),
            Self::Between(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn ranges_print_as_they_parse() {
        for text in ["0", "8081-8999", "9000-9000"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for bad in ["", "1", "80-90", "9000-8000", "a-b", "8081-99999", "-"] {
            assert_eq!(
                bad.parse::<PortRange>().unwrap_err().code,
                Code::ConfigInvalid,
                "{bad}"
            );
        }
    }
}
