use std::{str::FromStr, sync::Arc};

use axum::{Json, extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, PathArg};
use diagnostics::Diagnostic;
use http::HeaderMap;
use openai_gateway::anthropic::{AnthropicModel, AnthropicModelList};
use openai_gateway::openai::{
    ChatCompletion, ChatCompletionEvent, ChatRequest, CompletionRequest, OpenAiEndpoint,
    OpenAiModel, OpenAiModelList, OpenAiModelState, TextCompletion, TextCompletionEvent, parse,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    Api, anthropic,
    dialect::Dialect,
    inference::find_model,
    respond::{request_context, respond},
    responses::{DocumentOrEvents, ModelErrors, ModelListErrors, OpenAiErrors, RequestHeaders},
};

/// Create a chat completion
///
/// With `stream: true`, the response is a stream of chunks.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", request_body = ChatRequest,
    params(RequestHeaders),
    responses(DocumentOrEvents<ChatCompletion, ChatCompletionEvent>, OpenAiErrors))]
pub(crate) async fn chat(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    infer(&api, OpenAiEndpoint::ChatCompletions, &headers, &body).await
}

/// Create a text completion
///
/// With `stream: true`, the response is a stream of chunks.
#[utoipa::path(post, path = "/v1/completions", tag = "openai", request_body = CompletionRequest,
    params(RequestHeaders),
    responses(DocumentOrEvents<TextCompletion, TextCompletionEvent>, OpenAiErrors))]
pub(crate) async fn completion(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    infer(&api, OpenAiEndpoint::Completions, &headers, &body).await
}

async fn infer(
    api: &Api,
    endpoint: OpenAiEndpoint,
    headers: &HeaderMap,
    body: &Value,
) -> Result<Response, ErrorResponse> {
    let parsed = parse(endpoint, body, &request_context()?)?;
    let model = find_model(api, &parsed.model).await?;
    respond(api, headers, model, parsed).await
}

/// One of two formats, by the header `anthropic-version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ModelListOfClient {
    OpenAi(OpenAiModelList),
    Anthropic(AnthropicModelList),
}

/// One of two formats, by the header `anthropic-version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ModelOfClient {
    OpenAi(OpenAiModel),
    Anthropic(AnthropicModel),
}

/// List the models that can be requested
#[utoipa::path(get, path = "/v1/models", tag = "openai",
    params(
        ("anthropic-version" = Option<String>, Header,
            description = "a client of Anthropic, which gets Anthropic's format"),
    ),
    responses((status = 200, body = ModelListOfClient, description = "The models"), ModelListErrors))]
pub(crate) async fn models(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<ModelListOfClient>, ErrorResponse> {
    let models = list(&api).await?;
    Ok(Json(match Dialect::of_client(&headers) {
        Some(Dialect::Anthropic) => {
            ModelListOfClient::Anthropic(anthropic::model_list(models, api.started_at))
        }
        _ => ModelListOfClient::OpenAi(OpenAiModelList::new(models)),
    }))
}

/// A name or an id in a path; may be any text.
pub(crate) struct AnyId(pub(crate) String);

impl FromStr for AnyId {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        Ok(Self(text.to_owned()))
    }
}

/// Show one model
#[utoipa::path(get, path = "/v1/models/{id}", tag = "openai",
    params(
        ("id" = String, Path, description = "name of the model; it may contain slashes"),
        ("anthropic-version" = Option<String>, Header,
            description = "a client of Anthropic, which gets Anthropic's format"),
    ),
    responses((status = 200, body = ModelOfClient, description = "The model"), ModelErrors))]
pub(crate) async fn model(
    State(api): State<Arc<Api>>,
    PathArg(AnyId(id)): PathArg<AnyId>,
    headers: HeaderMap,
) -> Result<Json<ModelOfClient>, ErrorResponse> {
    let model = find_model(&api, &id).await?.to_string();
    let found = list(&api)
        .await?
        .into_iter()
        .find(|listed| listed.id == model);
    let found = found.ok_or_else(|| queen_nodes::model_not_found(&id))?;
    Ok(Json(match Dialect::of_client(&headers) {
        Some(Dialect::Anthropic) => {
            ModelOfClient::Anthropic(anthropic::model(found, api.started_at))
        }
        _ => ModelOfClient::OpenAi(found),
    }))
}

async fn list(api: &Api) -> Result<Vec<OpenAiModel>, Diagnostic> {
    let created = api.started_at.as_second();
    let names = api.model_names().await?.into_iter();
    let workers = api.workers().await?;
    let context_length = |name: &str| {
        let serving = workers.iter().filter(|w| w.model_id.to_string() == name);
        let served = serving.map(|worker| worker.context_length).max();
        let known = || Some(api.nodes.known_model(&name.parse().ok()?)?.context_length);
        served.filter(|n| *n > 0).or_else(known)
    };
    let models = names.map(|name| {
        let context_length = context_length(&name).filter(|n| *n > 0);
        let state = if workers.iter().any(|w| w.model_id.to_string() == name) {
            OpenAiModelState::Loaded
        } else {
            OpenAiModelState::NotLoaded
        };
        let entry = name.parse().ok().and_then(|m| api.nodes.known_model(&m));
        let files = entry.and_then(|entry| entry.files);
        let created = files.map_or(created, |files| files.added_at.as_second());
        OpenAiModel::new(name, created, context_length, state)
    });
    Ok(models.collect())
}
