//! Ollama's interface.

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
    openai::{last_message, vector},
    script::{self, Refusal, Step},
};

pub(super) fn routes() -> Router<Engine> {
    let version = json!({"version": "0.12.6"});
    let running = json!({"models": [{"name": "m", "model": "m", "context_length": 512}]});
    Router::new()
        .route("/api/version", get(move || async { Json(version) }))
        .route("/api/ps", get(move || async { Json(running) }))
        .route("/api/show", post(show))
        .route("/api/generate", post(generate))
        .route("/api/chat", post(chat))
        .route("/api/embed", post(embed))
}

fn error(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    (status, Json(json!({"error": message}))).into_response()
}

async fn show(Json(body): Json<Value>) -> Response {
    if body["model"] != "m" {
        return error(
            404,
            &format!("model '{}' not found", body["model"].as_str().unwrap_or("")),
        );
    }
    let features = ["completion", "tools", "thinking", "vision", "embedding"];
    Json(
        json!({"capabilities": features, "model_info": {"general.architecture": "llama",
        "llama.context_length": 4096}}),
    )
    .into_response()
}

async fn generate(State(engine): State<Engine>, Json(body): Json<Value>) -> Response {
    engine.note(&json!({"body": body}));
    match body["prompt"].as_str() {
        Some(prompt) => respond(&engine, &body, prompt, false),
        // Without a prompt, the model is loaded.
        None => Json(json!({"model": "m", "response": "", "done": true, "done_reason": "load"}))
            .into_response(),
    }
}

async fn chat(State(engine): State<Engine>, Json(body): Json<Value>) -> Response {
    engine.note(&json!({"body": body}));
    respond(&engine, &body, &last_message(&body), true)
}

async fn embed(Json(body): Json<Value>) -> Json<Value> {
    let inputs = body["input"].as_array().cloned().unwrap_or_default();
    let rows = inputs.iter().map(|input| vector(&input.to_string()));
    let rows: Vec<_> = rows.collect();
    Json(json!({"model": "m", "embeddings": rows, "prompt_eval_count": 5}))
}

fn respond(engine: &Engine, body: &Value, instruction: &str, is_chat: bool) -> Response {
    let limit = body["options"]["num_predict"]
        .as_u64()
        .map(|limit| limit as usize);
    let answer = match script::answer(instruction, "", limit) {
        Ok(answer) => answer,
        Err(Refusal::Invalid) => return error(400, "refused by the engine"),
        Err(Refusal::Busy) => {
            return error(
                503,
                "server busy, please try again.  maximum pending requests exceeded",
            );
        }
        Err(Refusal::TooLong) => {
            return error(400, "the input length exceeds the maximum context length");
        }
    };
    engine.stream("application/x-ndjson", answer, move |step, _| {
        let part = |text: &str, thinking: &str, calls: Value| {
            if is_chat {
                let mut message = json!({"role": "assistant", "content": text});
                if !thinking.is_empty() {
                    message["thinking"] = json!(thinking);
                }
                if !calls.is_null() {
                    message["tool_calls"] = calls;
                }
                json!({"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message,
                    "done": false})
            } else {
                json!({"model": "m", "created_at": "2026-01-01T00:00:00Z", "response": text,
                    "done": false})
            }
        };
        let line = match step {
            Step::Token {
                text,
                reasoning: true,
                ..
            } => part("", text, Value::Null),
            Step::Token { text, .. } => part(text, "", Value::Null),
            Step::Call => part(
                "",
                "",
                json!([{"function": {"name": "f", "arguments": {"a": 1}}}]),
            ),
            Step::End { tokens, limited } => {
                let mut last = part("", "", Value::Null);
                last["done"] = json!(true);
                last["done_reason"] = json!(if *limited { "length" } else { "stop" });
                last["prompt_eval_count"] = json!(9);
                last["eval_count"] = json!(tokens);
                last
            }
            Step::Fail => json!({"error": "decode failed"}),
        };
        format!("{line}\n")
    })
}
