use axum::{Json, extract::State};
use daemon_shell::{ErrorResponse, JsonBody};
use worker_contract::{EmbedRequest, EmbedResponse};

use crate::{errors, responses::InferErrors, worker::Worker};

/// Computes embeddings. Closing the connection cancels the request.
#[utoipa::path(post, path = "/v1/embed", tag = "inference", request_body = EmbedRequest, responses(
    (status = 200, description = "One vector of length 1 per input", body = EmbedResponse),
    InferErrors,
))]
pub async fn embed(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<EmbedRequest>,
) -> Result<Json<EmbedResponse>, ErrorResponse> {
    let runtime = worker.runtime()?.clone();
    let id = request.request_id.clone();
    // Tokenizing long texts blocks.
    let mut reply = tokio::task::spawn_blocking(move || runtime.embed(&request))
        .await
        .map_err(|e| errors::submit_panicked(&id, e))??;
    let vectors = reply.vectors().await;
    Ok(Json(EmbedResponse {
        vectors: vectors.map_err(|error| error.correlation_id(id.as_str()))?,
        prompt_tokens: reply.prompt_tokens(),
        model: worker.config().model.clone(),
        request_id: id,
    }))
}
