//! Values of command line options. Each function is a parser for clap, which prints one text: the
//! error and its hint.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use diagnostics::Diagnostic;

use crate::errors::not_a_whole_number;

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
}
