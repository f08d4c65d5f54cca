//! Errors about request bodies, of all dialects.

use std::fmt::Display;

use diagnostics::{Code, Details, Diagnostic, excerpt};
use serde_json::Value;

/// Longest quotation of a client's word in a message, in bytes.
const MAX_WORD: usize = 40;
/// Longest quotation of a function's name in a message, in bytes.
const MAX_NAME: usize = 80;

/// What is wrong with a field, if it is not the value. An error carries it in its details, from
/// which OpenAI's code follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The field is absent.
    Missing,
    /// The value has another type.
    Type,
}

impl Problem {
    const DETAIL: &str = "problem";

    const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Type => "type",
        }
    }

    /// Removes the problem from the details of an error.
    pub(crate) fn take(details: &mut Details) -> Option<Self> {
        let name = details.remove(Self::DETAIL)?;
        let mut problems = [Self::Missing, Self::Type].into_iter();
        problems.find(|problem| name == problem.name())
    }

    fn of(self, error: Diagnostic) -> Diagnostic {
        error.detail(Self::DETAIL, self.name())
    }
}

/// The value of `param` is wrong; `problem` continues the sentence that begins with its name.
fn invalid(param: &str, problem: impl Display) -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, format!("`{param}` {problem}")).param(param)
}

pub(crate) fn missing(param: &str) -> Diagnostic {
    Problem::Missing.of(invalid(param, "is missing"))
}

pub(crate) fn empty(param: &str) -> Diagnostic {
    invalid(param, "must not be empty")
}

/// `expected` is a noun phrase: "a string".
pub(crate) fn must_be(param: &str, expected: impl Display) -> Diagnostic {
    invalid(param, format_args!("must be {expected}"))
}

/// The value of `param` has another type. `expected` is a noun phrase: "a string".
pub(crate) fn must_be_a(param: &str, expected: &str) -> Diagnostic {
    Problem::Type.of(must_be(param, expected))
}

pub(crate) fn must_be_string(param: &str) -> Diagnostic {
    must_be_a(param, "a string")
}

pub(crate) fn must_be_object(param: &str) -> Diagnostic {
    must_be_a(param, "an object")
}

pub(crate) fn out_of_range(
    param: &str,
    min: impl Display,
    max: impl Display,
    value: impl Display,
) -> Diagnostic {
    must_be(param, format_args!("between {min} and {max}, not {value}"))
}

pub(crate) fn below_minimum(param: &str, min: impl Display, value: impl Display) -> Diagnostic {
    must_be(param, format_args!("at least {min}, not {value}"))
}

/// `other` is the field whose value is not above that of `param`.
pub(crate) fn not_less(param: &str, value: impl Display, other: &str) -> Diagnostic {
    invalid(
        param,
        format_args!("must be less than `{other}`, but is {value}"),
    )
}

/// `known` are the words for an effort.
pub(crate) fn unknown_effort(param: &str, value: &Value, known: &[&str]) -> Diagnostic {
    let value = excerpt(&value.to_string(), MAX_WORD);
    must_be(
        param,
        format_args!("one of `{}`, not {value}", known.join("`, `")),
    )
}

/// `items` is a plural: "tools".
pub(crate) fn too_many(param: &str, items: &str, count: usize, max: usize) -> Diagnostic {
    invalid(
        param,
        format_args!("has {count} {items}; the maximum is {max}"),
    )
}

/// `inputs` prompts have `choices` choices each.
pub(crate) fn too_many_choices(param: &str, inputs: u32, choices: u32, max: u32) -> Diagnostic {
    let noun = if choices == 1 { "choice" } else { "choices" };
    invalid(
        param,
        format_args!(
            "has {inputs} prompts with {choices} {noun} each; the maximum is {max} choices in all"
        ),
    )
    .hint("send the prompts in several requests")
}

/// `param` has no effect without `other`.
pub(crate) fn requires(param: &str, other: &str) -> Diagnostic {
    invalid(param, format_args!("requires `{other}`"))
}

/// `param` and `other` exclude each other; `problem` continues "… and …".
fn conflict(param: &str, other: &str, problem: &str) -> Diagnostic {
    invalid(param, format_args!("and `{other}` {problem}")).hint("send only one of the two fields")
}

pub(crate) fn cannot_be_combined(param: &str, other: &str) -> Diagnostic {
    conflict(param, other, "cannot be combined")
}

pub(crate) fn have_different_values(param: &str, other: &str) -> Diagnostic {
    conflict(param, other, "have different values")
}

pub(crate) fn unknown_role(param: &str, role: &str, roles: &str) -> Diagnostic {
    unknown_word(param, role, "role", roles)
}

pub(crate) fn unknown_format(param: &str, format: &str) -> Diagnostic {
    unknown_word(
        param,
        format,
        "format",
        "`text`, `json_object` or `json_schema`",
    )
}

fn unknown_word(param: &str, word: &str, kind: &str, known: &str) -> Diagnostic {
    invalid(
        param,
        format_args!("is \"{}\", which is not a {kind}", excerpt(word, MAX_WORD)),
    )
    .hint(format!("use {known}"))
}

pub(crate) fn stop_length(param: &str, bytes: usize, max: usize) -> Diagnostic {
    invalid(
        param,
        format_args!("has a stop sequence of {bytes} bytes; the length must be 1 to {max} bytes"),
    )
}

pub(crate) fn not_a_token_id(param: &str, text: &str) -> Diagnostic {
    invalid(
        param,
        format_args!(
            "has the key \"{}\", which is not a token id",
            excerpt(text, MAX_WORD)
        ),
    )
}

pub(crate) fn not_json(param: &str, error: &serde_json::Error) -> Diagnostic {
    invalid(param, format_args!("is not valid JSON: {error}"))
}

/// A message that is not of the assistant has tool calls.
pub(crate) fn only_assistant_calls(param: &str) -> Diagnostic {
    invalid(param, "is only allowed in a message of the assistant")
}

pub(crate) fn duplicate_tool(param: &str, name: &str) -> Diagnostic {
    invalid(
        param,
        format_args!("is \"{name}\", which is already the name of another tool"),
    )
}

pub(crate) fn tool_name(param: &str, name: &str, max: usize) -> Diagnostic {
    invalid(
        param,
        format_args!(
            "is \"{}\"; a name is 1 to {max} characters of `A-Z a-z 0-9 _ -`",
            excerpt(name, MAX_NAME)
        ),
    )
}

pub(crate) fn unknown_tool(param: &str, name: &str) -> Diagnostic {
    invalid(
        param,
        format_args!(
            "names \"{}\", which is not in `tools`",
            excerpt(name, MAX_NAME)
        ),
    )
}

pub(crate) fn too_many_dimensions(dimensions: usize, length: usize) -> Diagnostic {
    invalid(
        "dimensions",
        format_args!("is {dimensions}, but the model's vectors have length {length}"),
    )
}

/// `problem` continues the sentence that begins with the name of the field.
fn unsupported_field(param: &str, problem: impl Display) -> Diagnostic {
    Diagnostic::new(Code::UnsupportedParameter, format!("`{param}` {problem}")).param(param)
}

/// The value of `param` asks for a feature that rbee does not have.
pub(crate) fn unsupported(param: &str, value: &Value) -> Diagnostic {
    let value = excerpt(&value.to_string(), MAX_WORD);
    let problem = format_args!("is not supported with the value {value}");
    unsupported_field(param, problem).hint(format!("remove `{param}` from the request"))
}

/// The request refers to a response, an item or a prompt on the server.
pub(crate) fn not_stored(param: &str) -> Diagnostic {
    unsupported_field(param, "refers to what the server would have to store")
        .hint("send the whole conversation in `input`; rbee does not store responses")
}

pub(crate) fn only_in_last_message(param: &str) -> Diagnostic {
    invalid(param, "is only allowed in the last message")
}

/// The conversation ends with the beginning of the assistant's message, and that with a space.
pub(crate) fn trailing_whitespace(param: &str) -> Diagnostic {
    invalid(
        param,
        "of the final assistant message ends with trailing whitespace",
    )
    .hint("remove the whitespace at its end; the model continues with its own")
}

pub(crate) fn server_tool(param: &str, kind: &str) -> Diagnostic {
    let kind = excerpt(kind, MAX_WORD);
    unsupported_field(param, format_args!("is \"{kind}\", a tool of the server"))
        .hint("define tools of type `custom`; rbee does not run tools on the server")
}

fn unsupported_type(at: &str, param: &str, kind: &str, limit: &str) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedParameter,
        format!("`{at}` is of type \"{}\"{limit}", excerpt(kind, MAX_WORD)),
    )
    .param(param)
}

/// The image is at an address that the queen would have to download from.
pub(crate) fn remote_image(param: &str) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedParameter,
        format!("`{param}` has a remote address; the queen downloads nothing"),
    )
    .param(param)
    .hint("send the image itself, in Base64")
}

/// The image is a file that was uploaded before.
pub(crate) fn stored_image(param: &str) -> Diagnostic {
    unsupported_field(param, "refers to a stored file")
        .hint("send the image itself, in Base64; rbee does not store files")
}

pub(crate) fn not_a_text_part(param: &str, kind: &str) -> Diagnostic {
    unsupported_type(
        param,
        param,
        kind,
        "; no worker has a capability for it, only for `text` and `image_url`",
    )
}

pub(crate) fn not_a_function(param: &str, kind: &str) -> Diagnostic {
    let field = format!("{param}.type");
    unsupported_type(param, &field, kind, "; only `function` is supported")
}

/// `supported` is one of the supported types.
pub(crate) fn unsupported_part(param: &str, kind: &str, supported: &str) -> Diagnostic {
    let limit = format!(", which is not supported here; use `{supported}`");
    unsupported_type(param, param, kind, &limit)
}

/// Item of a conversation that is of no supported type.
pub(crate) fn unsupported_item(param: &str, kind: &str) -> Diagnostic {
    let field = format!("{param}.type");
    unsupported_type(param, &field, kind, ", which is not supported")
        .hint("use items of type `message`, `function_call`, `function_call_output` or `reasoning`")
}

pub(crate) fn unsupported_block(param: &str, kind: &str) -> Diagnostic {
    unsupported_type(param, param, kind, ", which is not supported here")
        .hint("use blocks of type `text`, `tool_use` (assistant) or `tool_result` (user)")
}

pub(crate) fn body_not_an_object() -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, "the body must be a JSON object")
}

pub(crate) fn body_too_deep(max: usize) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("the body is nested more than {max} levels deep"),
    )
    .hint("flatten the deeply nested value, such as a schema")
}

/// `cause` is serde's message, `path` where it found the value.
pub(crate) fn unreadable(path: &str, cause: &str) -> Diagnostic {
    let error = unreadable_field(path, cause);
    if cause.starts_with("missing field") {
        Problem::Missing.of(error)
    } else if cause.starts_with("invalid type") {
        Problem::Type.of(error)
    } else {
        error
    }
}

fn unreadable_field(path: &str, cause: &str) -> Diagnostic {
    if path == "." {
        // Only a missing field has no path; serde quotes its name.
        let name = cause.split('`').nth(1).unwrap_or_default().to_owned();
        return Diagnostic::new(Code::InvalidRequest, cause).param(name);
    }
    let path = excerpt(path, 100);
    Diagnostic::new(Code::InvalidRequest, format!("`{path}`: {cause}")).param(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_name_the_field_and_its_value() {
        for (error, param, message) in [
            (missing("a.b"), "a.b", "`a.b` is missing"),
            (empty("a"), "a", "`a` must not be empty"),
            (must_be_string("a"), "a", "`a` must be a string"),
            (
                out_of_range("n", 1, 16, 17),
                "n",
                "`n` must be between 1 and 16, not 17",
            ),
            (
                below_minimum("a", 1, -3),
                "a",
                "`a` must be at least 1, not -3",
            ),
            (
                too_many("tools", "tools", 129, 128),
                "tools",
                "`tools` has 129 tools; the maximum is 128",
            ),
            (
                too_many_choices("a", 200, 1, 128),
                "a",
                "`a` has 200 prompts with 1 choice each; the maximum is 128 choices in all",
            ),
            (
                requires("a", "stream: true"),
                "a",
                "`a` requires `stream: true`",
            ),
            (
                cannot_be_combined("a", "b"),
                "a",
                "`a` and `b` cannot be combined",
            ),
            (
                unknown_role("a.role", "king\n", "`user`"),
                "a.role",
                "`a.role` is \"king\\n\", which is not a role",
            ),
            (
                unsupported("a", &json!({"b": [1]})),
                "a",
                "`a` is not supported with the value {\"b\":[1]}",
            ),
            (
                not_a_function("tools[0]", "custom"),
                "tools[0].type",
                "`tools[0]` is of type \"custom\"; only `function` is supported",
            ),
            (
                unreadable("a.b", "invalid type"),
                "a.b",
                "`a.b`: invalid type",
            ),
            (
                unreadable(".", "missing field `model`"),
                "model",
                "missing field `model`",
            ),
        ] {
            assert_eq!(
                (error.param.as_deref(), error.message.as_str()),
                (Some(param), message)
            );
        }
    }

    #[test]
    fn long_words_are_shortened() {
        let error = unknown_format("a", &"x".repeat(1000));
        assert!(error.message.len() < 100, "{error}");
    }
}
