//! Serves parsed requests of all dialects.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use daemon_shell::{Answer, event_stream, line_stream};
use diagnostics::Diagnostic;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use input_validation::ModelRef;
use jiff::Timestamp;
use openai_gateway::{FieldNames, ParsedRequest, RequestContext, ResponseFormat, ResponseWriter};
use queen_contract::InferEvent;
use scheduler::Want;
use worker_contract::StreamEvent;

use super::{
    answers::{BATCH, Source as _, broken_off, carry, encoded, named, new_request_id, opening},
    choices::{self, ChoiceEvent, Choices, Others},
};
use crate::app::App;

/// Returns the context of a request that has just arrived.
pub fn request_context() -> Result<RequestContext, Diagnostic> {
    Ok(RequestContext {
        request_id: new_request_id()?,
        received_at: Timestamp::now(),
        system_fingerprint: concat!("rbee-", env!("CARGO_PKG_VERSION")),
    })
}

/// Runs a request and returns the response in its dialect. An error before the first event is
/// an HTTP error, even if the response is streamed.
pub async fn respond(
    app: &Arc<App>,
    headers: &HeaderMap,
    model: ModelRef,
    parsed: ParsedRequest,
) -> Result<Response, Answer> {
    app.models.check(&model).await?;
    let ParsedRequest {
        mut request,
        choices,
        format,
        field_names,
        mut writer,
        ..
    } = parsed;
    let id = request.request_id.clone();
    let want = Want {
        model,
        backend: None,
        node: None,
    };
    let others = Others {
        requests: choices::requests(&mut request, choices)?,
        app: Arc::clone(app),
        want: want.clone(),
        headers: headers.clone(),
    };
    let mut first = carry(app, want, request, headers)?;
    let response = async {
        let opening = opening(&mut first).await?;
        let mut start = Vec::new();
        writer.start(&opening.started, &mut start);
        let choices = Choices::new(&id, first, others);
        let mut response = match format {
            ResponseFormat::Document => document(start, choices, writer).await?,
            ResponseFormat::Events => event_stream(body(start, choices, writer, field_names)),
            ResponseFormat::JsonLines => {
                let lines = body(start, choices, writer, field_names);
                line_stream(lines.map(Ok::<_, Infallible>))
            }
        };
        opening.mark(&mut response);
        Ok(response)
    };
    let response = response.await.unwrap_or_else(|error: Diagnostic| {
        let error = field_names.translate(error);
        Answer(error.correlated(id.as_str())).into_response()
    });
    Ok(named(response, &id))
}

/// Returns the body of a streamed response, which begins with `start`.
fn body(
    start: Vec<u8>,
    choices: Choices,
    mut writer: Box<dyn ResponseWriter>,
    field_names: FieldNames,
) -> impl stream::Stream<Item = Bytes> + Send + 'static {
    let rest = encoded(
        choices,
        move |(choice, event): ChoiceEvent, out: &mut Vec<u8>| match event {
            InferEvent::Worker(StreamEvent::Token(token)) => writer.token(choice, token, out),
            InferEvent::Worker(StreamEvent::End(end)) => {
                writer.end(choice, &end, out);
            }
            InferEvent::Worker(StreamEvent::Error(error)) => {
                writer.error(field_names.translate(error), out);
            }
            _ => {}
        },
    );
    let start = stream::iter((!start.is_empty()).then(|| Bytes::from(start)));
    start.chain(rest)
}

/// Returns a response that is complete when all choices have ended.
async fn document(
    mut body: Vec<u8>,
    mut choices: Choices,
    mut writer: Box<dyn ResponseWriter>,
) -> Result<Response, Diagnostic> {
    let mut events = Vec::with_capacity(BATCH);
    let mut complete = false;
    while !complete {
        if choices.recv_many(&mut events, BATCH).await == 0 {
            return Err(broken_off());
        }
        for (choice, event) in events.drain(..) {
            match event {
                InferEvent::Worker(StreamEvent::Token(token)) => {
                    writer.token(choice, token, &mut body);
                }
                InferEvent::Worker(StreamEvent::End(end)) => {
                    complete = writer.end(choice, &end, &mut body);
                }
                InferEvent::Worker(StreamEvent::Error(error)) => {
                    return Err(error.detail("partial_text", writer.partial_text()));
                }
                _ => {}
            }
        }
    }
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}
