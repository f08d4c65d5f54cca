use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, PathArg};
use http::HeaderMap;
use openai_gateway::responses::{ResponseDocument, ResponseEvent, ResponsesRequest, parse};
use serde_json::Value;

use crate::{
    Api,
    errors::response_not_stored,
    inference::find_model,
    openai::AnyId,
    respond::{request_context, respond},
    responses::{DeadlineHeader, DocumentOrEvents, NotStoredErrors, OpenAiErrors},
};

/// Create a response
///
/// With `stream: true`, the response is a stream of events. Nothing is stored: each request has
/// its whole conversation.
#[utoipa::path(post, path = "/v1/responses", tag = "openai", request_body = ResponsesRequest,
    params(DeadlineHeader),
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
