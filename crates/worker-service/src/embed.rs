use axum::{Json, extract::State};
use daemon_shell::{ErrorResponse, JsonBody};
use diagnostics::ErrorBody;
use worker_contract::{EmbedRequest, EmbedResponse};

use crate::{errors, worker::Worker};

/// Computes embeddings. Closing the connection cancels the request.
#[utoipa::path(post, path = "/v1/embed", tag = "inference", request_body = EmbedRequest, responses(
    (status = 200, description = "One vector of length 1 per input", body = EmbedResponse),
    (status = 400, description = "An input is invalid or exceeds the context length, or the model does not compute embeddings", body = ErrorBody),
    (status = 401, description = "The token is missing or wrong", body = ErrorBody),
    (status = 408, description = "The deadline passed", body = ErrorBody),
    (status = 409, description = "A request with this id is running", body = ErrorBody),
    (status = 499, description = "The request was cancelled", body = ErrorBody),
    (status = 503, description = "The worker is loading or draining, or all slots are busy", body = ErrorBody),
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
