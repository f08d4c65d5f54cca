use std::time::Duration;

use diagnostics::Diagnostic;
use openapi_schema::{any_number, any_of, pattern, schema_types};
use serde_json::{Value, json};
use worker_contract::{EndEvent, FinishReason, Timings, Usage};

use super::{endpoint::OllamaEndpoint, writer::OllamaWriter};
use crate::{
    errors::must_be, fields::read, parsed_request::RequestContext, response_writer::ResponseWriter,
};

const PARAM: &str = "keep_alive";

schema_types! {
    /// Seconds, or a duration with units: `30s`, `5m`, `1h30m`. Negative: without limit.
    OllamaDuration = any_of([
        any_number(),
        pattern(r"^[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"),
        pattern(r"^[+-]?[0-9]+$"),
    ]);
}

/// How long a model stays loaded after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OllamaKeepAlive {
    /// For this time without further requests.
    For(Duration),
    /// Until something else unloads it.
    Forever,
}

/// Returns the `keep_alive` of a body; `None` if it has none.
pub fn keep_alive(body: &Value) -> Result<Option<OllamaKeepAlive>, Diagnostic> {
    let seconds = match body.get(PARAM) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(seconds)) => seconds.as_f64(),
        Some(Value::String(text)) => seconds(text),
        Some(_) => None,
    };
    let Some(seconds) = seconds else {
        return Err(must_be(PARAM, "seconds, or a duration such as `5m`"));
    };
    // A time that is too long to be represented is no limit either.
    let time = Duration::try_from_secs_f64(seconds);
    Ok(Some(
        time.map_or(OllamaKeepAlive::Forever, OllamaKeepAlive::For),
    ))
}

/// Parses a duration of Go, or a number of seconds.
fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.bytes().all(|c| c.is_ascii_digit()) {
        return rest.parse::<f64>().ok().map(|seconds| sign * seconds);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let in_number = |c: char| c.is_ascii_digit() || c == '.';
        let number_end = rest.find(|c: char| !in_number(c))?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(in_number).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    Some(sign * total)
}

/// A request that unloads a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OllamaUnload {
    /// Model as the client named it.
    pub model: String,
    /// The response, a JSON document.
    pub response: Vec<u8>,
}

/// Returns the request to unload a model, if the body is one: without input, and with a
/// `keep_alive` of 0.
pub fn parse_unload(
    endpoint: OllamaEndpoint,
    body: &Value,
    context: &RequestContext,
) -> Result<Option<OllamaUnload>, Diagnostic> {
    #[derive(serde::Deserialize)]
    struct Fields {
        model: String,
    }
    let input = match endpoint {
        OllamaEndpoint::Chat => "messages",
        OllamaEndpoint::Generate => "prompt",
    };
    let empty = [json!(null), json!(""), json!([])];
    let has_input = body.get(input).is_some_and(|input| !empty.contains(input));
    if has_input || keep_alive(body)? != Some(OllamaKeepAlive::For(Duration::ZERO)) {
        return Ok(None);
    }
    let Fields { model } = read(body)?;
    let mut response = Vec::new();
    let end = EndEvent {
        reason: FinishReason::Stop,
        stop: None,
        usage: Usage::default(),
        timings: Timings::default(),
    };
    OllamaWriter::new(endpoint, &model, context.received_at)
        .with_done_reason("unload")
        .end(0, &end, &mut response);
    Ok(Some(OllamaUnload { model, response }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::context;

    #[test]
    fn a_time_is_seconds_or_a_duration_with_units() {
        let time = |value: Value| keep_alive(&json!({"keep_alive": value}));
        let after = |seconds| Ok(Some(OllamaKeepAlive::For(Duration::from_secs_f64(seconds))));
        for (value, expected) in [
            (json!(null), Ok(None)),
            (json!(0), after(0.0)),
            (json!(90), after(90.0)),
            (json!("0"), after(0.0)),
            (json!("30"), after(30.0)),
            (json!("5m"), after(300.0)),
            (json!("1h30m0.5s"), after(5400.5)),
            (json!("250ms"), after(0.25)),
            (json!(-1), Ok(Some(OllamaKeepAlive::Forever))),
            (json!("-1m"), Ok(Some(OllamaKeepAlive::Forever))),
            (json!(1e300), Ok(Some(OllamaKeepAlive::Forever))),
        ] {
            assert_eq!(time(value.clone()), expected, "{value}");
        }
        for wrong in [
            json!(""),
            json!("5 m"),
            json!("m"),
            json!("5x"),
            json!("1.2.3s"),
            json!("-"),
            json!("++5"),
            json!(true),
            json!([]),
        ] {
            assert_eq!(
                time(wrong.clone()).unwrap_err().param.as_deref(),
                Some(PARAM),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_request_without_input_and_time_unloads_the_model() {
        let unload = |endpoint, body| parse_unload(endpoint, &body, &context()).unwrap();
        for (endpoint, field, empty, output) in [
            (
                OllamaEndpoint::Generate,
                "prompt",
                json!(""),
                "\"response\":\"\"",
            ),
            (
                OllamaEndpoint::Chat,
                "messages",
                json!([]),
                "\"content\":\"\"",
            ),
        ] {
            let mut body = json!({"model": "haiku", "keep_alive": "0s"});
            for input in [json!(null), empty] {
                body[field] = input;
                let unload = unload(endpoint, body.clone()).unwrap();
                assert_eq!(unload.model, "haiku");
                let response = String::from_utf8(unload.response).unwrap();
                assert!(
                    response.contains("\"done_reason\":\"unload\""),
                    "{response}"
                );
                assert!(response.contains(output), "{response}");
            }
            body[field] = json!("x");
            assert_eq!(unload(endpoint, body.clone()), None);
            body[field] = json!(null);
            body["keep_alive"] = json!(60);
            assert_eq!(unload(endpoint, body), None);
        }
    }
}
