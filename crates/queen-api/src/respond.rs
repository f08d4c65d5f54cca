//! Serves parsed requests of all dialects.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, event_stream, line_stream};
use diagnostics::Diagnostic;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use input_validation::ModelRef;
use jiff::Timestamp;
use openai_gateway::{FieldNames, ParsedRequest, RequestContext, ResponseFormat, ResponseWriter};
use queen_contract::InferEvent;
use request_relay::Choices;
use scheduler::WorkerRequirements;
use worker_contract::StreamEvent;

use crate::{
    Api,
    errors::ended_early,
    inference::{encode, infer_job, new_request_id, opening, with_request_id},
};

/// Returns the context of a request that has just arrived.
pub(crate) fn request_context() -> Result<RequestContext, Diagnostic> {
    Ok(RequestContext {
        request_id: new_request_id()?,
        received_at: Timestamp::now(),
        system_fingerprint: concat!("rbee-", env!("CARGO_PKG_VERSION")),
    })
}

/// Runs a request and returns the response in its dialect. An error before the first event is
/// an HTTP error, even if the response is streamed.
pub(crate) async fn respond(
    api: &Api,
    headers: &HeaderMap,
    model: ModelRef,
    parsed: ParsedRequest,
) -> Result<Response, ErrorResponse> {
    api.nodes.check_model(&model).await?;
    let ParsedRequest {
        request,
        choices,
        format,
        field_names,
        notes,
        mut writer,
        ..
    } = parsed;
    let id = request.request_id.clone();
    let job = infer_job(api, WorkerRequirements::model(model), request, headers)?;
    let mut events = api.relay.infer(job, choices)?;
    let response = async {
        let mut opening = opening(&mut events).await?;
        opening.started.notes.splice(..0, notes);
        let mut start = Vec::new();
        writer.start(&opening.started, &mut start);
        let mut response = match format {
            ResponseFormat::Document => document(start, events, writer).await?,
            ResponseFormat::Events => event_stream(body(start, events, writer, field_names)),
            ResponseFormat::JsonLines => {
                let lines = body(start, events, writer, field_names);
                line_stream(lines.map(Ok::<_, Infallible>))
            }
        };
        opening.add_headers(&mut response);
        Ok(response)
    };
    let response = response.await.unwrap_or_else(|error: Diagnostic| {
        let error = field_names.translate(error);
        ErrorResponse(error.correlation_id(id.as_str())).into_response()
    });
    Ok(with_request_id(response, &id))
}

/// Returns the body of a streamed response, which begins with `start`.
fn body(
    start: Vec<u8>,
    events: Choices,
    mut writer: Box<dyn ResponseWriter>,
    field_names: FieldNames,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let rest = encode(events, move |(choice, event), out| match event {
        InferEvent::Worker(StreamEvent::Token(token)) => writer.token(choice, token, out),
        InferEvent::Worker(StreamEvent::End(end)) => {
            writer.end(choice, &end, out);
        }
        InferEvent::Worker(StreamEvent::Error(error)) => {
            writer.error(field_names.translate(error), out);
        }
        _ => {}
    });
    let start = stream::iter((!start.is_empty()).then(|| Bytes::from(start)));
    start.chain(rest)
}

/// Returns a response that is complete when all choices have ended.
async fn document(
    mut body: Vec<u8>,
    mut events: Choices,
    mut writer: Box<dyn ResponseWriter>,
) -> Result<Response, Diagnostic> {
    while let Some((choice, event)) = events.next().await {
        match event {
            InferEvent::Worker(StreamEvent::Token(token)) => writer.token(choice, token, &mut body),
            InferEvent::Worker(StreamEvent::End(end)) if writer.end(choice, &end, &mut body) => {
                let mut response = Response::new(Body::from(body));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                return Ok(response);
            }
            InferEvent::Worker(StreamEvent::Error(error)) => {
                return Err(error.detail("partial_text", writer.partial_text()));
            }
            _ => {}
        }
    }
    Err(ended_early())
}
