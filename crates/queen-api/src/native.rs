use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, PathArg, event_stream};
use http::{HeaderMap, StatusCode};
use input_validation::RequestId;
use queen_contract::{InferCall, InferEvent};
use scheduler::WorkerRequirements;
use serde_json::Value;

use crate::{
    Api,
    inference::{encode, infer_job, read_call, requirements, with_request_id},
    responses::{Events, IdErrors, RequestHeaders, StreamErrors},
};

const INFER: &str =
    r#"{"model": "builtin:haiku", "request_id": "r-1", "input": {"prompt": "text"}}"#;

/// Run a request and stream its events, narration included
///
/// The response begins at once. Events: `waiting` with the position in the queue, and `narration`
/// of what the request waits for; `assigned`, `started`, `token` for every token, `metrics`, and last either `end` or `error`. Errors of
/// the request, except those that are found before it waits, are events as well.
#[utoipa::path(post, path = "/v1/infer", tag = "inference", request_body = InferCall,
    params(RequestHeaders), responses(Events<InferEvent>, StreamErrors))]
pub(crate) async fn infer(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, ErrorResponse> {
    let body: InferCall = read_call(body, INFER)?;
    let model = api.nodes.canonical_model(body.model).await;
    let model = api.nodes.check_model(&model).await?;
    if let Some(node) = &body.node {
        api.nodes.get(node)?;
    }
    let id = body.request.request_id.clone();
    let requirements = WorkerRequirements {
        backend: body.backend,
        node: body.node,
        ..requirements(&api, model, &body.request).await?
    };
    let job = infer_job(&api, requirements, body.request, body.priority, &headers)?;
    let events = api.relay.infer(job, 1, Vec::new())?;
    let encoded = encode(events, |(_, event), out| {
        // Serializing plain data into memory cannot fail.
        let _ = event.write_sse(out);
    });
    Ok(with_request_id(event_stream(encoded), &id))
}

/// Cancel a request with all its choices (idempotent)
#[utoipa::path(delete, path = "/v1/infer/{id}", tag = "inference",
    params(("id" = RequestId, Path, description = "id of the request")),
    responses((status = 204, description = "the request is being cancelled, or has ended before"),
        IdErrors))]
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    PathArg(id): PathArg<RequestId>,
) -> StatusCode {
    api.relay.cancel(id).await;
    StatusCode::NO_CONTENT
}
