//! Serves parsed requests of all dialects.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, event_stream_kept_alive, line_stream};
use diagnostics::{Diagnostic, escape};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use input_validation::ModelRef;
use jiff::Timestamp;
use openai_gateway::{FieldNames, ParsedRequest, RequestContext, ResponseFormat, ResponseWriter};
use queen_contract::{HEADER_DEADLINE, InferEvent};
use request_relay::Choices;
use tokio::time::timeout;
use worker_contract::StreamEvent;

use crate::{
    Api,
    errors::ended_early,
    further_inputs,
    inference::{
        Opening, add_notes, encode, header_text, infer_job, new_request_id, requirements,
        with_request_id,
    },
};

/// Returns the context of a request that has just arrived.
pub(crate) fn request_context() -> Result<RequestContext, Diagnostic> {
    Ok(RequestContext {
        request_id: new_request_id()?,
        received_at: Timestamp::now(),
        system_fingerprint: concat!("rbee-", env!("CARGO_PKG_VERSION")),
    })
}

/// Runs a request and returns the response in its dialect.
///
/// An error before the request starts is an HTTP error, even if the response is streamed. If it
/// takes longer than the grace to start, the headers of a stream are sent without what is not
/// known yet, and a later error is an event.
pub(crate) async fn respond(
    api: &Api,
    headers: &HeaderMap,
    model: ModelRef,
    parsed: ParsedRequest,
) -> Result<Response, ErrorResponse> {
    let model = api.nodes.check_model(&model).await?;
    let fields = ClientFields::of(&parsed);
    let ParsedRequest {
        request,
        choices,
        further_inputs,
        format,
        priority,
        notes,
        mut writer,
        ..
    } = parsed;
    let id = request.request_id.clone();
    let max_tokens = request.max_tokens;
    let requirements = requirements(api, model.clone(), &request)
        .await
        .map_err(|error| fields.in_input(error, 0))?;
    let job = infer_job(api, requirements, request, priority, headers)?;
    further_inputs::check(api, headers, &model, &further_inputs, format)
        .await
        .map_err(|(input, error)| fields.in_input(error, input))?;
    let mut events = api.relay.infer(job, choices, further_inputs)?;
    let response = async {
        let mut opening = Opening::new();
        let starting = opening.started(&mut events);
        let in_choice = |(choice, error)| fields.in_choice(error, choice);
        let started = match format {
            ResponseFormat::Document => Some(starting.await.map_err(in_choice)?),
            ResponseFormat::Events | ResponseFormat::JsonLines => {
                let started = timeout(api.header_grace, starting).await.ok();
                started.transpose().map_err(in_choice)?
            }
        };
        let mut start = Vec::new();
        let Some(mut started) = started else {
            if format == ResponseFormat::Events {
                let waits_for = opening.waits_for.as_deref();
                write_comment(waits_for.unwrap_or("waiting"), &mut start);
                start.extend_from_slice(writer.keep_alive());
            }
            let mut response = stream_response(format, start, false, events, writer, fields);
            add_notes(&mut response, &notes);
            return Ok(response);
        };
        started.notes.splice(..0, notes);
        if let (Some(max), Some(assigned)) = (max_tokens, &opening.assigned) {
            let context_length = api.context_length(&model, &assigned.worker).await?;
            let left = context_length.saturating_sub(started.prompt_tokens);
            if context_length > 0 && max > left {
                let field = fields.names.client_name("max_tokens");
                let note = format!("`{field}` is {max}, but the context leaves {left} tokens");
                started.notes.push(note);
            }
        }
        writer.start(&started, &mut start);
        let mut response = match format {
            ResponseFormat::Document => document(start, events, writer)
                .await
                .map_err(|(choice, error)| fields.in_choice(error, choice))?,
            _ => stream_response(format, start, true, events, writer, fields),
        };
        opening.add_headers(&started, &mut response);
        Ok(response)
    };
    let response = response.await.unwrap_or_else(|error: Diagnostic| {
        ErrorResponse(error.correlation_id(id.as_str())).into_response()
    });
    Ok(with_request_id(response, &id))
}

/// The fields of the client's request, which errors name.
#[derive(Debug, Clone, Copy)]
struct ClientFields {
    names: FieldNames,
    /// Choices for each input.
    choices: u32,
    has_further_inputs: bool,
}

impl ClientFields {
    fn of(parsed: &ParsedRequest) -> Self {
        Self {
            names: parsed.field_names,
            choices: parsed.choices,
            has_further_inputs: !parsed.further_inputs.is_empty(),
        }
    }

    fn in_choice(&self, error: Diagnostic, choice: u32) -> Diagnostic {
        let input = choice.checked_div(self.choices).unwrap_or_default();
        self.in_input(error, input as usize)
    }

    fn in_input(&self, error: Diagnostic, input: usize) -> Diagnostic {
        let error = error.rename_param("deadline", HEADER_DEADLINE);
        if self.has_further_inputs {
            self.names.translate_input(error, input)
        } else {
            self.names.translate(error)
        }
    }
}

/// Returns a streamed response whose body begins with `start`. `started` is whether that
/// includes the writer's start.
fn stream_response(
    format: ResponseFormat,
    start: Vec<u8>,
    mut started: bool,
    events: Choices,
    mut writer: Box<dyn ResponseWriter>,
    fields: ClientFields,
) -> Response {
    let keep_alive = writer.keep_alive();
    let comments = format == ResponseFormat::Events;
    let rest = encode(events, move |(choice, event), out| {
        if !comments {
            writer.set_time(Timestamp::now());
        }
        match event {
            InferEvent::Worker(StreamEvent::Token(token)) => writer.token(choice, token, out),
            InferEvent::Worker(StreamEvent::End(end)) => {
                writer.end(choice, &end, out);
            }
            InferEvent::Worker(StreamEvent::Error(error)) => {
                writer.error(fields.in_choice(error, choice), out);
            }
            InferEvent::Worker(StreamEvent::Started(event)) if !started => {
                started = true;
                if comments && !event.notes.is_empty() {
                    write_comment(&header_text(&event.notes), out);
                }
                writer.start(&event, out);
            }
            InferEvent::Narration(narration) if comments => write_comment(&narration.message, out),
            InferEvent::Waiting(waiting) if comments => write_comment(&waiting.message, out),
            _ => {}
        }
    });
    let start = stream::iter((!start.is_empty()).then(|| Bytes::from(start)));
    let body = start.chain(rest);
    if comments {
        event_stream_kept_alive(body, keep_alive)
    } else {
        line_stream(body.map(Ok::<_, Infallible>))
    }
}

/// Appends a comment, which clients of server-sent events ignore.
fn write_comment(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b": ");
    out.extend_from_slice(escape(text).as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// Returns a response that is complete when all choices have ended. An error comes with its
/// choice.
async fn document(
    mut body: Vec<u8>,
    mut events: Choices,
    mut writer: Box<dyn ResponseWriter>,
) -> Result<Response, (u32, Diagnostic)> {
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
                let error = error.detail("partial_text", writer.partial_text());
                return Err((choice, error));
            }
            _ => {}
        }
    }
    Err((0, ended_early()))
}
