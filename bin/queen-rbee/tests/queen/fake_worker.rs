//! A worker that does what the test says: token n has the id n.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering},
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
use input_validation::Generation;
use jiff::Timestamp;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;
use worker_contract::{
    EmbedRequest, EmbedResponse, EndEvent, FinishReason, InferRequest, KvCacheUse, StartedEvent,
    StreamEvent, Timings, TokenEvent, TokenizeRequest, TokenizeResponse, Usage, WorkerHeartbeat,
    WorkerInfo, WorkerStatus,
};

use crate::world::{MODEL, Queen};

pub const SEED: u64 = 77;

/// What happens to requests.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// So many tokens, then the end.
    Answer { tokens: u32 },
    /// The connection breaks when the answer has so many tokens.
    BreakAt { tokens: u32 },
    /// The answer ends with this error when it has so many tokens.
    ErrorAt { tokens: u32, error: Diagnostic },
    /// Refused before it starts.
    Refuse(Diagnostic),
    /// So many tokens, then nothing for ever.
    Hang { tokens: u32 },
    /// Tokens without end, each with so many bytes of text.
    Flood { bytes: usize },
}

#[derive(Debug)]
pub struct FakeWorker {
    pub info: Mutex<WorkerInfo>,
    pub behaviour: Mutex<Behaviour>,
    /// What happens to answers after the first of a request, when that is something else.
    pub behaviour_of_others: Mutex<Option<Behaviour>>,
    pub requests: Mutex<Vec<InferRequest>>,
    pub active: AtomicU32,
    pub most_active: AtomicU32,
    pub sent: AtomicU64,
    /// How often it was asked for its state.
    pub looked_at: AtomicU32,
    sequence: AtomicU64,
    cancelled: Mutex<Vec<(String, Arc<Notify>)>>,
    pub stop: CancellationToken,
}

impl FakeWorker {
    pub async fn start(id: &str, generation: u64, slots: u32) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let worker = Arc::new(Self {
            info: Mutex::new(info(
                id,
                generation,
                slots,
                listener.local_addr().unwrap().port(),
            )),
            behaviour: Mutex::new(Behaviour::Answer { tokens: 5 }),
            behaviour_of_others: Mutex::default(),
            requests: Mutex::default(),
            active: AtomicU32::new(0),
            most_active: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            looked_at: AtomicU32::new(0),
            sequence: AtomicU64::new(0),
            cancelled: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let app = Router::new()
            .route("/v1/infer", post(infer))
            .route("/v1/infer/{id}", delete(cancel))
            .route("/info", get(look))
            .route("/v1/tokenize", post(tokenize))
            .route("/v1/embed", post(embed))
            .with_state(Arc::clone(&worker));
        let stop = worker.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, app) => served.unwrap(),
                () = stop.cancelled() => {}
            }
        });
        worker
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    pub fn behave_after_first(&self, behaviour: Behaviour) {
        *self.behaviour_of_others.lock().unwrap() = Some(behaviour);
    }

    pub fn heartbeat(&self) -> WorkerHeartbeat {
        WorkerHeartbeat {
            worker: self.info.lock().unwrap().clone(),
            timestamp: Timestamp::now(),
            sequence: self.sequence.fetch_add(1, Ordering::SeqCst),
        }
    }

    /// Tells the queen that it is there.
    pub async fn beat(&self, queen: &Queen) {
        queen.node.heartbeat(&self.heartbeat()).await.unwrap();
    }

    pub fn seen(&self) -> Vec<InferRequest> {
        self.requests.lock().unwrap().clone()
    }

    pub fn active(&self) -> u32 {
        self.active.load(Ordering::SeqCst)
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
    }
}

/// Counts a request for as long as its answer is open.
struct Open(Arc<FakeWorker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Answering {
    open: Open,
    request: InferRequest,
    behaviour: Behaviour,
    next: u32,
    started: bool,
    over: bool,
    cancelled: Arc<Notify>,
}

async fn infer(
    State(worker): State<Arc<FakeWorker>>,
    Json(request): Json<InferRequest>,
) -> Response {
    worker.requests.lock().unwrap().push(request.clone());
    let others = worker.behaviour_of_others.lock().unwrap().clone();
    let behaviour = others
        .filter(|_| request.sampling.choice > 0)
        .unwrap_or_else(|| worker.behaviour.lock().unwrap().clone());
    if let Behaviour::Refuse(error) = behaviour {
        return refusal(error);
    }
    let slots = worker.info.lock().unwrap().slots_total;
    let active = worker.active.fetch_add(1, Ordering::SeqCst) + 1;
    let open = Open(Arc::clone(&worker));
    if active > slots {
        return refusal(Diagnostic::new(Code::AllSlotsBusy, "every slot is taken"));
    }
    worker.most_active.fetch_max(active, Ordering::SeqCst);
    let cancelled = Arc::new(Notify::new());
    let name = request.request_id.to_string();
    worker
        .cancelled
        .lock()
        .unwrap()
        .push((name, Arc::clone(&cancelled)));
    let answering = Answering {
        open,
        next: request.continue_from.len() as u32,
        request,
        behaviour,
        started: false,
        over: false,
        cancelled,
    };
    let body = stream::unfold(answering, |mut answering| async move {
        let event = answering.next_event().await?;
        let bytes = event.map(|event| {
            let mut bytes = Vec::new();
            event.write_sse(&mut bytes).unwrap();
            Bytes::from(bytes)
        });
        Some((bytes, answering))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(body))
        .unwrap()
}

async fn look(State(worker): State<Arc<FakeWorker>>) -> Json<WorkerInfo> {
    worker.looked_at.fetch_add(1, Ordering::SeqCst);
    Json(worker.info.lock().unwrap().clone())
}

/// A vector for each input: its index on the one axis, 1 on the other.
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

/// Three tokens, whatever the input; what is to break or hang does so before it answers.
async fn tokenize(
    State(worker): State<Arc<FakeWorker>>,
    Json(_): Json<TokenizeRequest>,
) -> Response {
    worker.active.fetch_add(1, Ordering::SeqCst);
    let _open = Open(Arc::clone(&worker));
    worker.sent.fetch_add(1, Ordering::SeqCst);
    let behaviour = worker.behaviour.lock().unwrap().clone();
    match behaviour {
        Behaviour::Refuse(error) => refusal(error),
        Behaviour::Hang { .. } => std::future::pending().await,
        _ => Json(TokenizeResponse {
            tokens: vec![1, 2, 3],
            count: 3,
        })
        .into_response(),
    }
}

fn refusal(error: Diagnostic) -> Response {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap();
    (status, Json(ErrorBody::from(error))).into_response()
}

async fn cancel(State(worker): State<Arc<FakeWorker>>, Path(id): Path<String>) -> StatusCode {
    for (name, cancelled) in worker.cancelled.lock().unwrap().iter() {
        if *name == id {
            cancelled.notify_one();
        }
    }
    StatusCode::NO_CONTENT
}

impl Answering {
    async fn next_event(&mut self) -> Option<Result<StreamEvent, std::io::Error>> {
        if self.over {
            return None;
        }
        // Lets the server write out what it has, so that a break comes after it.
        tokio::task::yield_now().await;
        if !self.started {
            self.started = true;
            return Some(Ok(StreamEvent::Started(StartedEvent {
                request_id: self.request.request_id.clone(),
                model: MODEL.parse().unwrap(),
                seed: self.request.sampling.seed.unwrap_or(SEED),
                prompt_tokens: 3,
                cached_tokens: 0,
            })));
        }
        let mut text = format!("{}.", self.next);
        match &self.behaviour {
            Behaviour::Answer { tokens } if self.next >= *tokens => {
                self.over = true;
                return Some(Ok(self.end()));
            }
            Behaviour::BreakAt { tokens } if self.next >= *tokens => {
                self.over = true;
                return Some(Err(std::io::Error::other("broken on purpose")));
            }
            Behaviour::ErrorAt { tokens, error } if self.next >= *tokens => {
                self.over = true;
                return Some(Ok(StreamEvent::Error(error.clone())));
            }
            Behaviour::Hang { tokens } if self.next >= *tokens => {
                self.cancelled.notified().await;
                self.over = true;
                let error = Diagnostic::new(Code::Cancelled, "cancelled");
                return Some(Ok(StreamEvent::Error(error)));
            }
            Behaviour::Flood { bytes } => text = "x".repeat(*bytes),
            _ => {}
        }
        let id = self.next;
        self.next += 1;
        self.open.0.sent.fetch_add(1, Ordering::SeqCst);
        Some(Ok(StreamEvent::Token(TokenEvent {
            i: id,
            t: text,
            id,
            calls: Vec::new(),
            logprob: None,
        })))
    }

    fn end(&self) -> StreamEvent {
        StreamEvent::End(EndEvent {
            stop: None,
            reason: FinishReason::Stop,
            usage: Usage {
                prompt_tokens: 3,
                completion_tokens: self.next,
                cached_tokens: 0,
            },
            timings: Timings::default(),
        })
    }
}
