use std::ops::RangeInclusive;

use diagnostics::{Diagnostic, excerpt};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, Unexpected},
};
use serde_json::{Number, Value};
use worker_contract::limits::{MAX_STOP_SEQUENCE_BYTES, MAX_STOP_SEQUENCES, MAX_TOP_LOGPROBS};

use crate::errors::{
    below_minimum, body_not_an_object, body_too_deep, must_be_a, out_of_range, requires,
    stop_length, too_many, unreadable,
};

/// Maximum depth of arrays and objects in a body. Parts of it are nested deeper in the request
/// to a worker, whose parser allows 128 levels.
const MAX_DEPTH: usize = 100;

/// Deserializes a body; an error names the field.
pub(crate) fn read<T: DeserializeOwned>(body: &Value) -> Result<T, Diagnostic> {
    if !body.is_object() {
        return Err(body_not_an_object());
    }
    if is_deeper(body, MAX_DEPTH) {
        return Err(body_too_deep(MAX_DEPTH));
    }
    serde_path_to_error::deserialize(body).map_err(|error| {
        let cause = without_rust_types(&error.inner().to_string());
        unreadable(&error.path().to_string(), &excerpt(&cause, 200))
    })
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(fields) => {
            levels == 0 || fields.values().any(|value| is_deeper(value, levels - 1))
        }
        _ => false,
    }
}

/// Replaces Rust's type names in serde's message with JSON's.
fn without_rust_types(cause: &str) -> String {
    if cause.contains("untagged enum") {
        return "matches none of the accepted forms".to_owned();
    }
    let Some((found, expected)) = cause.rsplit_once(", expected ") else {
        return cause.to_owned();
    };
    let expected = match expected {
        "f32" | "f64" => "a number",
        // The type from which integers are read.
        "a JSON number" | "i8" | "i16" | "i32" | "i64" => "an integer",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a non-negative integer",
        "struct" | "a map" => "an object",
        "a sequence" => "an array",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// Returns the stop sequences of a field: a string or an array of strings.
pub(crate) fn stops(param: &str, value: Option<&Value>) -> Result<Vec<String>, Diagnostic> {
    let form = || must_be_a(param, "a string or an array of strings");
    let stops = match value {
        None | Some(Value::Null) => Vec::new(),
        // A form whose field for it is empty sends this.
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(texts)) => texts
            .iter()
            .map(|text| text.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(form)?,
        Some(_) => return Err(form()),
    };
    if stops.len() > MAX_STOP_SEQUENCES {
        return Err(too_many(
            param,
            "stop sequences",
            stops.len(),
            MAX_STOP_SEQUENCES,
        ));
    }
    if let Some(stop) = stops
        .iter()
        .find(|s| s.is_empty() || s.len() > MAX_STOP_SEQUENCE_BYTES)
    {
        return Err(stop_length(param, stop.len(), MAX_STOP_SEQUENCE_BYTES));
    }
    Ok(stops)
}

/// Deserializes an integer that may be absent or null.
///
/// Clients in languages with one type of numbers write `100.0` for 100, which the servers of all
/// dialects accept. A number with a fraction or in a string is an error, as it is for OpenAI.
pub(crate) fn integer<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<i64>,
{
    let Some(number) = Option::<Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let integer = match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => integer,
        (None, Some(float)) if float.fract() == 0.0 && float.abs() < EXACT => float as i64,
        _ => return Err(D::Error::invalid_type(unexpected(&number), &"an integer")),
    };
    let out_of_range =
        || D::Error::invalid_value(Unexpected::Signed(integer), &"a non-negative integer");
    N::try_from(integer).map(Some).map_err(|_| out_of_range())
}

/// From here on, floats do not distinguish neighbouring integers.
const EXACT: f64 = (1_u64 << 53) as f64;

fn unexpected(number: &Number) -> Unexpected<'static> {
    match (number.as_u64(), number.as_f64()) {
        (Some(integer), _) => Unexpected::Unsigned(integer),
        (None, float) => Unexpected::Float(float.unwrap_or(f64::NAN)),
    }
}

/// Deserializes the text of a message. An empty array is empty text: clients send it for a
/// message of the assistant that consists of tool calls.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        String(String),
        Empty([Value; 0]),
    }
    Ok(match Option::<Text>::deserialize(deserializer)? {
        Some(Text::String(text)) => Some(text),
        Some(Text::Empty([])) | None => None,
    })
}

/// Returns the maximum number of output tokens; `None` is what the context leaves, which clients
/// ask for by 0 or -1 as well.
pub(crate) fn max_tokens(param: &str, value: i64) -> Result<Option<u32>, Diagnostic> {
    match value {
        0 | -1 => Ok(None),
        n => limit(param, Some(n)),
    }
}

/// Returns the note about a maximum that means no limit here, but no output elsewhere.
pub(crate) fn no_limit_note(param: &str, value: Option<i64>) -> Option<String> {
    let note = format!("`{param}: 0` is no limit: the output ends where the context does");
    (value == Some(0)).then_some(note)
}

/// Returns a count, which must be at least 1.
pub(crate) fn limit(param: &str, value: Option<i64>) -> Result<Option<u32>, Diagnostic> {
    match value {
        None => Ok(None),
        Some(n) if n >= 1 => Ok(Some(u32::try_from(n).unwrap_or(u32::MAX))),
        Some(n) => Err(below_minimum(param, 1, n)),
    }
}

pub(crate) fn number(
    param: &str,
    value: Option<f64>,
    range: &RangeInclusive<f64>,
) -> Result<Option<f32>, Diagnostic> {
    match value {
        None => Ok(None),
        Some(v) if range.contains(&v) => Ok(Some(v as f32)),
        Some(v) => Err(out_of_range(param, range.start(), range.end(), v)),
    }
}

/// Returns the number of alternatives to report per token; `None` reports no log
/// probabilities.
pub(crate) fn logprobs(
    enabled: Option<bool>,
    alternatives: Option<i64>,
) -> Result<Option<u8>, Diagnostic> {
    const PARAM: &str = "top_logprobs";
    let enabled = enabled.unwrap_or(false);
    match alternatives {
        None => Ok(enabled.then_some(0)),
        Some(_) if !enabled => Err(requires(PARAM, "logprobs: true")),
        Some(n) => u8::try_from(n)
            .ok()
            .filter(|n| *n <= MAX_TOP_LOGPROBS)
            .map(Some)
            .ok_or_else(|| out_of_range(PARAM, 0, MAX_TOP_LOGPROBS, n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_use_the_names_of_json_types() {
        for (cause, expected) in [
            (
                "invalid type: string \"hot\", expected f64",
                "invalid type: string \"hot\", expected a number",
            ),
            (
                "invalid value: integer `-1`, expected u32",
                "invalid value: integer `-1`, expected a non-negative integer",
            ),
            (
                "invalid type: integer `1`, expected struct Options",
                "invalid type: integer `1`, expected an object",
            ),
            (
                "data did not match any variant of untagged enum Content",
                "matches none of the accepted forms",
            ),
            ("missing field `model`", "missing field `model`"),
        ] {
            assert_eq!(without_rust_types(cause), expected);
        }
    }
}
