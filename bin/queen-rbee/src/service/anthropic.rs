use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{Answer, JsonBody};
use http::HeaderMap;
use openai_gateway::anthropic::{
    AnthropicErrorBody, AnthropicMessage, AnthropicRequest, AnthropicTokenCount, parse,
    parse_token_count,
};
use serde_json::Value;
use worker_contract::WorkerClient;

use super::{
    answers::{document, question},
    respond::{request_context, respond},
};
use crate::{app::App, ask::ask, models};

/// A conversation, as Anthropic's clients ask for it
#[utoipa::path(post, path = "/v1/messages", tag = "anthropic", request_body = AnthropicRequest,
    responses((status = 200, body = AnthropicMessage, description = "with `stream: true`, events as `text/event-stream`"),
        (status = "default", body = AnthropicErrorBody)))]
pub async fn messages(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    let parsed = parse(&body, &request_context()?)?;
    let model = models::parse(&parsed.model)?;
    respond(&app, &headers, model, parsed).await
}

/// The tokens of a conversation, counted
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "anthropic", request_body = AnthropicRequest,
    responses((status = 200, body = AnthropicTokenCount), (status = "default", body = AnthropicErrorBody)))]
pub async fn count_tokens(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    let (model, request) = parse_token_count(&body)?;
    let (question, _) = question(&app, models::parse(&model)?, &headers).await?;
    let request = &request;
    let (answer, origin) = ask(&app, question, |worker: WorkerClient| async move {
        worker.tokenize(request).await
    })
    .await?;
    let count = AnthropicTokenCount {
        input_tokens: answer.count,
    };
    Ok(document(&origin, count))
}
