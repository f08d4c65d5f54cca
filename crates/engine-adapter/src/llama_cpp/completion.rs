//! `POST /completion`.

use diagnostics::Diagnostic;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use worker_contract::{Constraint, FinishReason, InferRequest};

use crate::{
    errors, gbnf,
    json::logprob,
    piece::{Counts, Piece, Update},
    values::{engine_seed, llama_cpp_sampling},
};

/// Returns the body of a request.
pub(super) fn body(
    request: &InferRequest,
    prompt: &Value,
    max_tokens: u32,
    seed: u64,
    context: u32,
) -> Result<Value, Diagnostic> {
    let mut body = json!({
        "prompt": prompt,
        "n_predict": max_tokens,
        "stream": true,
        "return_tokens": true,
        "cache_prompt": true,
        // The last event would repeat the prompt and all parameters.
        "response_fields": ["content", "tokens", "stop", "stop_type", "tokens_predicted",
            "tokens_evaluated", "timings"],
        "seed": engine_seed(request, seed),
        "logit_bias": request.sampling.logit_bias,
    });
    llama_cpp_sampling(request, context, &mut body);
    if let Some(top) = request.logprobs {
        // With 0, the server reports none at all.
        body["n_probs"] = json!(u32::from(top).max(1));
    }
    constrain(request, &mut body)?;
    Ok(body)
}

fn constrain(request: &InferRequest, body: &mut Value) -> Result<(), Diagnostic> {
    match &request.constraint {
        None => {}
        Some(Constraint::JsonObject) => body["json_schema"] = json!({"type": "object"}),
        Some(Constraint::JsonSchema(schema) | Constraint::StrictJsonSchema(schema)) => {
            body["json_schema"] = match schema {
                Value::Bool(true) => json!({}),
                Value::Bool(false) => return Err(errors::impossible_schema()),
                schema => schema.clone(),
            };
        }
        Some(Constraint::Regex(pattern)) => body["grammar"] = json!(gbnf::grammar(pattern)?),
        Some(Constraint::Grammar(_)) => {
            let what = "grammars in Lark's notation";
            return Err(errors::unsupported("llama-cpp", what, "constraint"));
        }
    }
    Ok(())
}

/// An event of the stream. Fields that are not used are not read.
#[derive(Deserialize)]
struct Event {
    content: Option<String>,
    #[serde(default)]
    tokens: Vec<u32>,
    #[serde(default)]
    stop: bool,
    stop_type: Option<String>,
    // The server writes -1 for numbers that it does not know.
    tokens_predicted: Option<i64>,
    tokens_evaluated: Option<i64>,
    timings: Option<Timings>,
    completion_probabilities: Option<Vec<Value>>,
    prompt_progress: Option<IgnoredAny>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Timings {
    cache_n: Option<i64>,
}

/// Reads the data of an event.
pub(super) fn read(_name: &str, data: &str) -> serde_json::Result<Option<Vec<Update>>> {
    Ok(Some(updates(serde_json::from_str(data)?)))
}

fn updates(event: Event) -> Vec<Update> {
    if let Some(error) = event.error {
        return vec![Update::Failed(errors::in_stream(&error))];
    }
    if event.prompt_progress.is_some() {
        return Vec::new();
    }
    let known = |count: Option<i64>| count.and_then(|count| u32::try_from(count).ok());
    let generated = known(event.tokens_predicted);
    let mut updates = vec![Update::Counts(Counts {
        prompt: known(event.tokens_evaluated),
        ..Counts::default()
    })];
    let content = event.content.unwrap_or_default();
    if !event.stop || !content.is_empty() {
        let logprobs = event.completion_probabilities.unwrap_or_default();
        updates.push(Update::Piece(Piece {
            text: content,
            token: event.tokens.first().copied(),
            logprob: logprobs.first().and_then(logprob),
            number: generated,
            ..Piece::default()
        }));
    }
    if event.stop {
        updates.push(Update::Counts(Counts {
            completion: generated,
            cached: known(event.timings.and_then(|timings| timings.cache_n)),
            ..Counts::default()
        }));
        updates.push(Update::Finish(match event.stop_type.as_deref() {
            Some("limit") => FinishReason::Length,
            _ => FinishReason::Stop,
        }));
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(event: &Value) -> Vec<Update> {
        super::read("message", &event.to_string()).unwrap().unwrap()
    }

    fn request() -> InferRequest {
        InferRequest::new(
            "r".parse().unwrap(),
            worker_contract::InferInput::Prompt("x".into()),
        )
    }

    #[test]
    fn events_are_read_as_the_server_writes_them() {
        let partial = json!({"index": 0, "content": " a", "tokens": [7], "stop": false,
            "id_slot": 0, "tokens_predicted": 1, "tokens_evaluated": 4});
        let expected = Piece {
            text: " a".into(),
            token: Some(7),
            number: Some(1),
            ..Piece::default()
        };
        let prompt = Update::Counts(Counts {
            prompt: Some(4),
            ..Counts::default()
        });
        assert_eq!(read(&partial), [prompt.clone(), Update::Piece(expected)]);
        let last = json!({"content": "", "tokens": [], "stop": true, "stop_type": "limit",
            "stopping_word": "", "tokens_predicted": 9, "tokens_evaluated": 4,
            "timings": {"cache_n": 3, "prompt_ms": 0.5}});
        let counts = Update::Counts(Counts {
            completion: Some(9),
            cached: Some(3),
            ..Counts::default()
        });
        let finish = Update::Finish(FinishReason::Length);
        assert_eq!(read(&last), [prompt, counts, finish]);
        let error = json!({"error": {"code": 500, "message": "no", "type": "x"}});
        assert!(matches!(&read(&error)[..], [Update::Failed(_)]));
    }

    #[test]
    fn constraints_are_translated_or_refused_by_name() {
        let mut request = request();
        let plain = body(&request, &json!([1]), 5, 3, 512).unwrap();
        assert_eq!(
            (&plain["top_k"], &plain["repeat_last_n"]),
            (&json!(0), &json!(512))
        );
        request.constraint = Some(Constraint::Regex("a".into()));
        assert_eq!(
            body(&request, &json!([1]), 5, 3, 512).unwrap()["grammar"],
            "root ::= \"a\""
        );
        request.constraint = Some(Constraint::Grammar("start: \"a\"".into()));
        let error = body(&request, &json!([1]), 5, 3, 512).unwrap_err();
        assert!(error.message.contains("Lark"), "{error}");
    }
}
