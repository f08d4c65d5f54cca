use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use daemon_shell::{Answer, JsonBody, PathArg, event_stream};
use diagnostics::{Diagnostic, ErrorBody};
use futures_util::{Stream, stream};
use http::StatusCode;
use inference_execution::RequestStream;
use input_validation::RequestId;
use worker_contract::{InferRequest, InferResponse, StreamEvent};

use crate::Worker;

/// Events that are ready together travel in one chunk of about this size.
const CHUNK_BYTES: usize = 16 << 10;

/// Infers: events as they come, or one document with `stream: false`. A client that goes
/// away cancels the request.
#[utoipa::path(post, path = "/v1/infer", tag = "inference", request_body = InferRequest, responses(
    (status = 200, description = "Events, exactly one of `end` and `error` last; one document with `stream: false`",
     content((StreamEvent = "text/event-stream"), (InferResponse = "application/json"))),
    (status = 400, description = "The request is wrong or does not fit the context", body = ErrorBody),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
    (status = 408, description = "The deadline passed", body = ErrorBody),
    (status = 409, description = "A request of this name is running", body = ErrorBody),
    (status = 413, description = "The body is too large", body = ErrorBody),
    (status = 415, description = "The body is not JSON", body = ErrorBody),
    (status = 499, description = "The request was cancelled", body = ErrorBody),
    (status = 503, description = "It loads, drains, or all slots are busy", body = ErrorBody),
))]
pub async fn infer(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<InferRequest>,
) -> Result<Response, Answer> {
    let runtime = worker.runtime()?.clone();
    let id = request.request_id.clone();
    let streaming = request.stream;
    // A long prompt takes its time to be encoded.
    let events = tokio::task::spawn_blocking(move || runtime.submit(request))
        .await
        .map_err(|e| Diagnostic::internal(format!("submitting request {id}: {e}")))??;
    let events = Observed {
        events,
        worker,
        first_token_seen: false,
    };
    if streaming {
        return Ok(event_stream(encoded(events)));
    }
    let document = collect(events).await?;
    Ok(Json(document).into_response())
}

/// Cancels a request and other answers to it; done already or never there is fine too.
#[utoipa::path(delete, path = "/v1/infer/{request_id}", tag = "inference",
    params(("request_id" = String, Path, description = "The request's name")), responses(
    (status = 204, description = "It does not run any more"),
    (status = 400, description = "Not a request's name", body = ErrorBody),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
))]
pub async fn cancel(State(worker): State<Worker>, PathArg(id): PathArg<RequestId>) -> StatusCode {
    if let Ok(runtime) = worker.runtime() {
        runtime.cancel(&id);
    }
    StatusCode::NO_CONTENT
}

/// A request's events, with the time to the first token recorded.
struct Observed {
    events: RequestStream,
    worker: Worker,
    first_token_seen: bool,
}

impl Observed {
    async fn recv(&mut self) -> Option<StreamEvent> {
        let event = self.events.recv().await;
        self.seen(event)
    }

    /// What is there already.
    fn try_recv(&mut self) -> Option<StreamEvent> {
        let event = self.events.try_recv();
        self.seen(event)
    }

    fn seen(&mut self, event: Option<StreamEvent>) -> Option<StreamEvent> {
        if matches!(event, Some(StreamEvent::Token(_)))
            && !self.first_token_seen
            && let Some(elapsed) = self.events.time_to_first_token()
        {
            self.first_token_seen = true;
            let histogram = self.worker.first_token_seconds();
            histogram.observe(elapsed.as_secs_f64());
        }
        event
    }
}

/// The events as SSE; those that are ready together in one piece.
fn encoded(events: Observed) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(events, |mut events| async move {
        let mut event = events.recv().await?;
        let mut out = Vec::with_capacity(256);
        loop {
            if let Err(error) = event.write_sse(&mut out) {
                tracing::error!(%error, event = event.name(), "an event cannot be written");
            }
            if out.len() >= CHUNK_BYTES {
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

/// The whole answer as one document, or the error that ended it.
async fn collect(mut events: Observed) -> Result<InferResponse, Diagnostic> {
    let mut started = None;
    let (mut text, mut tokens, mut logprobs) = (String::new(), Vec::new(), Vec::new());
    let mut tool_calls = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            StreamEvent::Started(event) => started = Some(event),
            StreamEvent::Token(token) => {
                text.push_str(&token.t);
                for piece in token.calls {
                    piece.add_to(&mut tool_calls);
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
                    text,
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
    Err(Diagnostic::internal("the answer broke off"))
}
