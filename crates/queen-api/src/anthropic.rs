use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody};
use http::HeaderMap;
use openai_gateway::anthropic::{
    AnthropicEvent, AnthropicMessage, AnthropicRequest, AnthropicTokenCount,
    AnthropicTokenCountRequest, parse, parse_token_count,
};
use serde_json::Value;
use worker_contract::WorkerClient;

use crate::{
    Api,
    inference::{call_response, find_model, short_call},
    respond::{request_context, respond},
    responses::{AnthropicErrors, CallResponse, DeadlineHeader, DocumentOrEvents, WithRequestId},
};

/// Create a message
///
/// With `stream: true`, the response is a stream of events.
#[utoipa::path(post, path = "/v1/messages", tag = "anthropic", request_body = AnthropicRequest,
    params(DeadlineHeader),
    responses(WithRequestId<DocumentOrEvents<AnthropicMessage, AnthropicEvent>>, AnthropicErrors))]
pub(crate) async fn messages(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let parsed = parse(&body, &request_context()?)?;
    let model = find_model(&api, &parsed.model).await?;
    respond(&api, &headers, model, parsed).await
}

/// Count the tokens of a message request
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "anthropic", request_body = AnthropicTokenCountRequest,
    params(DeadlineHeader), responses(WithRequestId<CallResponse<AnthropicTokenCount>>, AnthropicErrors))]
pub(crate) async fn count_tokens(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let (model, request) = parse_token_count(&body)?;
    let (call, _) = short_call(&api, find_model(&api, &model).await?, &headers).await?;
    let request = &request;
    let tokenize = |worker: WorkerClient| async move { worker.tokenize(request).await };
    let (tokens, origin) = api.relay.call(call, tokenize).await?;
    let count = AnthropicTokenCount {
        input_tokens: tokens.count,
    };
    Ok(call_response(&origin, count))
}
