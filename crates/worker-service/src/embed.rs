use axum::{Json, extract::State};
use daemon_shell::{Answer, JsonBody};
use diagnostics::{Diagnostic, ErrorBody};
use worker_contract::{EmbedRequest, EmbedResponse};

use crate::Worker;

/// Vectors of texts, as the model makes them. A client that goes away cancels the request.
#[utoipa::path(post, path = "/v1/embed", tag = "inference", request_body = EmbedRequest, responses(
    (status = 200, description = "One vector of length 1 for each input", body = EmbedResponse),
    (status = 400, description = "An input is wrong or does not fit the context, or the model makes no vectors", body = ErrorBody),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
    (status = 408, description = "The deadline passed", body = ErrorBody),
    (status = 409, description = "A request of this name is running", body = ErrorBody),
    (status = 499, description = "The request was cancelled", body = ErrorBody),
    (status = 503, description = "It loads, drains, or all slots are busy", body = ErrorBody),
))]
pub async fn embed(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<EmbedRequest>,
) -> Result<Json<EmbedResponse>, Answer> {
    let runtime = worker.runtime()?.clone();
    let id = request.request_id.clone();
    // Long texts take their time to be encoded.
    let mut reply = tokio::task::spawn_blocking(move || runtime.embed(&request))
        .await
        .map_err(|e| Diagnostic::internal(format!("submitting request {id}: {e}")))??;
    let vectors = reply.vectors().await;
    Ok(Json(EmbedResponse {
        vectors: vectors.map_err(|error| error.correlated(id.as_str()))?,
        prompt_tokens: reply.prompt_tokens(),
        model: worker.config().model.clone(),
        request_id: id,
    }))
}
