//! `POST /completion`.

use diagnostics::Diagnostic;
use serde_json::{Value, json};
use worker_contract::{Constraint, FinishReason, InferRequest};

use crate::{
    errors, gbnf,
    json::{count, logprob, text, token_ids},
    piece::{Counts, Piece, Update},
    values::{engine_seed, llama_cpp_sampling},
};

/// Returns the body of a request.
pub(super) fn body(
    request: &InferRequest,
    prompt: &[u32],
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

/// Reads an event.
pub(super) fn read(event: &Value) -> Vec<Update> {
    if let Some(error) = event.get("error") {
        return vec![Update::Failed(errors::in_stream(error))];
    }
    if event.get("prompt_progress").is_some() {
        return Vec::new();
    }
    let mut updates = Vec::new();
    let content = text(event, "content");
    let mut tokens = token_ids(&event["tokens"]).into_iter();
    let is_last = event["stop"] == true;
    if !is_last || !content.is_empty() {
        updates.push(Update::Piece(Piece {
            text: content,
            token: tokens.next(),
            logprob: logprob(&event["completion_probabilities"][0]),
            number: count(&event["tokens_predicted"]),
            ..Piece::default()
        }));
    }
    if is_last {
        updates.push(Update::Counts(Counts {
            prompt: count(&event["tokens_evaluated"]),
            completion: count(&event["tokens_predicted"]),
            cached: count(&event["timings"]["cache_n"]),
        }));
        updates.push(Update::Finish(match event["stop_type"].as_str() {
            Some("limit") => FinishReason::Length,
            _ => FinishReason::Stop,
        }));
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(read(&partial), [Update::Piece(expected)]);
        let last = json!({"content": "", "tokens": [], "stop": true, "stop_type": "limit",
            "stopping_word": "", "tokens_predicted": 9, "tokens_evaluated": 4,
            "timings": {"cache_n": 3}});
        let counts = Counts {
            prompt: Some(4),
            completion: Some(9),
            cached: Some(3),
        };
        let finish = Update::Finish(FinishReason::Length);
        assert_eq!(read(&last), [Update::Counts(counts), finish]);
        let error = json!({"error": {"code": 500, "message": "no", "type": "x"}});
        assert!(matches!(&read(&error)[..], [Update::Failed(_)]));
    }

    #[test]
    fn constraints_are_translated_or_refused_by_name() {
        let mut request = request();
        let plain = body(&request, &[1], 5, 3, 512).unwrap();
        assert_eq!(
            (&plain["top_k"], &plain["repeat_last_n"]),
            (&json!(0), &json!(512))
        );
        request.constraint = Some(Constraint::Regex("a".into()));
        assert_eq!(
            body(&request, &[1], 5, 3, 512).unwrap()["grammar"],
            "root ::= \"a\""
        );
        request.constraint = Some(Constraint::Grammar("start: \"a\"".into()));
        let error = body(&request, &[1], 5, 3, 512).unwrap_err();
        assert!(error.message.contains("Lark"), "{error}");
    }
}
