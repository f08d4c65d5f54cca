//! A worker whose behavior the test sets. Token n has the id n.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use diagnostics::{Code, Diagnostic, ErrorBody};
use futures_util::stream;
use input_validation::{Generation, RequestId};
use jiff::Timestamp;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;
use worker_contract::{
    EmbedRequest, EmbedResponse, EndEvent, FinishReason, InferRequest, KvCacheUse, SamplingValues,
    StartedEvent, StreamEvent, Timings, TokenEvent, TokenizeRequest, TokenizeResponse, Usage,
    WorkerHeartbeat, WorkerInfo, WorkerStatus,
};

use crate::harness::{MODEL, Queen, eventually};

pub const SEED: u64 = 77;

/// How requests are processed.
#[derive(Debug, Clone)]
pub enum Behavior {
    /// Responds with this many tokens.
    Complete { tokens: u32 },
    /// Breaks the connection once the response has this many tokens.
    BreakAt { tokens: u32 },
    /// Ends the response with an error once it has this many tokens.
    ErrorAt { tokens: u32, error: Diagnostic },
    /// Refuses the request before it starts.
    Refuse(Diagnostic),
    /// Produces no output after this many tokens.
    Hang { tokens: u32 },
    /// Produces tokens without end, each with this many bytes of text.
    Flood { bytes: usize },
}

#[derive(Debug)]
pub struct FakeWorker {
    pub info: Mutex<WorkerInfo>,
    behavior: Mutex<Behavior>,
    /// For the choices of a request after the first, if they differ.
    behavior_of_other_choices: Mutex<Option<Behavior>>,
    requests: Mutex<Vec<InferRequest>>,
    /// Requests that occupy a slot.
    active: AtomicU32,
    max_active: AtomicU32,
    tokens_sent: AtomicU64,
    tokenize_calls: AtomicU32,
    info_calls: AtomicU32,
    is_frozen: AtomicBool,
    sequence: AtomicU64,
    slots: Mutex<HashMap<RequestId, Weak<Slot>>>,
    /// Cancelled when the process has exited.
    pub exited: CancellationToken,
}

impl FakeWorker {
    pub async fn start(id: &str, generation: u64, slots: u32) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let worker = Arc::new(Self {
            info: Mutex::new(info(id, generation, slots, port)),
            behavior: Mutex::new(Behavior::Complete { tokens: 5 }),
            behavior_of_other_choices: Mutex::default(),
            requests: Mutex::default(),
            active: AtomicU32::new(0),
            max_active: AtomicU32::new(0),
            tokens_sent: AtomicU64::new(0),
            tokenize_calls: AtomicU32::new(0),
            info_calls: AtomicU32::new(0),
            is_frozen: AtomicBool::new(false),
            sequence: AtomicU64::new(0),
            slots: Mutex::default(),
            exited: CancellationToken::new(),
        });
        let app = Router::new()
            .route("/v1/infer", post(infer))
            .route("/v1/infer/{id}", delete(cancel))
            .route("/info", get(show_info))
            .route("/v1/tokenize", post(tokenize))
            .route("/v1/embed", post(embed))
            .with_state(Arc::clone(&worker));
        let exited = worker.exited.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, app) => served.unwrap(),
                () = exited.cancelled() => {}
            }
        });
        worker
    }

    pub fn behave(&self, behavior: Behavior) {
        *self.behavior.lock().unwrap() = behavior;
    }

    /// Responds to nothing from now on, as if its machine were frozen.
    pub fn freeze(&self, tokens: u32) {
        self.behave(Behavior::Hang { tokens });
        self.is_frozen.store(true, SeqCst);
    }

    pub fn behave_for_other_choices(&self, behavior: Behavior) {
        *self.behavior_of_other_choices.lock().unwrap() = Some(behavior);
    }

    pub fn heartbeat(&self) -> WorkerHeartbeat {
        WorkerHeartbeat {
            worker: self.info.lock().unwrap().clone(),
            timestamp: Timestamp::now(),
            sequence: self.sequence.fetch_add(1, SeqCst),
        }
    }

    pub async fn send_heartbeat(&self, queen: &Queen) {
        queen.node.heartbeat(&self.heartbeat()).await.unwrap();
    }

    /// Returns the requests that it has received.
    pub fn requests(&self) -> Vec<InferRequest> {
        self.requests.lock().unwrap().clone()
    }

    pub fn active(&self) -> u32 {
        self.active.load(SeqCst)
    }

    /// Returns the highest number of requests at the same time, including those that were
    /// refused because all slots were busy.
    pub fn max_active(&self) -> u32 {
        self.max_active.load(SeqCst)
    }

    pub fn tokens_sent(&self) -> u64 {
        self.tokens_sent.load(SeqCst)
    }

    pub fn tokenize_calls(&self) -> u32 {
        self.tokenize_calls.load(SeqCst)
    }

    /// Returns how often its state was queried.
    pub fn info_calls(&self) -> u32 {
        self.info_calls.load(SeqCst)
    }

    pub async fn until_active(&self, count: u32) {
        eventually("the worker runs this many requests", async || {
            (self.active() == count).then_some(())
        })
        .await;
    }

    pub async fn until_requested(&self, count: usize) {
        eventually("the worker has received this many requests", async || {
            (self.requests().len() >= count).then_some(())
        })
        .await;
    }
}

pub fn info(id: &str, generation: u64, slots: u32, port: u16) -> WorkerInfo {
    WorkerInfo {
        id: id.parse().unwrap(),
        generation: Generation(generation),
        hive_id: "local".parse().unwrap(),
        model_id: MODEL.parse().unwrap(),
        device: "CPU-0".parse().unwrap(),
        port,
        pid: 1,
        status: WorkerStatus::Ready,
        implementation: "rbee-mock".into(),
        version: "1".into(),
        capabilities: Vec::new(),
        slots_total: slots,
        slots_free: slots,
        queue_depth: 0,
        context_length: 512,
        memory_bytes: 1,
        kv_cache: KvCacheUse::default(),
        prefix_digest: None,
        last_step_ms: None,
        sampling: SamplingValues::default(),
    }
}

/// The slot of a request.
#[derive(Debug)]
struct Slot {
    worker: Arc<FakeWorker>,
    is_free: AtomicBool,
    cancelled: Notify,
}

impl Slot {
    fn occupy(worker: &Arc<FakeWorker>) -> Arc<Self> {
        let active = worker.active.fetch_add(1, SeqCst) + 1;
        worker.max_active.fetch_max(active, SeqCst);
        Arc::new(Self {
            worker: Arc::clone(worker),
            is_free: AtomicBool::new(false),
            cancelled: Notify::new(),
        })
    }

    fn free(&self) {
        if !self.is_free.swap(true, SeqCst) {
            self.worker.active.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.free();
    }
}

/// A response that is being produced.
struct Completion {
    slot: Arc<Slot>,
    request: InferRequest,
    behavior: Behavior,
    next_token: u32,
    started: bool,
    ended: bool,
}

async fn infer(
    State(worker): State<Arc<FakeWorker>>,
    Json(request): Json<InferRequest>,
) -> Response {
    worker.requests.lock().unwrap().push(request.clone());
    let of_other_choices = worker.behavior_of_other_choices.lock().unwrap().clone();
    let behavior = of_other_choices
        .filter(|_| request.sampling.choice > 0)
        .unwrap_or_else(|| worker.behavior.lock().unwrap().clone());
    if let Behavior::Refuse(error) = behavior {
        return refuse(error);
    }
    let slots = worker.info.lock().unwrap().slots_total;
    let slot = Slot::occupy(&worker);
    if worker.active() > slots {
        return refuse(Diagnostic::new(Code::AllSlotsBusy, "all slots are busy"));
    }
    let id = request.request_id.clone();
    let open = Arc::downgrade(&slot);
    worker.slots.lock().unwrap().insert(id, open);
    let completion = Completion {
        slot,
        next_token: request.continue_from.len() as u32,
        request,
        behavior,
        started: false,
        ended: false,
    };
    let body = stream::unfold(completion, |mut completion| async move {
        let event = completion.next_event().await?;
        let bytes = event.map(|event| {
            let mut bytes = Vec::new();
            event.write_sse(&mut bytes).unwrap();
            Bytes::from(bytes)
        });
        Some((bytes, completion))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(body))
        .unwrap()
}

async fn show_info(State(worker): State<Arc<FakeWorker>>) -> Json<WorkerInfo> {
    worker.info_calls.fetch_add(1, SeqCst);
    if worker.is_frozen.load(SeqCst) {
        std::future::pending::<()>().await;
    }
    Json(worker.info.lock().unwrap().clone())
}

/// Returns the vector `[i, 1]` for input i.
async fn embed(Json(request): Json<EmbedRequest>) -> Response {
    let vectors = (0..request.inputs.len()).map(|i| vec![i as f32, 1.0]);
    Json(EmbedResponse {
        vectors: vectors.collect(),
        request_id: request.request_id,
        model: MODEL.parse().unwrap(),
        prompt_tokens: 6,
    })
    .into_response()
}

/// Returns three tokens, unless the behavior is to refuse or to hang.
async fn tokenize(
    State(worker): State<Arc<FakeWorker>>,
    Json(_): Json<TokenizeRequest>,
) -> Response {
    worker.tokenize_calls.fetch_add(1, SeqCst);
    let _slot = Slot::occupy(&worker);
    let behavior = worker.behavior.lock().unwrap().clone();
    match behavior {
        Behavior::Refuse(error) => refuse(error),
        Behavior::Hang { .. } => std::future::pending().await,
        _ => Json(TokenizeResponse {
            tokens: vec![1, 2, 3],
            count: 3,
        })
        .into_response(),
    }
}

fn refuse(error: Diagnostic) -> Response {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap();
    (status, Json(ErrorBody::from(error))).into_response()
}

async fn cancel(State(worker): State<Arc<FakeWorker>>, Path(id): Path<RequestId>) -> StatusCode {
    let slot = worker.slots.lock().unwrap().get(&id).cloned();
    if let Some(slot) = slot.and_then(|slot| slot.upgrade()) {
        slot.free();
        slot.cancelled.notify_one();
    }
    StatusCode::NO_CONTENT
}

impl Completion {
    async fn next_event(&mut self) -> Option<Result<StreamEvent, io::Error>> {
        if self.ended {
            return None;
        }
        // Lets the server write what it has, so that the client receives it before a break.
        tokio::task::yield_now().await;
        if !self.started {
            self.started = true;
            return Some(Ok(StreamEvent::Started(StartedEvent {
                request_id: self.request.request_id.clone(),
                model: MODEL.parse().unwrap(),
                seed: self.request.sampling.seed.unwrap_or(SEED),
                prompt_tokens: 3,
                cached_tokens: 0,
                prompt: Vec::new(),
                sampling: SamplingValues {
                    temperature: Some(0.5),
                    ..SamplingValues::default()
                },
                notes: Vec::new(),
            })));
        }
        if let Some(last) = self.last_event().await {
            // A worker frees the slot before its client receives the end of the response.
            self.slot.free();
            self.ended = true;
            return Some(last);
        }
        let text = match self.behavior {
            Behavior::Flood { bytes } => "x".repeat(bytes),
            _ => format!("{}.", self.next_token),
        };
        let id = self.next_token;
        self.next_token += 1;
        self.slot.worker.tokens_sent.fetch_add(1, SeqCst);
        Some(Ok(StreamEvent::Token(TokenEvent {
            i: id,
            reasoning: String::new(),
            t: text,
            id,
            calls: Vec::new(),
            logprob: None,
        })))
    }

    /// Returns the event that ends the response; `None` if another token follows.
    async fn last_event(&self) -> Option<Result<StreamEvent, io::Error>> {
        match &self.behavior {
            Behavior::Complete { tokens } if self.next_token >= *tokens => Some(Ok(self.end())),
            Behavior::BreakAt { tokens } if self.next_token >= *tokens => {
                Some(Err(io::Error::other("broken on purpose")))
            }
            Behavior::ErrorAt { tokens, error } if self.next_token >= *tokens => {
                Some(Ok(StreamEvent::Error(error.clone())))
            }
            Behavior::Hang { tokens } if self.next_token >= *tokens => {
                self.slot.cancelled.notified().await;
                let error = Diagnostic::new(Code::Cancelled, "cancelled");
                Some(Ok(StreamEvent::Error(error)))
            }
            _ => None,
        }
    }

    fn end(&self) -> StreamEvent {
        StreamEvent::End(EndEvent {
            stop: None,
            reason: FinishReason::Stop,
            usage: Usage {
                prompt_tokens: 3,
                completion_tokens: self.next_token,
                cached_tokens: 0,
                reasoning_tokens: 0,
            },
            timings: Timings::default(),
        })
    }
}
