use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use daemon_shell::{ErrorResponse, JsonBody, PathArg, event_stream};
use diagnostics::Diagnostic;
use futures_util::{Stream, stream};
use http::StatusCode;
use inference_execution::RequestStream;
use input_validation::RequestId;
use worker_contract::{InferRequest, InferResponse, StreamEvent};

use crate::{
    errors,
    responses::{CancelErrors, InferErrors},
    worker::Worker,
};

/// Approximate maximum size of the events that are written together.
const WRITE_BYTES: usize = 16 << 10;

/// Generates text. Returns events as they occur, or a single document with `stream: false`.
/// Closing the connection cancels the request.
#[utoipa::path(post, path = "/v1/infer", tag = "inference", request_body = InferRequest, responses(
    (status = 200, description = "Events, the last of which is either `end` or `error`; a single document with `stream: false`",
     content(("text/event-stream", item_schema = StreamEvent), (InferResponse = "application/json"))),
    InferErrors,
))]
pub async fn infer(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<InferRequest>,
) -> Result<Response, ErrorResponse> {
    let id = request.request_id.clone();
    let streaming = request.stream;
    let events = worker.service()?.submit(request).await?;
    let events = ObservedEvents {
        events,
        worker,
        first_token_observed: false,
    };
    if streaming {
        return Ok(event_stream(encode(events)));
    }
    let document = collect(events, &id).await?;
    Ok(Json(document).into_response())
}

/// Cancels a request and its other choices. Does nothing if none of them is running.
#[utoipa::path(delete, path = "/v1/infer/{request_id}", tag = "inference",
    params(("request_id" = RequestId, Path, description = "Id of the request")), responses(
    (status = 204, description = "The request is not running any more"),
    CancelErrors,
))]
pub async fn cancel(State(worker): State<Worker>, PathArg(id): PathArg<RequestId>) -> StatusCode {
    if let Ok(service) = worker.service() {
        service.cancel(&id);
    }
    StatusCode::NO_CONTENT
}

/// The events of a request. Adds the time to its first token to the worker's histogram.
struct ObservedEvents {
    events: RequestStream,
    worker: Worker,
    first_token_observed: bool,
}

impl ObservedEvents {
    async fn recv(&mut self) -> Option<StreamEvent> {
        let event = self.events.recv().await;
        self.observe(event)
    }

    fn try_recv(&mut self) -> Option<StreamEvent> {
        let event = self.events.try_recv();
        self.observe(event)
    }

    fn observe(&mut self, event: Option<StreamEvent>) -> Option<StreamEvent> {
        if matches!(event, Some(StreamEvent::Token(_)))
            && !self.first_token_observed
            && let Some(elapsed) = self.events.time_to_first_token()
        {
            self.first_token_observed = true;
            let histogram = self.worker.first_token_seconds();
            histogram.observe(elapsed.as_secs_f64());
        }
        event
    }
}

/// Encodes the events as SSE. Events that are available at the same time are written together.
fn encode(events: ObservedEvents) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(events, |mut events| async move {
        let mut event = events.recv().await?;
        let mut out = Vec::with_capacity(256);
        loop {
            if let Err(error) = event.write_sse(&mut out) {
                tracing::error!(%error, event = event.name(), "cannot encode an event");
            }
            if out.len() >= WRITE_BYTES {
                break;
            }
            match events.try_recv() {
                Some(next) => event = next,
                None => break,
            }
        }
        Some((Bytes::from(out), events))
    })
}

/// Collects the events into a document. Returns the error if the request ended with one.
async fn collect(mut events: ObservedEvents, id: &RequestId) -> Result<InferResponse, Diagnostic> {
    let mut started = None;
    let (mut text, mut reasoning) = (String::new(), String::new());
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    let mut tool_calls = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            StreamEvent::Started(event) => started = Some(event),
            StreamEvent::Token(token) => {
                text.push_str(&token.t);
                reasoning.push_str(&token.reasoning);
                for piece in token.calls {
                    piece.append_to(&mut tool_calls);
                }
                tokens.push(token.id);
                logprobs.extend(token.logprob);
            }
            StreamEvent::Metrics(_) => {}
            StreamEvent::Error(error) => return Err(error),
            StreamEvent::End(end) => {
                let Some(started) = started else { break };
                return Ok(InferResponse {
                    request_id: started.request_id,
                    model: started.model,
                    seed: started.seed,
                    sampling: started.sampling,
                    text,
                    reasoning,
                    notes: started.notes,
                    tokens,
                    logprobs,
                    tool_calls,
                    reason: end.reason,
                    usage: end.usage,
                    timings: end.timings,
                });
            }
        }
    }
    Err(errors::stream_incomplete(id))
}
