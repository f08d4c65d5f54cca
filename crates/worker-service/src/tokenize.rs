use axum::{Json, extract::State};
use daemon_shell::{ErrorResponse, JsonBody};
use worker_contract::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse};

use crate::{responses::TokenizeErrors, worker::Worker};

/// Converts an input to tokens as `/v1/infer` does.
#[utoipa::path(post, path = "/v1/tokenize", tag = "tokens", request_body = TokenizeRequest, responses(
    (status = 200, description = "The tokens of the input", body = TokenizeResponse),
    TokenizeErrors,
))]
pub async fn tokenize(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<TokenizeRequest>,
) -> Result<Json<TokenizeResponse>, ErrorResponse> {
    let tokens = worker.service()?.tokenize(request).await?;
    Ok(Json(TokenizeResponse {
        count: tokens.len() as u32,
        tokens,
    }))
}

/// Converts tokens to text.
#[utoipa::path(post, path = "/v1/detokenize", tag = "tokens", request_body = DetokenizeRequest, responses(
    (status = 200, description = "The text of the tokens", body = DetokenizeResponse),
    TokenizeErrors,
))]
pub async fn detokenize(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<DetokenizeRequest>,
) -> Result<Json<DetokenizeResponse>, ErrorResponse> {
    let text = worker.service()?.detokenize(request.tokens).await?;
    Ok(Json(DetokenizeResponse { text }))
}
