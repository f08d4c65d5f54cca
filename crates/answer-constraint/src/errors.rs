//! The errors of this crate, each with its message and hint. All name the request field
//! `constraint` until the caller renames it.

use std::{fmt::Display, time::Duration};

use diagnostics::{Code, Diagnostic, excerpt};

/// Request field with the constraint.
pub(crate) const PARAM: &str = "constraint";
/// Request field with the functions.
const TOOLS: &str = "tools";
const MAX_NAME_CHARS: usize = 64;
/// Maximum length of an excerpt from an error of llguidance.
const MAX_CHARS: usize = 240;
/// Start of llguidance's error for a schema without valid texts.
const UNSATISFIABLE: &str = "Unsatisfiable schema";
/// Start of llguidance's error for `oneOf` with alternatives that can overlap.
const ONE_OF: &str = "oneOf constraints are not supported";
/// Stop reason of llguidance if no token is allowed.
const NO_TOKEN_ALLOWED: &str = "NoExtensionBias";

fn of_constraint(code: Code, message: impl Display) -> Diagnostic {
    Diagnostic::new(code, format!("`{PARAM}`: {message}")).param(PARAM)
}

fn invalid(message: impl Display) -> Diagnostic {
    of_constraint(Code::InvalidRequest, message)
}

fn too_complex(reason: impl Display) -> Diagnostic {
    invalid(format!("too complex: {reason}"))
        .hint("use fewer alternatives, shorter repetitions and less nesting")
}

pub(crate) fn too_large(bytes: usize, limit: usize) -> Diagnostic {
    too_complex(format!("it has {bytes} bytes, the limit is {limit}"))
}

pub(crate) fn compilation_timeout(limit: Duration) -> Diagnostic {
    too_complex(format!(
        "its compilation takes more than {} s",
        limit.as_secs()
    ))
}

pub(crate) fn nested_too_deeply(limit: usize) -> Diagnostic {
    too_complex(format!("its schemas are nested deeper than {limit} levels"))
}

pub(crate) fn multiple_too_large(path: &str, limit: u64) -> Diagnostic {
    too_complex(format!(
        "with the `multipleOf` at `{path}`, the common multiple exceeds {limit}"
    ))
}

pub(crate) fn not_a_schema(found: &serde_json::Value) -> Diagnostic {
    invalid(format!(
        "a schema is a JSON object, not `{}`",
        excerpt(&found.to_string(), 40)
    ))
}

pub(crate) fn schema_false() -> Diagnostic {
    invalid("no text satisfies the schema `false`")
}

pub(crate) fn unresolved_reference(reference: &str) -> Diagnostic {
    let reference = excerpt(reference, 80);
    invalid(format!("`$ref` to `{reference}` does not resolve"))
        .hint("define the schema under `$defs`, and refer to it as `#/$defs/NAME`")
}

pub(crate) fn unsupported_keyword(keyword: &str, path: &str) -> Diagnostic {
    of_constraint(
        Code::UnsupportedParameter,
        format!("`{keyword}` at `{path}` is not supported"),
    )
    .hint("remove the keyword or express it by supported ones")
}

pub(crate) fn invalid_regex(error: &regex_syntax::Error) -> Diagnostic {
    let (reason, span) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span()),
        other => return invalid(excerpt(&other.to_string(), MAX_CHARS)),
    };
    invalid(format!(
        "invalid regular expression at byte {}: {reason}",
        span.start.offset
    ))
}

/// Whether an error concerns `oneOf` with alternatives that can overlap.
pub(crate) fn is_one_of(error: &Diagnostic) -> bool {
    error.code == Code::UnsupportedParameter && error.message.contains("`oneOf`")
}

/// Note about a schema that is enforced except for what is named.
pub(crate) fn ignored(subject: &str, ignored: &str) -> String {
    format!("{subject}: not enforced: {ignored}")
}

/// Adds that alternatives of `oneOf` may overlap to what is ignored.
pub(crate) fn with_one_of(ignored: Option<String>) -> String {
    let one_of = "that exactly one alternative of `oneOf` is valid";
    ignored.map_or_else(|| one_of.to_owned(), |other| format!("{other}, {one_of}"))
}

/// Note about parameters that cannot be compiled.
pub(crate) fn any_arguments(name: &str, error: &Diagnostic) -> String {
    let name = excerpt(name, MAX_NAME_CHARS);
    let message = error.message.trim_start_matches(&format!("`{PARAM}`: "));
    format!("the parameters of \"{name}\" are not enforced: {message}")
}

/// The subject of a note about the parameters of a function.
pub(crate) fn parameters_of(name: &str) -> String {
    format!("the parameters of \"{}\"", excerpt(name, MAX_NAME_CHARS))
}

/// Adds a hint for a grammar that seems to be written in GBNF.
pub(crate) fn maybe_gbnf(error: Diagnostic) -> Diagnostic {
    error.hint(
        "write the grammar in Lark syntax instead of GBNF: `start: \"a\" | b`, \
         not `root ::= \"a\" | b`",
    )
}

/// Changes an error about a constraint to one about the parameters of a function.
pub(crate) fn in_function(mut error: Diagnostic, name: &str) -> Diagnostic {
    let message = error.message.trim_start_matches(&format!("`{PARAM}`: "));
    let name = excerpt(name, MAX_NAME_CHARS);
    error.message = format!("`{TOOLS}`: the parameters of \"{name}\": {message}");
    error.param(TOOLS)
}

pub(crate) fn no_end_token() -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedParameter,
        "the model has no end token, so constrained output could not end",
    )
    .param(PARAM)
    .hint("use a model with an end token")
}

pub(crate) fn token_not_allowed(token: u32) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("`continue_from` has token {token} where the constraint does not allow it"),
    )
    .param("continue_from")
}

pub(crate) fn thread_not_started(error: &std::io::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot start a thread: {error}"))
}

pub(crate) fn compiler_panicked() -> Diagnostic {
    Diagnostic::internal("the constraint compiler panicked")
}

pub(crate) fn unusable_vocabulary(error: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot use the model's vocabulary: {error}"))
}

/// Converts an error of llguidance during compilation.
pub(crate) fn from_compilation(error: &str) -> Diagnostic {
    let message = without_listing(error);
    let message = message.strip_prefix("at ").unwrap_or(&message);
    let contains = |text| message.contains(text);
    if contains("too big") || contains("precomputation failed") {
        return too_complex("its regular expressions have too many states");
    }
    if contains("too large") || contains("too deeply") || contains("level exceeded") {
        return too_complex(excerpt(message, MAX_CHARS));
    }
    if message.starts_with(ONE_OF) {
        return of_constraint(
            Code::UnsupportedParameter,
            "`oneOf` is not supported where alternatives can overlap",
        )
        .hint("use `anyOf`");
    }
    let error = invalid(excerpt(&with_position(message), MAX_CHARS));
    if message.starts_with(UNSATISFIABLE) {
        error.hint("resolve the contradiction, so that at least one text is valid")
    } else {
        error
    }
}

/// Converts an error of llguidance while following an output.
pub(crate) fn from_matching(error: &impl ToString) -> Diagnostic {
    let message = without_listing(&error.to_string());
    if message.contains(NO_TOKEN_ALLOWED) {
        return invalid("no text satisfies it");
    }
    too_complex(excerpt(&message, MAX_CHARS))
}

/// Joins the lines before the source listing or the parser state to one line.
fn without_listing(error: &str) -> String {
    let lines = error
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with('<') && !is_listing(line));
    lines.collect::<Vec<_>>().join(" ")
}

/// Whether a line is source text, `12 | start: x`, or the marker below it.
fn is_listing(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.starts_with(" | ") || line == "^"
}

/// Rewrites `2(12): text` to `line 2, column 12: text`.
fn with_position(message: &str) -> String {
    let parsed = message.split_once("): ").and_then(|(position, text)| {
        let (line, column) = position.split_once('(')?;
        let (line, column): (u32, u32) = (line.parse().ok()?, column.parse().ok()?);
        Some(format!("line {line}, column {column}: {text}"))
    });
    parsed.unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_errors_have_a_position_and_no_listing() {
        let error = from_compilation(
            "2(12): Expected token ')', found '\\n'\n   1 | start: \"a\"\n   2 | x: (/[0-9]/\n                  ^\n",
        );
        assert_eq!(
            error.message,
            "`constraint`: line 2, column 12: Expected token ')', found '\\n'"
        );
        assert_eq!(
            from_compilation("at 1(8): unknown name: \"foo\"\n   1 | start: foo\n").message,
            "`constraint`: line 1, column 8: unknown name: \"foo\""
        );
        assert_eq!(error.param.as_deref(), Some("constraint"));
    }

    #[test]
    fn schema_errors_have_a_hint() {
        let error =
            from_compilation("Unsatisfiable schema: minimum (5) is greater than maximum (3)");
        assert_eq!(error.code, Code::InvalidRequest);
        assert_eq!(
            error.message,
            "`constraint`: Unsatisfiable schema: minimum (5) is greater than maximum (3)"
        );
        assert_eq!(
            error.hint.as_deref(),
            Some("resolve the contradiction, so that at least one text is valid")
        );
        let error = from_compilation(
            "oneOf constraints are not supported. Enable 'coerce_one_of' option to approximate oneOf with anyOf",
        );
        assert_eq!(error.code, Code::UnsupportedParameter);
        assert_eq!(
            error.message,
            "`constraint`: `oneOf` is not supported where alternatives can overlap"
        );
        assert_eq!(error.hint.as_deref(), Some("use `anyOf`"));
    }

    #[test]
    fn matching_errors_do_not_contain_parser_state() {
        let error = from_matching(&"Current row has 9 items\n<non-verbose/>\nsecret");
        assert_eq!(
            error.message,
            "`constraint`: too complex: Current row has 9 items"
        );
        let error = from_matching(&"NoExtensionBias\n<non-verbose/>");
        assert_eq!(error.message, "`constraint`: no text satisfies it");
    }
}
