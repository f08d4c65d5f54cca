use std::sync::Arc;

use axum::{extract::State, response::Response};
use daemon_shell::{Answer, JsonBody, PathArg, event_stream};
use diagnostics::{Code, Diagnostic, ErrorBody};
use http::{HeaderMap, StatusCode};
use input_validation::RequestId;
use queen_contract::{InferCall, InferEvent};
use scheduler::{Event, Want};
use worker_contract::StreamEvent;

use super::answers::{carry, encoded, named};
use crate::app::App;

/// Infer, with narration
///
/// Answers at once. Events: `narration` while it waits, `assigned`, `started`, `token` …,
/// `metrics`, then one of `end` and `error`, last.
#[utoipa::path(post, path = "/v1/infer", tag = "inference", request_body = InferCall,
    params(("x-request-deadline" = Option<String>, Header, description = "RFC 3339")),
    responses((status = 200, body = StreamEvent, content_type = "text/event-stream"),
        (status = "default", body = ErrorBody)))]
pub async fn infer(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(call): JsonBody<InferCall>,
) -> Result<Response, Answer> {
    app.models.check(&call.model).await?;
    if let Some(node) = &call.node
        && *node != app.home_node
    {
        return Err(Answer(
            Diagnostic::new(Code::NodeNotFound, format!("there is no node {node}"))
                .hint("`rbee-keeper status` lists the nodes")
                .param("node"),
        ));
    }
    let id = call.request.request_id.clone();
    let want = Want {
        model: call.model,
        backend: call.backend,
        node: call.node,
    };
    let events = carry(&app, want, call.request, &headers)?;
    let written = encoded(events, |event: InferEvent, out: &mut Vec<u8>| {
        // Plain data into memory: it cannot fail.
        let _ = event.write_sse(out);
    });
    Ok(named(event_stream(written), &id))
}

/// Cancel a request, with all its answers; idempotent
#[utoipa::path(delete, path = "/v1/infer/{id}", tag = "inference",
    params(("id" = String, Path, description = "the request's name")),
    responses((status = 204, description = "it ends, or had ended"),
        (status = "default", body = ErrorBody)))]
pub async fn cancel(State(app): State<Arc<App>>, PathArg(id): PathArg<RequestId>) -> StatusCode {
    app.groups.cancel(&id);
    let error = Diagnostic::new(Code::Cancelled, "the request was cancelled");
    app.dispatcher.tell(Event::Cancel(id, error)).await;
    StatusCode::NO_CONTENT
}
