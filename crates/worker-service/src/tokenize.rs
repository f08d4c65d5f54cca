use axum::{Json, extract::State};
use daemon_shell::{Answer, JsonBody};
use diagnostics::{Diagnostic, ErrorBody};
use worker_contract::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse};

use crate::Worker;

/// The tokens of an input, as `/v1/infer` would see them.
#[utoipa::path(post, path = "/v1/tokenize", tag = "tokens", request_body = TokenizeRequest, responses(
    (status = 200, description = "Its tokens", body = TokenizeResponse),
    (status = 400, description = "The input is wrong", body = ErrorBody),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
    (status = 503, description = "It loads", body = ErrorBody),
))]
pub async fn tokenize(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<TokenizeRequest>,
) -> Result<Json<TokenizeResponse>, Answer> {
    let runtime = worker.runtime()?.clone();
    let tokens = blocking(move || runtime.tokenize(&request.input, &request.tools)).await??;
    Ok(Json(TokenizeResponse {
        count: tokens.len() as u32,
        tokens,
    }))
}

/// The text of tokens.
#[utoipa::path(post, path = "/v1/detokenize", tag = "tokens", request_body = DetokenizeRequest, responses(
    (status = 200, description = "Their text", body = DetokenizeResponse),
    (status = 400, description = "The body is wrong, or the model has no such token", body = ErrorBody),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
    (status = 503, description = "It loads", body = ErrorBody),
))]
pub async fn detokenize(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<DetokenizeRequest>,
) -> Result<Json<DetokenizeResponse>, Answer> {
    let runtime = worker.runtime()?.clone();
    let text = blocking(move || runtime.detokenize(&request.tokens)).await??;
    Ok(Json(DetokenizeResponse { text }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Diagnostic> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Diagnostic::internal(format!("the tokenizer: {e}")))
}
