use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, PathArg};
use http::HeaderMap;
use openai_gateway::responses::{
    ResponseDocument, ResponseEvent, ResponseTokenCount, ResponsesRequest, parse, parse_token_count,
};
use serde_json::Value;

use crate::{
    Api,
    errors::{no_compaction, response_not_stored},
    inference::{call_response, count_tokens, find_model},
    openai::AnyId,
    respond::{request_context, respond},
    responses::{CallResponse, DocumentOrEvents, NotStoredErrors, OpenAiErrors, RequestHeaders},
};

/// Create a response
///
/// With `stream: true`, the response is a stream of events. Nothing is stored: each request has
/// its whole conversation.
#[utoipa::path(post, path = "/v1/responses", tag = "openai", request_body = ResponsesRequest,
    params(RequestHeaders),
    responses(DocumentOrEvents<ResponseDocument, ResponseEvent>, OpenAiErrors))]
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let parsed = parse(&body, &request_context()?)?;
    let model = find_model(&api, &parsed.model).await?;
    respond(&api, &headers, model, parsed).await
}

/// Count the tokens of a response's input
#[utoipa::path(post, path = "/v1/responses/input_tokens", tag = "openai", request_body = ResponsesRequest,
    params(RequestHeaders), responses(CallResponse<ResponseTokenCount>, OpenAiErrors))]
pub(crate) async fn input_tokens(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let parsed = parse_token_count(&body)?;
    let (count, origin) = count_tokens(&api, &headers, parsed).await?;
    Ok(call_response(&origin, ResponseTokenCount::from(count)))
}

/// Always 404: a conversation is not compacted
#[utoipa::path(
    post,
    path = "/v1/responses/compact",
    tag = "openai",
    responses(NotStoredErrors)
)]
pub(crate) async fn compact() -> ErrorResponse {
    no_compaction().into()
}

/// Always 404: responses are not stored
#[utoipa::path(get, path = "/v1/responses/{id}", tag = "openai",
    params(("id" = String, Path, description = "id of a response")), responses(NotStoredErrors))]
pub(crate) async fn show(PathArg(AnyId(id)): PathArg<AnyId>) -> ErrorResponse {
    response_not_stored(&id).into()
}

/// Always 404: responses are not stored
#[utoipa::path(delete, path = "/v1/responses/{id}", tag = "openai",
    params(("id" = String, Path, description = "id of a response")), responses(NotStoredErrors))]
pub(crate) async fn remove(PathArg(AnyId(id)): PathArg<AnyId>) -> ErrorResponse {
    response_not_stored(&id).into()
}
