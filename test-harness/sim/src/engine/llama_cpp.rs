//! What llama.cpp's server has besides OpenAI's interface.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    Engine,
    script::{self, BEGIN, Refusal, Step},
};

/// Context of a slot in tokens.
const CONTEXT: usize = 512;

pub(super) fn routes(slots: u32) -> Router<Engine> {
    let props = json!({"default_generation_settings": {"n_ctx": CONTEXT}, "total_slots": slots,
        "chat_template": "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}",
        "chat_template_caps": {"supports_tools": true},
        "modalities": {"vision": false, "audio": false}});
    Router::new()
        .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/props", get(move || async { Json(props) }))
        .route(
            "/metrics",
            get(|| async { "llamacpp:tokens_predicted_total 7\n" }),
        )
        .route("/apply-template", post(apply_template))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/completion", post(completion))
}

async fn apply_template(Json(body): Json<Value>) -> Json<Value> {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let turns = messages.iter().map(|message| {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        format!("<|{}|>{}\n", text("role"), text("content"))
    });
    let prompt: String = turns.collect();
    Json(json!({"prompt": format!("{prompt}<|assistant|>")}))
}

async fn tokenize(Json(body): Json<Value>) -> Json<Value> {
    let text = body["content"].as_str().unwrap_or_default();
    let special = body["parse_special"] != false;
    let mut tokens = script::encode(text, special);
    if body["add_special"] == true {
        tokens.insert(0, BEGIN);
    }
    if body["with_pieces"] == true {
        let pieces = tokens.iter().map(|id| {
            let piece = match u8::try_from(*id) {
                // Bytes that are not text by themselves are numbers.
                Ok(byte) if !byte.is_ascii() => json!([byte]),
                _ => json!(script::decode(&[*id])),
            };
            json!({"id": id, "piece": piece})
        });
        return Json(json!({"tokens": pieces.collect::<Vec<_>>()}));
    }
    Json(json!({"tokens": tokens}))
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().into_iter().flatten();
    ids.filter_map(|id| u32::try_from(id.as_u64()?).ok())
        .collect()
}

async fn detokenize(Json(body): Json<Value>) -> Json<Value> {
    Json(json!({"content": script::decode(&ids(&body["tokens"]))}))
}

async fn completion(State(engine): State<Engine>, Json(body): Json<Value>) -> Response {
    engine.note(&json!({"body": body}));
    let prompt = match &body["prompt"] {
        Value::String(text) => [vec![BEGIN], script::encode(text, true)].concat(),
        tokens => ids(tokens),
    };
    let (instruction, before) = script::split(&prompt);
    let limit = body["n_predict"].as_u64().map(|limit| limit as usize);
    let answer = match script::answer(&instruction, &before, limit) {
        Ok(answer) => answer,
        Err(refusal) => return refuse(refusal),
    };
    let evaluated = prompt.len();
    let predicted = AtomicUsize::new(0);
    engine.stream("text/event-stream", answer, move |step, _| {
        let event = match step {
            Step::Token { ids, text, .. } => {
                let count = predicted.fetch_add(ids.len(), SeqCst) + ids.len();
                // The server reports the last token of a character only.
                json!({"index": 0, "content": text, "tokens": ids.last().into_iter().collect::<Vec<_>>(),
                    "stop": false, "id_slot": 0, "tokens_predicted": count,
                    "tokens_evaluated": evaluated})
            }
            Step::End { tokens, limited } => {
                let reason = if *limited { "limit" } else { "eos" };
                json!({"index": 0, "content": "", "tokens": [], "stop": true, "stop_type": reason,
                    "stopping_word": "", "tokens_predicted": tokens, "tokens_evaluated": evaluated,
                    "timings": {"cache_n": 1, "prompt_n": evaluated - 1}})
            }
            Step::Call => json!({"content": "", "tokens": [], "stop": false}),
            Step::Fail => json!({"error": {"code": 500, "message": "decode failed",
                "type": "server_error"}}),
        };
        format!("data: {event}\n\n")
    })
}

fn refuse(refusal: Refusal) -> Response {
    let (status, error) = match refusal {
        Refusal::Invalid => (
            400,
            json!({"code": 400, "message": "refused by the engine",
            "type": "invalid_request_error"}),
        ),
        Refusal::Busy => (
            503,
            json!({"code": 503, "message": "no slot available",
            "type": "unavailable_error"}),
        ),
        Refusal::TooLong => (
            400,
            json!({"code": 400, "n_prompt_tokens": 900, "n_ctx": CONTEXT,
            "message": "request (900 tokens) exceeds the available context size (512 tokens), try increasing it",
            "type": "exceed_context_size_error"}),
        ),
    };
    let status = StatusCode::from_u16(status).unwrap_or_default();
    (status, Json(json!({"error": error}))).into_response()
}
