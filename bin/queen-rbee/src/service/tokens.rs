use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{Answer, JsonBody};
use diagnostics::ErrorBody;
use http::HeaderMap;
use queen_contract::{DetokenizeCall, TokenizeCall};
use worker_contract::{DetokenizeResponse, TokenizeResponse, WorkerClient};

use super::answers::{document, question};
use crate::{app::App, ask::ask};

/// The tokens of an input, as the model sees them
#[utoipa::path(post, path = "/v1/tokenize", tag = "inference", request_body = TokenizeCall,
    responses((status = 200, body = TokenizeResponse), (status = "default", body = ErrorBody)))]
pub async fn tokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(call): JsonBody<TokenizeCall>,
) -> Result<Response, Answer> {
    let (question, _) = question(&app, call.model, &headers).await?;
    let request = &call.request;
    let (answer, origin) = ask(&app, question, |worker: WorkerClient| async move {
        worker.tokenize(request).await
    })
    .await?;
    Ok(document(&origin, answer))
}

/// The text of tokens
#[utoipa::path(post, path = "/v1/detokenize", tag = "inference", request_body = DetokenizeCall,
    responses((status = 200, body = DetokenizeResponse), (status = "default", body = ErrorBody)))]
pub async fn detokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(call): JsonBody<DetokenizeCall>,
) -> Result<Response, Answer> {
    let (question, _) = question(&app, call.model, &headers).await?;
    let request = &call.request;
    let (answer, origin) = ask(&app, question, |worker: WorkerClient| async move {
        worker.detokenize(request).await
    })
    .await?;
    Ok(document(&origin, answer))
}
