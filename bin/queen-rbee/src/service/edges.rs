//! Serves the edges that write their answers by an [`AnswerWriter`].

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
use openai_gateway::{AnswerWriter, Asked, ClientFields, in_clients_words};
use queen_contract::InferEvent;
use scheduler::Want;
use tokio::sync::mpsc;
use worker_contract::StreamEvent;

use super::answers::{broken_off, carry, encoded, named, opening};
use crate::app::App;

/// How an edge streams.
#[derive(Debug, Clone, Copy)]
pub enum Streaming {
    /// Server-sent events.
    Events,
    /// Lines of JSON.
    Lines,
}

/// Answers a request. Until its first event an error is an HTTP error, also of a stream.
pub async fn serve(
    app: &Arc<App>,
    headers: &HeaderMap,
    model: ModelRef,
    asked: Asked,
    streaming: Streaming,
    writer: impl AnswerWriter,
) -> Result<Response, Answer> {
    app.models.check(&model).await?;
    let id = asked.request.request_id.clone();
    let want = Want {
        model,
        backend: None,
        node: None,
    };
    let streaming = asked.stream.then_some(streaming);
    let fields = asked.fields;
    let events = carry(app, want, asked.request, headers)?;
    let response = match answer(events, streaming, writer, fields).await {
        Ok(response) => response,
        Err(error) => {
            let error = in_clients_words(error, fields);
            Answer(error.correlated(id.as_str())).into_response()
        }
    };
    Ok(named(response, &id))
}

async fn answer(
    mut events: mpsc::Receiver<InferEvent>,
    streaming: Option<Streaming>,
    mut writer: impl AnswerWriter,
    fields: ClientFields,
) -> Result<Response, Diagnostic> {
    let opening = opening(&mut events).await?;
    let mut first = Vec::new();
    writer.start(&opening.started, &mut first);
    let mut response = match streaming {
        Some(streaming) => streamed(first, events, streaming, writer, fields),
        None => whole(first, events, writer).await?,
    };
    opening.mark(&mut response);
    Ok(response)
}

fn streamed(
    first: Vec<u8>,
    events: mpsc::Receiver<InferEvent>,
    streaming: Streaming,
    mut writer: impl AnswerWriter,
    fields: ClientFields,
) -> Response {
    let rest = encoded(events, move |event, out| match event {
        InferEvent::Worker(StreamEvent::Token(token)) => writer.token(token, out),
        InferEvent::Worker(StreamEvent::End(end)) => writer.end(&end, out),
        InferEvent::Worker(StreamEvent::Error(error)) => {
            writer.error(in_clients_words(error, fields), out);
        }
        _ => {}
    });
    let first = stream::iter((!first.is_empty()).then(|| Bytes::from(first)));
    let pieces = first.chain(rest);
    match streaming {
        Streaming::Events => event_stream(pieces),
        Streaming::Lines => line_stream(pieces.map(Ok::<_, Infallible>)),
    }
}

async fn whole(
    mut body: Vec<u8>,
    mut events: mpsc::Receiver<InferEvent>,
    mut writer: impl AnswerWriter,
) -> Result<Response, Diagnostic> {
    while let Some(event) = events.recv().await {
        match event {
            InferEvent::Worker(StreamEvent::Token(token)) => writer.token(token, &mut body),
            InferEvent::Worker(StreamEvent::End(end)) => {
                writer.end(&end, &mut body);
                let mut response = Response::new(Body::from(body));
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
                return Ok(response);
            }
            InferEvent::Worker(StreamEvent::Error(error)) => {
                return Err(error.detail("partial_text", writer.partial()));
            }
            _ => {}
        }
    }
    Err(broken_off())
}
