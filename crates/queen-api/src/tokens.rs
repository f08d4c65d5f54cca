use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody};
use http::HeaderMap;
use queen_contract::{DetokenizeCall, TokenizeCall};
use serde_json::Value;
use worker_contract::{DetokenizeResponse, TokenizeResponse, WorkerClient};

use crate::{
    Api,
    inference::{call_response, read_call, short_call},
    responses::{CallResponse, InferErrors, RequestHeaders},
};

const TOKENIZE: &str = r#"{"model": "builtin:haiku", "input": {"prompt": "text"}}"#;
const DETOKENIZE: &str = r#"{"model": "builtin:haiku", "tokens": [1, 2]}"#;

/// Convert an input to the tokens that the model receives
#[utoipa::path(post, path = "/v1/tokenize", tag = "inference", request_body = TokenizeCall,
    params(RequestHeaders), responses(CallResponse<TokenizeResponse>, InferErrors))]
pub(crate) async fn tokenize(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let body: TokenizeCall = read_call(body, TOKENIZE)?;
    let (call, _) = short_call(&api, body.model, &headers).await?;
    let request = &body.request;
    let tokenize = |worker: WorkerClient| async move { worker.tokenize(request).await };
    let (response, origin) = api.relay.call(call, tokenize).await?;
    Ok(call_response(&origin, response))
}

/// Convert tokens to text
#[utoipa::path(post, path = "/v1/detokenize", tag = "inference", request_body = DetokenizeCall,
    params(RequestHeaders), responses(CallResponse<DetokenizeResponse>, InferErrors))]
pub(crate) async fn detokenize(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let body: DetokenizeCall = read_call(body, DETOKENIZE)?;
    let (call, _) = short_call(&api, body.model, &headers).await?;
    let request = &body.request;
    let detokenize = |worker: WorkerClient| async move { worker.detokenize(request).await };
    let (response, origin) = api.relay.call(call, detokenize).await?;
    Ok(call_response(&origin, response))
}
