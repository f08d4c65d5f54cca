use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody};
use diagnostics::Diagnostic;
use http::HeaderMap;
use input_validation::ModelRef;
use openai_gateway::{
    ollama::{
        OllamaEmbedRequest, OllamaEmbedResponse, OllamaEmbeddingsRequest, OllamaEmbeddingsResponse,
        ParsedOllamaEmbedRequest,
    },
    openai::{EmbeddingsRequest, EmbeddingsResponse, ParsedEmbeddingsRequest},
};
use request_relay::CallOrigin;
use serde_json::Value;
use tokio::time::Instant;
use worker_contract::{EmbedRequest, EmbedResponse, InferInput, WorkerClient};

use crate::{
    Api,
    inference::{call_response, find_model, short_call},
    ollama::AnyJson,
    responses::{CallResponse, OllamaErrors, OpenAiErrors, RequestHeaders},
};

/// Create embeddings
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingsRequest,
    params(RequestHeaders), responses(CallResponse<EmbeddingsResponse>, OpenAiErrors))]
pub(crate) async fn openai(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let mut parsed = ParsedEmbeddingsRequest::parse(&body)?;
    let model = find_model(&api, &parsed.model).await?;
    let inputs = std::mem::take(&mut parsed.inputs);
    let (vectors, origin) = embed(&api, model, inputs, false, &headers).await?;
    Ok(call_response(&origin, parsed.into_response(vectors)?))
}

/// Create embeddings
#[utoipa::path(post, path = "/api/embed", tag = "ollama", request_body = OllamaEmbedRequest,
    params(RequestHeaders), responses(CallResponse<OllamaEmbedResponse>, OllamaErrors))]
pub(crate) async fn ollama(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, ErrorResponse> {
    let arrived = Instant::now();
    let mut parsed = ParsedOllamaEmbedRequest::parse(&body)?;
    let model = find_model(&api, &parsed.model).await?;
    let inputs = std::mem::take(&mut parsed.inputs);
    let (vectors, origin) = embed(&api, model, inputs, parsed.truncate, &headers).await?;
    let response = parsed.into_response(vectors, arrived.elapsed(), origin.waited)?;
    Ok(call_response(&origin, response))
}

/// Create the embedding of one text (superseded by `/api/embed`)
#[utoipa::path(post, path = "/api/embeddings", tag = "ollama", request_body = OllamaEmbeddingsRequest,
    params(RequestHeaders), responses(CallResponse<OllamaEmbeddingsResponse>, OllamaErrors))]
pub(crate) async fn ollama_legacy(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, ErrorResponse> {
    let parsed = ParsedOllamaEmbedRequest::parse_superseded(&body)?;
    let model = find_model(&api, &parsed.model).await?;
    let (vectors, origin) = embed(&api, model, parsed.inputs, parsed.truncate, &headers).await?;
    Ok(call_response(
        &origin,
        OllamaEmbeddingsResponse::from(vectors),
    ))
}

async fn embed(
    api: &Api,
    model: ModelRef,
    inputs: Vec<InferInput>,
    truncate: bool,
    headers: &HeaderMap,
) -> Result<(EmbedResponse, CallOrigin), Diagnostic> {
    let (call, deadline) = short_call(api, model, headers).await?;
    let request = EmbedRequest {
        request_id: call.id.clone(),
        inputs,
        truncate,
        deadline,
    };
    let request = &request;
    let embed = |worker: WorkerClient| async move { worker.embed(request).await };
    api.relay.call(call, embed).await
}
