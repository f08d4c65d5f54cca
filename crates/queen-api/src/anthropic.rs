use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody};
use http::HeaderMap;
use jiff::Timestamp;
use openai_gateway::anthropic::{
    AnthropicEvent, AnthropicMessage, AnthropicModel, AnthropicModelList, AnthropicRequest,
    AnthropicTokenCount, AnthropicTokenCountRequest, parse, parse_token_count,
};
use openai_gateway::openai::OpenAiModel;
use serde_json::Value;

use crate::{
    Api,
    inference::{self, call_response, find_model},
    respond::{request_context, respond},
    responses::{AnthropicErrors, CallResponse, DocumentOrEvents, RequestHeaders, WithRequestId},
};

/// Create a message
///
/// With `stream: true`, the response is a stream of events.
#[utoipa::path(post, path = "/v1/messages", tag = "anthropic", request_body = AnthropicRequest,
    params(RequestHeaders),
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
    params(RequestHeaders), responses(WithRequestId<CallResponse<AnthropicTokenCount>>, AnthropicErrors))]
pub(crate) async fn count_tokens(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let parsed = parse_token_count(&body)?;
    let (input_tokens, origin) = inference::count_tokens(&api, &headers, parsed).await?;
    Ok(call_response(&origin, AnthropicTokenCount { input_tokens }))
}

/// Returns the list of models in Anthropic's format.
pub(crate) fn model_list(models: Vec<OpenAiModel>, started_at: Timestamp) -> AnthropicModelList {
    let models = models
        .into_iter()
        .map(|model| self::model(model, started_at));
    AnthropicModelList::new(models.collect())
}

/// Returns one model in Anthropic's format.
pub(crate) fn model(model: OpenAiModel, started_at: Timestamp) -> AnthropicModel {
    AnthropicModel::new(model.id, started_at, model.context_length)
}
