//! What the inference routes share: deadlines and headers in, headers and encoded events out.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    response::{IntoResponse as _, Response},
};
use diagnostics::Diagnostic;
use futures_util::{Stream, StreamExt as _, future::ready};
use http::{HeaderMap, HeaderValue};
use input_validation::{ModelRef, NodeName, RequestId};
use jiff::Timestamp;
use openai_gateway::ParsedTokenCount;
use queen_contract::{
    Assigned, HEADER_DEADLINE, HEADER_NODE, HEADER_NOTES, HEADER_PRIORITY, HEADER_QUEUE_MS,
    HEADER_REQUEST_ID, HEADER_SAMPLING, HEADER_SEED, HEADER_WORKER, InferEvent, Priority,
};
use request_queue::Deadline;
use request_relay::{CallOrigin, ChoiceEvent, Choices, InferJob, ShortCall};
use scheduler::WorkerRequirements;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;
use worker_contract::{Capability, InferRequest, StartedEvent, StreamEvent, WorkerClient};
use worker_registry::WorkerFilter;

use crate::{
    Api,
    errors::{ended_early, invalid_deadline, no_vision, unknown_model, unreadable_call},
};

/// Time for a request without a deadline; more for a large model.
const DEFAULT_TIME: Duration = Duration::from_secs(600);
const DEFAULT_SECONDS_PER_GIB: u64 = 60;
/// Additional time for a request without a deadline whose model is fetched first.
const PULL_TIME: Duration = Duration::from_secs(3600);
/// Maximum number of events that are encoded into one chunk of a body.
const BATCH_EVENTS: usize = 32;
/// Maximum length of the header with the notes, in characters.
const MAX_NOTES: usize = 2000;
/// Initial size of a chunk per event, in bytes.
const EVENT_BYTES: usize = 256;

/// Returns what a request requires of its worker. Fails with `UNSUPPORTED_PARAMETER` if it has
/// images and no worker of the model can see them.
pub(crate) async fn requirements(
    api: &Api,
    model: ModelRef,
    request: &InferRequest,
) -> Result<WorkerRequirements, Diagnostic> {
    const VISION: Capability = Capability::Vision;
    if !request.has_images() {
        return Ok(WorkerRequirements::model(model));
    }
    if !api.nodes.capabilities(&model).contains(&VISION) {
        let filter = WorkerFilter {
            model: Some(model.clone()),
            capability: Some(VISION),
            ..WorkerFilter::default()
        };
        if api.dispatcher.workers(filter).await?.is_empty() {
            return Err(no_vision(&model));
        }
    }
    Ok(WorkerRequirements {
        capability: Some(VISION),
        ..WorkerRequirements::model(model)
    })
}

/// Reads a body in rbee's own format. An error shows `example`, a body that can be read.
pub(crate) fn read_call<T: DeserializeOwned>(body: Value, example: &str) -> Result<T, Diagnostic> {
    serde_json::from_value(body).map_err(|error| unreadable_call(&error, example))
}

/// Returns a job for a request. Its deadline is the earlier one of the request's and the
/// header's, and its priority the header's, else the request's.
pub(crate) fn infer_job(
    api: &Api,
    mut requirements: WorkerRequirements,
    mut request: InferRequest,
    priority: Option<Priority>,
    headers: &HeaderMap,
) -> Result<InferJob, Diagnostic> {
    if requirements.node.is_none() {
        requirements.node = header_node(api, headers)?;
    }
    let header = header_deadline(headers)?;
    request.deadline = match (request.deadline, header) {
        (Some(own), Some(header)) => Some(own.min(header)),
        (own, header) => own.or(header),
    };
    let deadline = deadline(api, &requirements.model, request.deadline);
    let mut forwarded = HeaderMap::new();
    if let Some(trace) = headers.get("traceparent") {
        forwarded.insert("traceparent", trace.clone());
    }
    Ok(InferJob {
        requirements,
        request,
        priority: header_priority(headers)?.or(priority).unwrap_or_default(),
        client: api.client(headers),
        deadline,
        headers: forwarded,
    })
}

/// Returns a short call for a model, with the header's deadline and priority.
pub(crate) async fn short_call(
    api: &Api,
    model: ModelRef,
    headers: &HeaderMap,
) -> Result<(ShortCall, Option<Timestamp>), Diagnostic> {
    let model = api.nodes.check_model(&model).await?;
    let header = header_deadline(headers)?;
    let call = ShortCall {
        id: new_request_id()?,
        priority: header_priority(headers)?.unwrap_or_default(),
        client: api.client(headers),
        deadline: deadline(api, &model, header),
        requirements: WorkerRequirements {
            node: header_node(api, headers)?,
            ..WorkerRequirements::model(model)
        },
    };
    Ok((call, header))
}

/// Counts the tokens of a prompt. An error names the client's field.
pub(crate) async fn count_tokens(
    api: &Api,
    headers: &HeaderMap,
    parsed: ParsedTokenCount,
) -> Result<(u32, CallOrigin), Diagnostic> {
    let model = find_model(api, &parsed.model).await?;
    let (call, _) = short_call(api, model, headers).await?;
    let request = &parsed.request;
    let tokenize = |worker: WorkerClient| async move { worker.tokenize(request).await };
    let counted = api.relay.call(call, tokenize).await;
    let (tokens, origin) = counted.map_err(|error| parsed.field_names.translate(error))?;
    Ok((tokens.count, origin))
}

fn deadline(api: &Api, model: &ModelRef, requested: Option<Timestamp>) -> Deadline {
    let clock = api.dispatcher.clock();
    if let Some(at) = requested {
        return clock.deadline_at(at);
    }
    let extra = match api.nodes.known_model(model) {
        Some(known) => Duration::from_secs((known.size_bytes >> 30) * DEFAULT_SECONDS_PER_GIB),
        None if matches!(model, ModelRef::Hub { .. } | ModelRef::Ollama { .. }) => PULL_TIME,
        None => Duration::ZERO,
    };
    clock.deadline_in(DEFAULT_TIME + extra)
}

/// Returns the node that the header names. Fails with `NODE_NOT_FOUND` if there is no such node.
fn header_node(api: &Api, headers: &HeaderMap) -> Result<Option<NodeName>, Diagnostic> {
    let Some(value) = headers.get(HEADER_NODE) else {
        return Ok(None);
    };
    let name = String::from_utf8_lossy(value.as_bytes());
    let name: NodeName = name
        .parse()
        .map_err(|error: Diagnostic| error.param(HEADER_NODE))?;
    api.nodes.get(&name)?;
    Ok(Some(name))
}

fn header_priority(headers: &HeaderMap) -> Result<Option<Priority>, Diagnostic> {
    let Some(value) = headers.get(HEADER_PRIORITY) else {
        return Ok(None);
    };
    let priority = String::from_utf8_lossy(value.as_bytes()).parse();
    let priority = priority.map_err(|error: Diagnostic| error.param(HEADER_PRIORITY))?;
    Ok(Some(priority))
}

fn header_deadline(headers: &HeaderMap) -> Result<Option<Timestamp>, Diagnostic> {
    let Some(value) = headers.get(HEADER_DEADLINE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?");
    text.parse().map(Some).map_err(|_| invalid_deadline(text))
}

/// Returns a unique request id; ids sort by time.
pub(crate) fn new_request_id() -> Result<RequestId, Diagnostic> {
    uuid::Uuid::now_v7().simple().to_string().parse()
}

/// Returns the model that a client requests by a reference, an alias or a short name.
pub(crate) async fn find_model(api: &Api, name: &str) -> Result<ModelRef, Diagnostic> {
    if let Some(model) = api.nodes.named(name) {
        return Ok(api.nodes.canonical_model(model).await);
    }
    // Another process may have set an alias since the nodes were asked.
    let names = api.model_names().await?;
    if let Some(model) = api.nodes.named(name) {
        return Ok(api.nodes.canonical_model(model).await);
    }
    let not_found = || unknown_model(name);
    let model = ModelRef::from_name(name).map_err(|_| not_found())?;
    if !matches!(model, ModelRef::Builtin { .. }) {
        return Ok(api.nodes.canonical(model));
    }
    let exists = names.contains(&model.to_string());
    exists.then_some(model).ok_or_else(not_found)
}

/// The contents of a response's first events, which become its headers.
pub(crate) struct Opening {
    submitted: Instant,
    pub(crate) assigned: Option<Assigned>,
    /// Time until a worker was assigned, including loading.
    waited: Duration,
    /// What the request waits for, as a sentence for the user.
    pub(crate) waits_for: Option<String>,
}

impl Opening {
    pub(crate) fn new() -> Self {
        Self {
            submitted: Instant::now(),
            assigned: None,
            waited: Duration::ZERO,
            waits_for: None,
        }
    }

    /// Awaits the first events of a response. A call that is dropped loses no event. An error
    /// comes with its choice.
    pub(crate) async fn started(
        &mut self,
        events: &mut Choices,
    ) -> Result<StartedEvent, (u32, Diagnostic)> {
        while let Some((choice, event)) = events.next().await {
            match event {
                InferEvent::Assigned(worker) => {
                    self.assigned = Some(worker);
                    self.waited = self.submitted.elapsed();
                }
                InferEvent::Narration(narration) => self.waits_for = Some(narration.message),
                InferEvent::Waiting(waiting) => self.waits_for = Some(waiting.message),
                InferEvent::Worker(StreamEvent::Started(started)) => return Ok(started),
                InferEvent::Worker(StreamEvent::Error(error)) => return Err((choice, error)),
                InferEvent::Worker(_) => {}
            }
        }
        Err((0, ended_early()))
    }

    /// Adds the headers that report where and how the response is produced.
    pub(crate) fn add_headers(&self, started: &StartedEvent, response: &mut Response) {
        set_header(response, HEADER_SEED, &started.seed.to_string());
        let sampling = started.sampling.to_string();
        if !sampling.is_empty() {
            set_header(response, HEADER_SAMPLING, &sampling);
        }
        add_notes(response, &started.notes);
        add_worker_headers(response, self.assigned.as_ref(), self.waited);
    }
}

/// Adds the header with the notes, if there are any.
pub(crate) fn add_notes(response: &mut Response, notes: &[String]) {
    if !notes.is_empty() {
        set_header(response, HEADER_NOTES, &header_text(notes));
    }
}

/// Joins notes to the value of a header, which can have visible ASCII characters only.
pub(crate) fn header_text(notes: &[String]) -> String {
    let mut text = notes.join("; ");
    if let Some((cut, _)) = text.char_indices().nth(MAX_NOTES) {
        text.truncate(cut);
    }
    text.replace(|c: char| !(' '..='~').contains(&c), "?")
}

fn add_worker_headers(response: &mut Response, worker: Option<&Assigned>, waited: Duration) {
    set_header(response, HEADER_QUEUE_MS, &waited.as_millis().to_string());
    if let Some(assigned) = worker {
        set_header(response, HEADER_WORKER, assigned.worker.as_str());
        set_header(response, HEADER_NODE, assigned.node.as_str());
    }
}

/// Returns the response to a short call, with the headers that report where it came from.
pub(crate) fn call_response(origin: &CallOrigin, body: impl Serialize) -> Response {
    let mut response = Json(body).into_response();
    add_worker_headers(&mut response, Some(&origin.worker), origin.waited);
    with_request_id(response, &origin.id)
}

pub(crate) fn with_request_id(mut response: Response, id: &RequestId) -> Response {
    set_header(&mut response, HEADER_REQUEST_ID, id.as_str());
    response
}

fn set_header(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Encodes events by `write`; those that are available at the same time form one chunk.
pub(crate) fn encode(
    events: Choices,
    mut write: impl FnMut(ChoiceEvent, &mut Vec<u8>) + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    events.ready_chunks(BATCH_EVENTS).filter_map(move |batch| {
        let mut bytes = Vec::with_capacity(EVENT_BYTES * batch.len());
        for event in batch {
            write(event, &mut bytes);
        }
        // A token whose text is not final yet produces no bytes.
        ready((!bytes.is_empty()).then(|| Bytes::from(bytes)))
    })
}
