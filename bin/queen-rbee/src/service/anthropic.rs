use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{Answer, JsonBody};
use http::HeaderMap;
use openai_gateway::anthropic::{
    AnthropicErrorBody, AnthropicMessage, AnthropicRequest, AnthropicWriter, parse,
};
use serde_json::Value;

use super::{
    answers::new_request_id,
    edges::{Streaming, serve},
};
use crate::{app::App, models};

/// A conversation, as Anthropic's clients ask for it
#[utoipa::path(post, path = "/v1/messages", tag = "anthropic", request_body = AnthropicRequest,
    responses((status = 200, body = AnthropicMessage, description = "with `stream: true`, events as `text/event-stream`"),
        (status = "default", body = AnthropicErrorBody)))]
pub async fn messages(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    let asked = parse(&body, new_request_id()?)?;
    let model = models::parse(&asked.model)?;
    let writer = AnthropicWriter::new(&asked.request.request_id, &asked.model, asked.stream);
    serve(&app, &headers, model, asked, Streaming::Events, writer).await
}
