use std::collections::BTreeMap;

use diagnostics::{Code, Diagnostic, excerpt};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::Sampling;

use crate::MOST_CHOICES;

/// Most texts that may end an answer.
const MOST_STOPS: usize = 16;
/// Longest text that may end an answer, in bytes.
const LONGEST_STOP: usize = 1024;

/// The fields that both endpoints have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct CommonFields {
    /// `builtin:haiku` or another model that `/v1/models` lists, or `file:/path`.
    pub model: String,
    /// Chunks (true) or one document.
    pub stream: Option<bool>,
    /// Only with `stream`.
    pub stream_options: Option<StreamOptions>,
    /// Most tokens to generate; absent, what the context leaves.
    pub max_tokens: Option<i64>,
    /// 0 to 2; 0 is greedy; absent, 1.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Same seed, same text. Drawn when absent; the answer's `x-rbee-seed` header tells it.
    pub seed: Option<i64>,
    /// One text or up to 16 that end the answer and are not part of it.
    pub stop: Option<Value>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -100 to 100, by token id.
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// What the answer must match: `{"type": "text"}`, `{"type": "json_object"}`, or
    /// `{"type": "json_schema", "json_schema": {"schema": …}}`.
    pub response_format: Option<Value>,
    /// Extension: a JSON schema that the answer must match.
    pub guided_json: Option<Value>,
    /// Extension: a regular expression that the whole answer must match.
    pub guided_regex: Option<Value>,
    /// Extension: a grammar in Lark's notation that the answer must match.
    pub guided_grammar: Option<Value>,
    /// Extension: texts of which the answer must be one.
    pub guided_choice: Option<Value>,
    /// The end user; not used.
    pub user: Option<String>,
    /// How many answers are wanted, 1 to 16.
    pub n: Option<i64>,
    /// Extension: the k likeliest tokens; 0 keeps all.
    pub top_k: Option<i64>,
    /// Extension: tokens at least this fraction as likely as the likeliest, 0 to 1.
    pub min_p: Option<f64>,
    /// Extension: above 0, up to 10; 1 is off.
    pub repetition_penalty: Option<f64>,
}

/// What belongs to a stream.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Send a last chunk with the tokens counted.
    pub include_usage: Option<bool>,
}

impl CommonFields {
    pub(crate) fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(crate) fn include_usage(&self) -> Result<bool, Diagnostic> {
        match &self.stream_options {
            Some(_) if !self.stream() => {
                Err(invalid("stream_options", "only goes with `stream: true`"))
            }
            Some(options) => Ok(options.include_usage.unwrap_or(false)),
            None => Ok(false),
        }
    }

    pub(crate) fn sampling(&self) -> Result<Sampling, Diagnostic> {
        let default = Sampling::default();
        let repetition_penalty =
            number("repetition_penalty", self.repetition_penalty, 0.0, 10.0)?.unwrap_or(1.0);
        if repetition_penalty <= 0.0 {
            return Err(invalid("repetition_penalty", "must be above 0"));
        }
        Ok(Sampling {
            temperature: number("temperature", self.temperature, 0.0, 2.0)?
                .unwrap_or(default.temperature),
            top_p: number("top_p", self.top_p, 0.0, 1.0)?.unwrap_or(default.top_p),
            top_k: match self.top_k {
                // Some servers write "all" as -1.
                None | Some(-1) => 0,
                Some(k) => u32::try_from(k)
                    .map_err(|_| invalid("top_k", &format!("must be 0 or more, not {k}")))?,
            },
            min_p: number("min_p", self.min_p, 0.0, 1.0)?.unwrap_or(default.min_p),
            repetition_penalty,
            frequency_penalty: number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?
                .unwrap_or(0.0),
            presence_penalty: number("presence_penalty", self.presence_penalty, -2.0, 2.0)?
                .unwrap_or(0.0),
            logit_bias: self.logit_bias()?,
            seed: self.seed.map(i64::cast_unsigned),
            choice: 0,
        })
    }

    fn logit_bias(&self) -> Result<Vec<(u32, f32)>, Diagnostic> {
        self.logit_bias
            .iter()
            .flatten()
            .map(|(token, bias)| {
                let id = token.parse().map_err(|_| {
                    invalid(
                        "logit_bias",
                        &format!("has \"{}\", which is no token id", excerpt(token, 40)),
                    )
                })?;
                let bias = number("logit_bias", Some(*bias), -100.0, 100.0)?;
                Ok((id, bias.unwrap_or(0.0)))
            })
            .collect()
    }

    pub(crate) fn choices(&self) -> Result<u32, Diagnostic> {
        match self.n {
            None => Ok(1),
            Some(n) => u32::try_from(n)
                .ok()
                .filter(|n| (1..=MOST_CHOICES).contains(n))
                .ok_or_else(|| invalid("n", &format!("must be 1 to {MOST_CHOICES}, not {n}"))),
        }
    }

    pub(crate) fn stop(&self) -> Result<Vec<String>, Diagnostic> {
        stops("stop", self.stop.as_ref())
    }
}

/// Texts that end the answer: one, or a list of them.
pub(crate) fn stops(param: &str, value: Option<&Value>) -> Result<Vec<String>, Diagnostic> {
    let stops = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(texts)) => texts
            .iter()
            .map(|text| text.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| invalid(param, "must hold texts only"))?,
        Some(_) => return Err(invalid(param, "must be a text or a list of texts")),
    };
    if stops.len() > MOST_STOPS {
        return Err(invalid(
            param,
            &format!("has {} texts; {MOST_STOPS} are possible", stops.len()),
        ));
    }
    if let Some(stop) = stops
        .iter()
        .find(|s| s.is_empty() || s.len() > LONGEST_STOP)
    {
        return Err(invalid(
            param,
            &format!(
                "has a text of {} bytes; 1 to {LONGEST_STOP} are possible",
                stop.len()
            ),
        ));
    }
    Ok(stops)
}

/// A count of tokens to generate: at least 1.
pub(crate) fn limit(param: &str, value: Option<i64>) -> Result<Option<u32>, Diagnostic> {
    match value {
        None => Ok(None),
        Some(n) if n >= 1 => Ok(Some(u32::try_from(n).unwrap_or(u32::MAX))),
        Some(n) => Err(invalid(param, &format!("must be at least 1, not {n}"))),
    }
}

pub(crate) fn number(
    param: &str,
    value: Option<f64>,
    min: f64,
    max: f64,
) -> Result<Option<f32>, Diagnostic> {
    match value {
        None => Ok(None),
        Some(v) if (min..=max).contains(&v) => Ok(Some(v as f32)),
        Some(v) => Err(invalid(param, &format!("must be {min} to {max}, not {v}"))),
    }
}

pub(crate) fn invalid(param: &str, what: &str) -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, format!("`{param}` {what}")).param(param)
}

/// Levels of lists and objects in a body. A worker is sent what is in it inside of others, and
/// reads 128.
const MOST_LEVELS: usize = 100;

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(fields) => {
            levels == 0 || fields.values().any(|value| is_deeper(value, levels - 1))
        }
        _ => false,
    }
}

/// Reads the fields of `T`; a wrong one is named.
pub(crate) fn read<T: DeserializeOwned>(body: &Value) -> Result<T, Diagnostic> {
    if !body.is_object() {
        return Err(Diagnostic::new(
            Code::InvalidRequest,
            "the body must be a JSON object",
        ));
    }
    if is_deeper(body, MOST_LEVELS) {
        return Err(Diagnostic::new(
            Code::InvalidRequest,
            format!("the body is nested more than {MOST_LEVELS} levels deep"),
        )
        .hint("flatten what is nested so deep, such as a schema"));
    }
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let cause = excerpt(&in_words(&error.inner().to_string()), 200);
        if path == "." {
            // Only a field that is not there has no path; serde names it in the message.
            let name = cause.split('`').nth(1).unwrap_or_default().to_owned();
            Diagnostic::new(Code::InvalidRequest, cause).param(name)
        } else {
            let path = excerpt(&path, 100);
            Diagnostic::new(Code::InvalidRequest, format!("`{path}`: {cause}")).param(path)
        }
    })
}

/// What serde says, without the names of Rust's types.
fn in_words(cause: &str) -> String {
    if cause.contains("untagged enum") {
        return "has none of the forms that are possible here".to_owned();
    }
    let Some((found, expected)) = cause.rsplit_once(", expected ") else {
        return cause.to_owned();
    };
    let expected = match expected {
        "f32" | "f64" => "a number",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "struct" | "a map" => "an object",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{found}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_in_words() {
        for (cause, words) in [
            (
                "invalid type: string \"hot\", expected f64",
                "invalid type: string \"hot\", expected a number",
            ),
            (
                "invalid value: integer `-1`, expected u32",
                "invalid value: integer `-1`, expected a whole number that is not negative",
            ),
            (
                "invalid type: integer `1`, expected struct Options",
                "invalid type: integer `1`, expected an object",
            ),
            (
                "data did not match any variant of untagged enum Content",
                "has none of the forms that are possible here",
            ),
            ("missing field `model`", "missing field `model`"),
        ] {
            assert_eq!(in_words(cause), words);
        }
    }
}
