use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use axum::{Json, extract::State, response::Response};
use daemon_shell::{Answer, JsonBody, PathArg};
use diagnostics::{Diagnostic, ErrorBody};
use http::HeaderMap;
use openai_gateway::openai::{
    ChatCompletion, ChatRequest, CompletionRequest, OpenAiEndpoint, OpenAiModel, OpenAiModelList,
    TextCompletion, parse,
};
use serde_json::Value;
use worker_registry::Filter;

use super::respond::{request_context, respond};
use crate::{app::App, models};

/// Chat, as OpenAI's clients ask for it
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", request_body = ChatRequest,
    responses((status = 200, body = ChatCompletion, description = "with `stream: true`, chunks as `text/event-stream`"),
        (status = "default", body = ErrorBody)))]
pub async fn chat(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    infer(&app, OpenAiEndpoint::ChatCompletions, &headers, &body).await
}

/// Text completion, as OpenAI's clients ask for it
#[utoipa::path(post, path = "/v1/completions", tag = "openai", request_body = CompletionRequest,
    responses((status = 200, body = TextCompletion, description = "with `stream: true`, chunks as `text/event-stream`"),
        (status = "default", body = ErrorBody)))]
pub async fn completion(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    infer(&app, OpenAiEndpoint::Completions, &headers, &body).await
}

async fn infer(
    app: &Arc<App>,
    endpoint: OpenAiEndpoint,
    headers: &HeaderMap,
    body: &Value,
) -> Result<Response, Answer> {
    let parsed = parse(endpoint, body, &request_context()?)?;
    let model = models::parse(&parsed.model)?;
    respond(app, headers, model, parsed).await
}

/// Models that can be asked for
#[utoipa::path(get, path = "/v1/models", tag = "openai",
    responses((status = 200, body = OpenAiModelList), (status = "default", body = ErrorBody)))]
pub async fn models(State(app): State<Arc<App>>) -> Result<Json<OpenAiModelList>, Answer> {
    Ok(Json(OpenAiModelList::new(listed(&app).await?)))
}

/// What a client calls a model; anything may be asked for.
pub struct Name(String);

impl FromStr for Name {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        Ok(Self(text.to_owned()))
    }
}

/// One model
#[utoipa::path(get, path = "/v1/models/{id}", tag = "openai",
    params(("id" = String, Path, description = "the model's name")),
    responses((status = 200, body = OpenAiModel), (status = "default", body = ErrorBody)))]
pub async fn model(
    State(app): State<Arc<App>>,
    PathArg(Name(id)): PathArg<Name>,
) -> Result<Json<OpenAiModel>, Answer> {
    let found = listed(&app).await?.into_iter().find(|m| m.id == id);
    found.map(Json).ok_or_else(|| models::not_found(&id).into())
}

async fn listed(app: &App) -> Result<Vec<OpenAiModel>, Diagnostic> {
    let created = app.started_at.as_second();
    let names = names(app).await?.into_iter();
    Ok(names.map(|name| OpenAiModel::new(name, created)).collect())
}

/// The models of the nodes, those that are deployed, and those that workers serve.
pub async fn names(app: &App) -> Result<BTreeSet<String>, Diagnostic> {
    let has = app.models.list().await;
    let deployed = app.store.call(|store| store.deployments()).await?;
    let workers = app.dispatcher.snapshot(Filter::default()).await?.workers;
    Ok(has
        .into_iter()
        .map(|entry| entry.model)
        .chain(deployed.into_iter().map(|row| row.place.model))
        .chain(workers.into_iter().map(|worker| worker.info.model_id))
        .map(|model| model.to_string())
        .collect())
}
