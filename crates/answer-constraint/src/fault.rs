//! What is told of a constraint that cannot be used.

use diagnostics::{Code, Diagnostic, excerpt};

/// The field that constraints come in.
pub(crate) const PARAM: &str = "constraint";
/// The field that functions come in.
const TOOLS: &str = "tools";
/// Most that is told of a function's name.
const MOST_NAME_CHARS: usize = 64;
/// Most that is told of what llguidance says.
const MOST_CHARS: usize = 240;
/// How llguidance begins what it tells of a schema that no text fits.
const UNSATISFIABLE: &str = "Unsatisfiable schema";
/// How it begins to refuse alternatives of which exactly one may fit.
const ONE_OF: &str = "oneOf constraints are not supported";
/// The name of the stop that llguidance reports when no token fits.
const NOTHING_FITS: &str = "NoExtensionBias";

/// The constraint is wrong in this way.
pub(crate) fn invalid(what: impl AsRef<str>) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("`{PARAM}`: {}", what.as_ref()),
    )
    .param(PARAM)
}

/// The constraint asks for more than is done for one.
pub(crate) fn too_complex(what: &str) -> Diagnostic {
    invalid(format!("it is too complex: {what}"))
        .hint("use fewer alternatives, shorter repetitions and less nesting")
}

/// What is wrong about the arguments of a function.
pub(crate) fn of_function(mut error: Diagnostic, name: &str) -> Diagnostic {
    let what = error.message.trim_start_matches(&format!("`{PARAM}`: "));
    let name = excerpt(name, MOST_NAME_CHARS);
    error.message = format!("`{TOOLS}`: the parameters of \"{name}\": {what}");
    error.param(TOOLS)
}

/// A constraint that llguidance refuses.
pub(crate) fn while_compiled(error: &str) -> Diagnostic {
    let told = first_lines(error);
    let told = told.strip_prefix("at ").unwrap_or(&told);
    if told.contains("too big") || told.contains("precomputation failed") {
        return too_complex("its expressions take too much work");
    }
    if told.contains("too large") || told.contains("too deeply") || told.contains("level exceeded")
    {
        return too_complex(&excerpt(told, MOST_CHARS));
    }
    if told.starts_with(ONE_OF) {
        return Diagnostic::new(
            Code::UnsupportedParameter,
            format!("`{PARAM}`: `oneOf` is not supported where alternatives can overlap"),
        )
        .param(PARAM)
        .hint("use `anyOf`");
    }
    let fault = invalid(excerpt(&with_position(told), MOST_CHARS));
    if told.starts_with(UNSATISFIABLE) {
        fault.hint("change what contradicts itself, so that some text fits")
    } else {
        fault
    }
}

/// A constraint that llguidance cannot follow any further.
pub(crate) fn while_followed(error: &impl ToString) -> Diagnostic {
    let told = first_lines(&error.to_string());
    if told.contains(NOTHING_FITS) {
        return invalid("no text satisfies it");
    }
    too_complex(&excerpt(&told, MOST_CHARS))
}

/// What stands before the listing of the source, as one line.
fn first_lines(error: &str) -> String {
    let lines = error
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with('<') && !is_listing(line));
    lines.collect::<Vec<_>>().join(" ")
}

/// `12 | start: x`, or the mark below it.
fn is_listing(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.starts_with(" | ") || line == "^"
}

/// `2(12): what` as `line 2, column 12: what`.
fn with_position(told: &str) -> String {
    let parsed = told.split_once("): ").and_then(|(place, what)| {
        let (line, column) = place.split_once('(')?;
        let (line, column): (u32, u32) = (line.parse().ok()?, column.parse().ok()?);
        Some(format!("line {line}, column {column}: {what}"))
    });
    parsed.unwrap_or_else(|| told.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_told_in_words_and_the_listing_left_out() {
        let told = while_compiled(
            "2(12): Expected token ')', found '\\n'\n   1 | start: \"a\"\n   2 | x: (/[0-9]/\n                  ^\n",
        );
        assert_eq!(
            told.message,
            "`constraint`: line 2, column 12: Expected token ')', found '\\n'"
        );
        assert_eq!(
            while_compiled("at 1(8): unknown name: \"foo\"\n   1 | start: foo\n").message,
            "`constraint`: line 1, column 8: unknown name: \"foo\""
        );
        assert_eq!(told.param.as_deref(), Some("constraint"));
    }

    #[test]
    fn what_to_do_is_told_in_terms_of_the_schema() {
        let told = while_compiled("Unsatisfiable schema: minimum (5) is greater than maximum (3)");
        assert_eq!(told.code, Code::InvalidRequest);
        assert!(told.hint.unwrap().contains("contradicts itself"));
        let told = while_compiled(
            "oneOf constraints are not supported. Enable 'coerce_one_of' option to approximate oneOf with anyOf",
        );
        assert_eq!(told.code, Code::UnsupportedParameter);
        assert!(!told.message.contains("coerce_one_of"), "{told}");
        assert_eq!(told.hint.as_deref(), Some("use `anyOf`"));
    }

    #[test]
    fn nothing_of_the_parsers_state_is_told() {
        let told = while_followed(&"Current row has 9 items\n<non-verbose/>\nsecret");
        assert_eq!(
            told.message,
            "`constraint`: it is too complex: Current row has 9 items"
        );
        let told = while_followed(&"NoExtensionBias\n<non-verbose/>");
        assert_eq!(told.message, "`constraint`: no text satisfies it");
    }
}
