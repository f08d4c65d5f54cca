use axum::{Json, extract::State};
use daemon_shell::{ErrorResponse, JsonBody};
use worker_contract::{EmbedRequest, EmbedResponse};

use crate::{responses::InferErrors, worker::Worker};

/// Computes embeddings. Closing the connection cancels the request.
#[utoipa::path(post, path = "/v1/embed", tag = "inference", request_body = EmbedRequest, responses(
    (status = 200, description = "One vector of length 1 per input", body = EmbedResponse),
    InferErrors,
))]
pub async fn embed(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<EmbedRequest>,
) -> Result<Json<EmbedResponse>, ErrorResponse> {
    let service = worker.service()?;
    Ok(Json(service.embed(request).await?))
}
