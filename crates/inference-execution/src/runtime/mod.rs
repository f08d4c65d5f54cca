//! The thread that owns the engine, and the handle that requests reach it by.

mod active;
mod constraints;
mod embedding;
mod engine_loop;
mod shared;
mod stream;

pub use embedding::EmbeddingReply;
pub use shared::{RuntimeCounts, RuntimeStatus};
pub use stream::RequestStream;

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering::SeqCst,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use active::{Active, RequestClock, Submission};
use constraints::Constraints;
use diagnostics::{Code, Diagnostic, escape};
use embedding::{Embeddings, Job};
use engine_loop::EngineLoop;
use input_validation::{ModelRef, RequestId};
use jiff::Timestamp;
use shared::Shared;
use text_codec::Codec;
use tokio::sync::{oneshot, watch};
use worker_contract::{EmbedRequest, InferRequest, StartedEvent};

use crate::{
    Engine, Generation, ModelDescription, Pooling, Scheduler, SchedulerConfig,
    admission::{Limits, admit, admit_texts},
    tool_calls::shape,
};

/// How a runtime works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The model as clients name it.
    pub model: ModelRef,
    /// Requests that run at once; at least 1.
    pub slots: u32,
    /// Requests that are accepted beyond the slots and wait.
    pub queue: u32,
    /// Tokens computed in one step: the smaller, the less a long prompt holds others up.
    pub token_budget: u32,
    /// Requests that begin alike share what is computed of it.
    pub prefix_cache: bool,
}

impl RuntimeConfig {
    /// A configuration for `model` with `slots` slots, no queue, 256 tokens in a step, and
    /// shared prefixes.
    pub fn new(model: ModelRef, slots: u32) -> Self {
        Self {
            model,
            slots,
            queue: 0,
            token_budget: 256,
            prefix_cache: true,
        }
    }
}

/// A running engine. Clones are handles of the same one; when the last is dropped, running
/// requests finish and the thread ends.
#[derive(Clone)]
pub struct Runtime(Arc<Handle>);

struct Handle {
    submissions: SyncSender<Submission>,
    jobs: SyncSender<Job>,
    makes_vectors: bool,
    shared: Arc<Shared>,
    codec: Arc<Codec>,
    constraints: Constraints,
    description: ModelDescription,
    limits: Limits,
    model: ModelRef,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closing.store(true, SeqCst);
        self.shared.wake();
    }
}

impl Runtime {
    /// Starts the thread that owns `engine`.
    pub fn start(
        mut engine: Box<dyn Engine>,
        codec: Arc<Codec>,
        config: RuntimeConfig,
    ) -> Result<Self, Diagnostic> {
        let description = engine.describe().clone();
        let blocks = engine.kv().blocks();
        let block_tokens = engine.kv().block_tokens();
        let kv_tokens = u64::from(blocks) * u64::from(block_tokens);
        let slots = config.slots.max(1);
        let shared = Arc::new(Shared::new(slots, config.queue, kv_tokens));
        // Every accepted request has a place here, so that sending never waits.
        let (submissions, receiver) = sync_channel((slots + config.queue) as usize);
        let (jobs, job_receiver) = sync_channel((slots + config.queue) as usize);
        let pooling = engine.pooling();
        let makes_vectors = pooling.is_some();
        let engine_loop = EngineLoop {
            jobs: job_receiver,
            embeddings: Embeddings::default(),
            slots: slots as usize,
            engine,
            scheduler: Scheduler::new(SchedulerConfig {
                slots,
                token_budget: config.token_budget,
                blocks,
                block_tokens,
                // A mean is taken over all states, so all are computed.
                prefix_cache: config.prefix_cache && pooling != Some(Pooling::Mean),
            }),
            submissions: receiver,
            shared: shared.clone(),
            active: BTreeMap::new(),
            next: 0,
            block_tokens: u64::from(block_tokens),
        };
        let thread = thread::Builder::new()
            .name("engine".into())
            .spawn(move || run(engine_loop))
            .map_err(|e| Diagnostic::internal(format!("cannot start the engine's thread: {e}")))?;
        // Set once, here.
        let _ = shared.thread.set(thread.thread().clone());
        let limits = Limits {
            context_length: u32::try_from(kv_tokens)
                .unwrap_or(u32::MAX)
                .min(description.context_length),
            vocab_size: description.vocab_size,
        };
        Ok(Self(Arc::new(Handle {
            submissions,
            constraints: Constraints::new(codec.clone(), description.vocab_size, &shared),
            jobs,
            makes_vectors,
            shared,
            codec,
            description,
            limits,
            model: config.model,
        })))
    }

    /// Takes a request: checks it, encodes its input, compiles its constraint, and gives it a
    /// slot. A long prompt or a large constraint takes its time; call it where blocking is
    /// allowed.
    ///
    /// Errors: `INVALID_REQUEST` with the field, `CONTEXT_LENGTH_EXCEEDED`,
    /// `DEADLINE_EXCEEDED`, `ALL_SLOTS_BUSY`, `DRAINING`, `DUPLICATE_REQUEST`.
    pub fn submit(&self, request: InferRequest) -> Result<RequestStream, Diagnostic> {
        let id = request.request_id.clone();
        self.submit_inner(request)
            .map_err(|error| error.correlated(id.as_str()))
    }

    fn submit_inner(&self, request: InferRequest) -> Result<RequestStream, Diagnostic> {
        let clock = RequestClock::new();
        let handle = &*self.0;
        let shared = &handle.shared;
        let deadline = request.deadline.map(|at| self.on_clock(at)).transpose()?;
        // A slot is asked for first: a worker that is busy says so without encoding.
        let ticket = shared.accept(&request.request_id, request.first())?;
        let admitted = admit(&request, &handle.model, &handle.codec, handle.limits)?;
        let seed = match request.sampling.seed {
            Some(seed) => seed,
            None => draw_seed()?,
        };
        let mut generation = Generation::new(&request, &admitted, seed, handle.codec.clone());
        let complete = generation.replay(&request.continue_from);
        if complete.is_none()
            && let Some(shape) = shape(&request, &handle.codec)
        {
            let guide = handle.constraints.guide(shape, &request.continue_from);
            generation.keep_to(guide?);
        }
        let (events, stream) = stream::channel(shared.clone(), seed);
        let prompt_tokens = admitted.prompt.len() as u32;
        shared
            .prompt_tokens
            .fetch_add(u64::from(prompt_tokens), SeqCst);
        let mut tokens = admitted.prompt;
        tokens.extend(request.continue_from);
        let submission = Submission {
            tokens,
            deadline,
            complete,
            active: Active {
                ticket,
                events,
                generation,
                started_event: StartedEvent {
                    request_id: request.request_id,
                    model: handle.model.clone(),
                    seed,
                    prompt_tokens,
                    cached_tokens: 0,
                },
                held: None,
                paused: false,
                clock,
            },
        };
        if handle.submissions.try_send(submission).is_err() {
            let lost = || Diagnostic::internal("the engine has ended");
            return Err(shared.failure.get().cloned().unwrap_or_else(lost));
        }
        shared.wake();
        Ok(stream)
    }

    /// Takes a request for vectors: checks it, encodes its inputs, and gives it a slot. The
    /// encoding takes its time; call it where blocking is allowed.
    ///
    /// Errors: those of [`Self::submit`], and `UNSUPPORTED_MODEL` when the model makes no
    /// vectors.
    pub fn embed(&self, request: &EmbedRequest) -> Result<EmbeddingReply, Diagnostic> {
        self.embed_inner(request)
            .map_err(|error| error.correlated(request.request_id.as_str()))
    }

    fn embed_inner(&self, request: &EmbedRequest) -> Result<EmbeddingReply, Diagnostic> {
        let handle = &*self.0;
        let shared = &handle.shared;
        if !handle.makes_vectors {
            let message = format!("{} makes no vectors of texts", handle.model);
            return Err(Diagnostic::new(Code::UnsupportedModel, message).param("model"));
        }
        let deadline = request.deadline.map(|at| self.on_clock(at)).transpose()?;
        let ticket = shared.accept(&request.request_id, None)?;
        let texts = admit_texts(
            &request.inputs,
            request.truncate,
            &handle.codec,
            handle.limits,
        )?;
        let prompt_tokens = texts.iter().map(|tokens| tokens.len() as u32).sum();
        shared
            .prompt_tokens
            .fetch_add(u64::from(prompt_tokens), SeqCst);
        let (sender, reply) = oneshot::channel();
        let job = Job {
            ticket,
            deadline,
            vectors: vec![Vec::new(); texts.len()],
            inputs: texts.into_iter().enumerate().collect(),
            reply: sender,
        };
        if handle.jobs.try_send(job).is_err() {
            let lost = || Diagnostic::internal("the engine has ended");
            return Err(shared.failure.get().cloned().unwrap_or_else(lost));
        }
        shared.wake();
        Ok(EmbeddingReply {
            reply,
            shared: shared.clone(),
            prompt_tokens,
        })
    }

    /// Whether the model makes vectors of texts.
    pub fn makes_vectors(&self) -> bool {
        self.0.makes_vectors
    }

    fn on_clock(&self, at: Timestamp) -> Result<Duration, Diagnostic> {
        let left = at.duration_since(Timestamp::now());
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => Ok(self.0.shared.now().saturating_add(left)),
            _ => Err(Diagnostic::new(
                Code::DeadlineExceeded,
                format!("the request's deadline {at} has passed"),
            )
            .hint("allow more time")
            .param("deadline")),
        }
    }

    /// Cancels a request and other answers to it; their streams end with `CANCELLED`. `false`
    /// when none of them runs.
    pub fn cancel(&self, id: &RequestId) -> bool {
        self.0.shared.cancel(id)
    }

    /// From now on nothing new is taken; what runs goes on.
    pub fn drain(&self) {
        self.0.shared.drain();
    }

    /// Resolves when nothing runs.
    pub async fn idle(&self) {
        let mut changes = self.changes();
        // The sender lives as long as this handle.
        let _ = changes.wait_for(|_| self.0.shared.is_idle()).await;
    }

    /// Ends everything that runs with `error`, and takes nothing new.
    pub fn abort(&self, error: Diagnostic) {
        self.drain();
        // The first reason stands.
        let _ = self.0.shared.ending.set(error);
        self.0.shared.wake();
    }

    /// Slots, queue and KV cache now.
    pub fn status(&self) -> RuntimeStatus {
        self.0.shared.status()
    }

    /// How long ago the engine finished a step; absent before its first.
    pub fn since_last_step(&self) -> Option<Duration> {
        self.0.shared.since_last_step()
    }

    /// What was done so far.
    pub fn counts(&self) -> RuntimeCounts {
        self.0.shared.counts()
    }

    /// Changes whenever the runtime becomes busy, ready, idle, draining or lost.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.shared.changes()
    }

    /// Why the engine is lost; the process must then end.
    pub fn failure(&self) -> Option<&Diagnostic> {
        self.0.shared.failure.get()
    }

    /// The model.
    pub fn description(&self) -> &ModelDescription {
        &self.0.description
    }

    /// What a request may use.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The model's tokenizer.
    pub fn codec(&self) -> &Arc<Codec> {
        &self.0.codec
    }
}

/// The engine's thread. A panic of the engine counts as the loss of its device: what it left
/// behind cannot be trusted.
fn run(mut engine_loop: EngineLoop) {
    let error = match catch_unwind(AssertUnwindSafe(|| engine_loop.run())) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(panic) => Diagnostic::internal(format!("the engine panicked: {}", text_of(&*panic))),
    };
    tracing::error!(%error, "the engine is lost");
    let shared = engine_loop.shared.clone();
    let _ = shared.failure.set(error.clone());
    engine_loop.end_all(&error);
    shared.changed();
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    escape(text.unwrap_or("no message"))
}

/// A seed that every JSON reader can hold.
fn draw_seed() -> Result<u64, Diagnostic> {
    getrandom::u64()
        .map(|bits| bits >> 11)
        .map_err(|e| Diagnostic::internal(format!("no random bytes for a seed: {e}")))
}
