//! Values of command line options. Each function is a parser for clap, which prints one text: the
//! error and its hint.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use diagnostics::Diagnostic;

use crate::errors::{not_a_size, not_a_whole_number};

/// Parses the value of an option.
pub fn option_value<T: FromStr<Err = Diagnostic>>(text: &str) -> Result<T, String> {
    text.parse().map_err(with_hint)
}

/// Returns a parser of whole numbers within a range.
pub fn whole_number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| with_hint(not_a_whole_number(text, range.start(), range.end())))
    }
}

/// Parses a number of bytes, with a unit of 1024: `50G`.
pub fn byte_count(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let scale = match text[digits.len()..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => Some(0),
        "K" | "KB" | "KIB" => Some(1),
        "M" | "MB" | "MIB" => Some(2),
        "G" | "GB" | "GIB" => Some(3),
        "T" | "TB" | "TIB" => Some(4),
        _ => None,
    };
    let bytes = scale.and_then(|scale| digits.parse::<u64>().ok()?.checked_mul(1 << (10 * scale)));
    bytes.ok_or_else(|| with_hint(not_a_size(text)))
}

fn with_hint(error: Diagnostic) -> String {
    match error.hint {
        Some(hint) => format!("{}\n\nhint: {hint}", error.message),
        None => error.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PortRange;

    #[test]
    fn errors_say_what_is_expected() {
        let port = whole_number(1..=u16::MAX);
        assert_eq!(port("8500"), Ok(8500));
        for text in ["", "x", "-1", "0", "65536", "1.5"] {
            assert_eq!(
                port(text),
                Err(format!(
                    "invalid number: \"{text}\"\n\nhint: use a whole number from 1 to 65535"
                ))
            );
        }
        let error = option_value::<PortRange>("80").unwrap_err();
        assert!(error.contains("\n\nhint: "), "{error}");
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("7B", 7),
            ("50G", 50 << 30),
            ("2 TiB", 2 << 40),
            ("1kb", 1024),
        ] {
            assert_eq!(byte_count(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "1.5G", "-1", "1X", "99999999999T"] {
            let error = byte_count(bad).unwrap_err();
            assert!(error.contains("hint: use a whole number"), "{error}");
        }
    }
}
