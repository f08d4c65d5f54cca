use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{Answer, JsonBody};
use diagnostics::{Diagnostic, ErrorBody};
use http::HeaderMap;
use input_validation::ModelRef;
use openai_gateway::{
    EmbeddingsAnswer, EmbeddingsCall, EmbeddingsRequest,
    ollama::{
        OllamaEmbedAnswer, OllamaEmbedCall, OllamaEmbedRequest, OllamaEmbeddingsAnswer,
        OllamaEmbeddingsRequest, OllamaError,
    },
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
    responses((status = 200, body = EmbeddingsAnswer), (status = "default", body = ErrorBody)))]
pub async fn openai(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    let mut call = EmbeddingsCall::parse(&body)?;
    let model = models::parse(&call.model)?;
    let inputs = std::mem::take(&mut call.inputs);
    let (vectors, origin) = embed(&app, model, inputs, false, &headers).await?;
    Ok(document(&origin, call.answer(vectors)?))
}

/// Vectors of texts, as Ollama's clients ask for them
#[utoipa::path(post, path = "/api/embed", tag = "ollama", request_body = OllamaEmbedRequest,
    responses((status = 200, body = OllamaEmbedAnswer), (status = "default", body = OllamaError)))]
pub async fn ollama(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, Answer> {
    let arrived = Instant::now();
    let mut call = OllamaEmbedCall::parse(&body)?;
    let model = meant(&app, &call.model).await?;
    let inputs = std::mem::take(&mut call.inputs);
    let (vectors, origin) = embed(&app, model, inputs, call.truncate, &headers).await?;
    let answer = call.answer(vectors, arrived.elapsed(), origin.waited)?;
    Ok(document(&origin, answer))
}

/// The vector of a text, as Ollama's older clients ask for it
#[utoipa::path(post, path = "/api/embeddings", tag = "ollama", request_body = OllamaEmbeddingsRequest,
    responses((status = 200, body = OllamaEmbeddingsAnswer), (status = "default", body = OllamaError)))]
pub async fn ollama_older(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, Answer> {
    let call = OllamaEmbedCall::parse_older(&body)?;
    let model = meant(&app, &call.model).await?;
    let (vectors, origin) = embed(&app, model, call.inputs, call.truncate, &headers).await?;
    Ok(document(&origin, OllamaEmbeddingsAnswer::new(vectors)))
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
