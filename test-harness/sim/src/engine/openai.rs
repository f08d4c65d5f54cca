//! OpenAI's interface, with the extensions of vLLM.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    Engine, Protocol,
    script::{self, Answer, Refusal, Step},
};

/// What all servers have.
pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
}

/// What vLLM has besides.
pub(super) fn own_routes() -> Router<Engine> {
    Router::new()
        .route("/health", get(|| async { "" }))
        .route(
            "/metrics",
            get(|| async { "vllm:generation_tokens_total 7\n" }),
        )
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
}

async fn models(State(engine): State<Engine>) -> Json<Value> {
    let mut model = json!({"id": "m", "object": "model", "owned_by": "sim"});
    if engine.protocol() == Protocol::Vllm {
        model["max_model_len"] = json!(512);
    }
    Json(json!({"object": "list", "data": [model]}))
}

async fn tokenize(Json(body): Json<Value>) -> Json<Value> {
    let text = match body["prompt"].as_str() {
        Some(prompt) => prompt.to_owned(),
        None => last_message(&body),
    };
    let tokens = script::encode(&text, true);
    Json(json!({"count": tokens.len(), "max_model_len": 512, "tokens": tokens}))
}

async fn detokenize(Json(body): Json<Value>) -> Json<Value> {
    let ids = body["tokens"].as_array().into_iter().flatten();
    let ids: Vec<u32> = ids
        .filter_map(|id| u32::try_from(id.as_u64()?).ok())
        .collect();
    Json(json!({"prompt": script::decode(&ids)}))
}

async fn embeddings(Json(body): Json<Value>) -> Json<Value> {
    let inputs = match &body["input"] {
        Value::Array(inputs) => inputs.clone(),
        input => vec![input.clone()],
    };
    let rows = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(&input.to_string());
        json!({"object": "embedding", "index": index, "embedding": vector})
    });
    let rows: Vec<Value> = rows.collect();
    Json(json!({"object": "list", "data": rows, "model": "m",
        "usage": {"prompt_tokens": 5, "total_tokens": 5}}))
}

/// Returns a vector that depends on the text.
pub(super) fn vector(text: &str) -> [f64; 2] {
    let sum: u64 = text.bytes().map(u64::from).sum();
    [text.len() as f64, (sum % 97) as f64]
}

/// Returns the text of the last message.
pub(super) fn last_message(body: &Value) -> String {
    let last = body["messages"]
        .as_array()
        .and_then(|messages| messages.last());
    let content = last
        .map(|message| message["content"].clone())
        .unwrap_or_default();
    match &content {
        Value::Array(parts) => parts[0]["text"].as_str().unwrap_or_default().to_owned(),
        content => content.as_str().unwrap_or_default().to_owned(),
    }
}

async fn chat(State(engine): State<Engine>, Json(body): Json<Value>) -> Response {
    engine.note(&json!({"body": body}));
    respond(&engine, &body, &last_message(&body), true)
}

async fn completions(State(engine): State<Engine>, Json(body): Json<Value>) -> Response {
    engine.note(&json!({"body": body}));
    let prompt = body["prompt"].as_str().unwrap_or_default().to_owned();
    respond(&engine, &body, &prompt, false)
}

fn respond(engine: &Engine, body: &Value, instruction: &str, is_chat: bool) -> Response {
    let limit = body["max_tokens"].as_u64().map(|limit| limit as usize);
    let answer: Answer = match script::answer(instruction, "", limit) {
        Ok(answer) => answer,
        Err(refusal) => return refuse(engine.protocol(), refusal),
    };
    let reports_ids = body["return_token_ids"] == true;
    let usage_always = body["stream_options"]["continuous_usage_stats"] == true;
    let object = if is_chat {
        "chat.completion.chunk"
    } else {
        "text_completion"
    };
    engine.stream("text/event-stream", answer, move |step, number| {
        let choice = match step {
            Step::Token {
                ids,
                text,
                reasoning,
            } => {
                let mut choice = if is_chat {
                    let name = if *reasoning {
                        "reasoning_content"
                    } else {
                        "content"
                    };
                    json!({"index": 0, "delta": {name: text}, "finish_reason": null})
                } else {
                    json!({"index": 0, "text": text, "finish_reason": null})
                };
                if reports_ids {
                    choice["token_ids"] = json!(ids);
                }
                choice
            }
            Step::Call => json!({"index": 0, "finish_reason": null, "delta": {"tool_calls": [
                {"index": 0, "id": "call_1", "type": "function",
                 "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}}),
            Step::End { tokens, limited } => {
                let reason = if *limited { "length" } else { "stop" };
                let end = json!({"object": object, "choices": [{"index": 0, "delta": {}, "text": "",
                    "finish_reason": reason}]});
                let usage = json!({"object": object, "choices": [], "usage": {"prompt_tokens": 9,
                    "completion_tokens": tokens, "total_tokens": 9 + tokens}});
                return format!("data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
            }
            Step::Fail => {
                let error = json!({"error": {"message": "decode failed", "type": "server_error",
                    "code": 500}});
                return format!("data: {error}\n\n");
            }
        };
        let mut chunk = json!({"id": "c-1", "object": object, "model": "m", "choices": [choice]});
        if usage_always {
            chunk["usage"] = json!({"prompt_tokens": 9, "completion_tokens": number + 1});
        }
        format!("data: {chunk}\n\n")
    })
}

fn refuse(protocol: Protocol, refusal: Refusal) -> Response {
    let (status, message, code) = match refusal {
        Refusal::Invalid => (400, "refused by the engine", json!(400)),
        Refusal::Busy => (429, "Rate limit reached", json!("rate_limit_exceeded")),
        Refusal::TooLong => (
            400,
            "This model's maximum context length is 512 tokens. However, you requested 900 tokens.",
            if protocol == Protocol::Openai {
                json!("context_length_exceeded")
            } else {
                json!(400)
            },
        ),
    };
    let error = json!({"message": message, "type": "BadRequestError", "param": null, "code": code});
    let status = StatusCode::from_u16(status).unwrap_or_default();
    (status, Json(json!({"error": error}))).into_response()
}
