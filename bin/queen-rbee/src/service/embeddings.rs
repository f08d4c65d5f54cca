use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{Answer, JsonBody};
use diagnostics::{Diagnostic, ErrorBody};
use http::HeaderMap;
use input_validation::ModelRef;
use openai_gateway::{
    ollama::{
        OllamaEmbedRequest, OllamaEmbedResponse, OllamaEmbeddingsRequest, OllamaEmbeddingsResponse,
        OllamaErrorBody, ParsedOllamaEmbedRequest,
    },
    openai::{EmbeddingsRequest, EmbeddingsResponse, ParsedEmbeddingsRequest},
};
use serde_json::Value;
use tokio::time::Instant;
use worker_contract::{EmbedRequest, EmbedResponse, InferInput, WorkerClient};

use super::{
    answers::{document, question},
    ollama::{AnyJson, meant},
};
use crate::{
    app::App,
    ask::{Origin, ask},
    models,
};

/// Vectors of texts, as OpenAI's clients ask for them
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingsRequest,
    responses((status = 200, body = EmbeddingsResponse), (status = "default", body = ErrorBody)))]
pub async fn openai(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    let mut call = ParsedEmbeddingsRequest::parse(&body)?;
    let model = models::parse(&call.model)?;
    let inputs = std::mem::take(&mut call.inputs);
    let (vectors, origin) = embed(&app, model, inputs, false, &headers).await?;
    Ok(document(&origin, call.into_response(vectors)?))
}

/// Vectors of texts, as Ollama's clients ask for them
#[utoipa::path(post, path = "/api/embed", tag = "ollama", request_body = OllamaEmbedRequest,
    responses((status = 200, body = OllamaEmbedResponse), (status = "default", body = OllamaErrorBody)))]
pub async fn ollama(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, Answer> {
    let arrived = Instant::now();
    let mut call = ParsedOllamaEmbedRequest::parse(&body)?;
    let model = meant(&app, &call.model).await?;
    let inputs = std::mem::take(&mut call.inputs);
    let (vectors, origin) = embed(&app, model, inputs, call.truncate, &headers).await?;
    let answer = call.into_response(vectors, arrived.elapsed(), origin.waited)?;
    Ok(document(&origin, answer))
}

/// The vector of a text, as Ollama's older clients ask for it
#[utoipa::path(post, path = "/api/embeddings", tag = "ollama", request_body = OllamaEmbeddingsRequest,
    responses((status = 200, body = OllamaEmbeddingsResponse), (status = "default", body = OllamaErrorBody)))]
pub async fn ollama_older(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, Answer> {
    let call = ParsedOllamaEmbedRequest::parse_superseded(&body)?;
    let model = meant(&app, &call.model).await?;
    let (vectors, origin) = embed(&app, model, call.inputs, call.truncate, &headers).await?;
    Ok(document(&origin, OllamaEmbeddingsResponse::from(vectors)))
}

async fn embed(
    app: &Arc<App>,
    model: ModelRef,
    inputs: Vec<InferInput>,
    truncate: bool,
    headers: &HeaderMap,
) -> Result<(EmbedResponse, Origin), Diagnostic> {
    let (question, deadline) = question(app, model, headers).await?;
    let request = EmbedRequest {
        request_id: question.id.clone(),
        inputs,
        truncate,
        deadline,
    };
    let request = &request;
    ask(app, question, |worker: WorkerClient| async move {
        worker.embed(request).await
    })
    .await
}
