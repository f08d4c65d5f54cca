//! What the inference edges share: deadlines in, headers and streams out.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    response::{IntoResponse as _, Response},
};
use diagnostics::{Code, Diagnostic, excerpt};
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue};
use input_validation::{ModelRef, RequestId};
use jiff::Timestamp;
use queen_contract::{
    Assigned, HEADER_DEADLINE, HEADER_NODE, HEADER_QUEUE_MS, HEADER_REQUEST_ID, HEADER_SEED,
    HEADER_WORKER, InferEvent,
};
use scheduler::Want;
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};
use worker_contract::{InferRequest, StartedEvent, StreamEvent};

use crate::{
    app::App,
    ask::{Origin, Question},
    clock::Clock,
    relay::{self, Job},
};

/// A request without a deadline of its own has this long, and longer for a large model.
const PATIENCE: Duration = Duration::from_secs(600);
const PATIENCE_SECONDS_PER_GIB: u64 = 60;
/// Maximum number of events that are encoded at once.
pub const BATCH: usize = 32;

/// Starts carrying a request; its deadline is the earlier of its own and the header's.
pub fn carry(
    app: &Arc<App>,
    want: Want,
    mut request: InferRequest,
    headers: &HeaderMap,
) -> Result<mpsc::Receiver<InferEvent>, Diagnostic> {
    request.deadline = earlier(request.deadline, deadline(headers)?);
    let deadline = until(app, &want, request.deadline);
    let mut passed_on = HeaderMap::new();
    if let Some(trace) = headers.get("traceparent") {
        passed_on.insert("traceparent", trace.clone());
    }
    let job = Job {
        want,
        request,
        deadline,
        headers: passed_on,
    };
    Ok(relay::start(Arc::clone(app), job))
}

fn earlier(own: Option<Timestamp>, header: Option<Timestamp>) -> Option<Timestamp> {
    match (own, header) {
        (Some(own), Some(header)) => Some(own.min(header)),
        (own, header) => own.or(header),
    }
}

fn until(app: &App, want: &Want, deadline: Option<Timestamp>) -> Instant {
    deadline.map_or_else(|| patience(app, want), Clock::when)
}

/// A question about a model, with the deadline of its header.
pub async fn question(
    app: &App,
    model: ModelRef,
    headers: &HeaderMap,
) -> Result<(Question, Option<Timestamp>), Diagnostic> {
    app.models.check(&model).await?;
    let want = Want {
        model,
        backend: None,
        node: None,
    };
    let deadline = deadline(headers)?;
    let question = Question {
        id: new_request_id()?,
        deadline: until(app, &want, deadline),
        want,
    };
    Ok((question, deadline))
}

/// A document about a question, with the headers that tell who answered it.
pub fn document(origin: &Origin, body: impl Serialize) -> Response {
    let mut response = Json(body).into_response();
    mark(&mut response, Some(&origin.worker), origin.waited);
    named(response, &origin.id)
}

/// The deadline of a request that has none.
fn patience(app: &App, want: &Want) -> Instant {
    let bytes = app.models.known(&want.model).map_or(0, |m| m.size_bytes);
    let extra = (bytes >> 30) * PATIENCE_SECONDS_PER_GIB;
    Instant::now() + PATIENCE + Duration::from_secs(extra)
}

fn deadline(headers: &HeaderMap) -> Result<Option<Timestamp>, Diagnostic> {
    let Some(value) = headers.get(HEADER_DEADLINE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?");
    text.parse().map(Some).map_err(|_| {
        Diagnostic::new(
            Code::InvalidRequest,
            format!("{HEADER_DEADLINE} is no time: \"{}\"", excerpt(text, 60)),
        )
        .param(HEADER_DEADLINE)
        .hint("a time is RFC 3339, as `2026-11-21T10:00:00Z`")
    })
}

/// A new request's name: unique, and sortable by time.
pub fn new_request_id() -> Result<RequestId, Diagnostic> {
    uuid::Uuid::now_v7().simple().to_string().parse()
}

/// The first events of an answer, which its headers tell of.
pub struct Opening {
    /// Where it runs.
    pub assigned: Option<Assigned>,
    /// How long it waited for that, loading included.
    pub waited: Duration,
    /// The request has a slot.
    pub started: StartedEvent,
}

/// Awaits the first events of an answer; until then an error is an HTTP error.
pub async fn opening(events: &mut mpsc::Receiver<InferEvent>) -> Result<Opening, Diagnostic> {
    let arrived = Instant::now();
    let mut assigned = None;
    let mut waited = Duration::ZERO;
    while let Some(event) = events.recv().await {
        match event {
            InferEvent::Assigned(worker) => {
                assigned = Some(worker);
                waited = arrived.elapsed();
            }
            InferEvent::Worker(StreamEvent::Started(started)) => {
                return Ok(Opening {
                    assigned,
                    waited,
                    started,
                });
            }
            InferEvent::Worker(StreamEvent::Error(error)) => return Err(error),
            _ => {}
        }
    }
    Err(broken_off())
}

impl Opening {
    /// Tells in the headers where and how the answer is made.
    pub fn mark(&self, response: &mut Response) {
        set_header(response, HEADER_SEED, &self.started.seed.to_string());
        mark(response, self.assigned.as_ref(), self.waited);
    }
}

/// Tells in the headers which worker answered, and how long it was waited for.
pub fn mark(response: &mut Response, worker: Option<&Assigned>, waited: Duration) {
    set_header(response, HEADER_QUEUE_MS, &waited.as_millis().to_string());
    if let Some(assigned) = worker {
        set_header(response, HEADER_WORKER, assigned.worker.as_str());
        set_header(response, HEADER_NODE, assigned.node.as_str());
    }
}

/// An answer that ended without an end: a defect.
pub fn broken_off() -> Diagnostic {
    Diagnostic::internal("the answer broke off without an end")
}

/// Puts a value into the answer's headers.
pub fn set_header(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Puts the request's name into the answer's headers.
pub fn named(mut response: Response, id: &RequestId) -> Response {
    set_header(&mut response, HEADER_REQUEST_ID, id.as_str());
    response
}

/// Where the events of an answer come from.
pub trait Source: Send {
    /// What comes.
    type Event: Send;

    /// Appends what is there, up to `limit` events, and waits for the first of them; 0 when
    /// nothing comes any more.
    fn recv_many(
        &mut self,
        events: &mut Vec<Self::Event>,
        limit: usize,
    ) -> impl Future<Output = usize> + Send;
}

impl Source for mpsc::Receiver<InferEvent> {
    type Event = InferEvent;

    async fn recv_many(&mut self, events: &mut Vec<InferEvent>, limit: usize) -> usize {
        Self::recv_many(self, events, limit).await
    }
}

/// Events encoded by `write`, those that are there at once in one piece.
pub fn encoded<S, W>(events: S, write: W) -> impl Stream<Item = Bytes> + Send + 'static
where
    S: Source + 'static,
    W: FnMut(S::Event, &mut Vec<u8>) + Send + 'static,
{
    let batch = Vec::with_capacity(BATCH);
    stream::unfold(
        (events, write, batch),
        |(mut events, mut write, mut batch)| async move {
            loop {
                if events.recv_many(&mut batch, BATCH).await == 0 {
                    return None;
                }
                let mut bytes = Vec::with_capacity(256 * batch.len());
                for event in batch.drain(..) {
                    write(event, &mut bytes);
                }
                // A token whose text waits for more gives no bytes.
                if !bytes.is_empty() {
                    return Some((Bytes::from(bytes), (events, write, batch)));
                }
            }
        },
    )
}
