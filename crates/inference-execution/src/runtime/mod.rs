//! The engine thread and its handle.

mod constraints;
mod counters;
mod embeddings;
mod engine_loop;
mod generations;
mod sequences;
mod shared;
mod stream;
mod times;

pub use counters::{RequestEnd, RuntimeCounts};
pub use embeddings::EmbeddingReply;
pub use shared::{RuntimeStatus, Shared, Ticket};
pub use stream::{EventSender, RequestStream, channel};
pub use times::RequestTimes;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use constraints::Constraints;
use diagnostics::Diagnostic;
use embeddings::NewEmbedding;
use engine_loop::{EngineLoop, NewRequest};
use generations::{GenerationRequest, NewGeneration};
use input_validation::{ModelRef, RequestId};
use text_codec::Codec;
use tokio::sync::{oneshot, watch};
use worker_contract::{EmbedRequest, FinishReason, InferRequest, StartedEvent, TokenizeRequest};

use crate::{
    admission::{Admitted, ModelLimits, admit, admit_embedding_inputs, admit_tokenize, detokenize},
    calls::{Shape, required_shape},
    deadline::Deadline,
    engine::{Engine, ModelDescription, Pooling},
    errors,
    generation::Generation,
    scheduler::{BatchConfig, BatchScheduler},
};

/// Configuration of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Model reference that clients use.
    pub model: ModelRef,
    /// Maximum number of running requests; at least 1.
    pub slots: u32,
    /// Maximum number of accepted requests that wait for a slot.
    pub queue: u32,
    /// Maximum number of tokens in a step. With fewer tokens, a long prompt delays other requests
    /// less.
    pub token_budget: u32,
    /// Whether requests share the KV cache of common prefixes.
    pub prefix_cache: bool,
}

impl RuntimeConfig {
    /// Returns a configuration without a queue, with 256 tokens per step and a prefix cache.
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

/// A running engine. Clones are handles of the same engine. When the last handle is dropped,
/// open requests finish and the engine thread exits.
#[derive(Clone)]
pub struct Runtime(Arc<Handle>);

struct Handle {
    new_requests: SyncSender<NewRequest>,
    computes_embeddings: bool,
    shared: Arc<Shared>,
    codec: Arc<Codec>,
    constraints: Constraints,
    description: ModelDescription,
    limits: ModelLimits,
    model: ModelRef,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Runtime {
    /// Starts the engine thread.
    pub fn start(
        mut engine: Box<dyn Engine>,
        codec: Arc<Codec>,
        config: RuntimeConfig,
    ) -> Result<Self, Diagnostic> {
        const THREAD: &str = "engine";
        let description = engine.describe().clone();
        let pooling = engine.pooling();
        let (blocks, block_tokens) = (engine.kv().blocks(), engine.kv().block_tokens());
        let kv_tokens = u64::from(blocks) * u64::from(block_tokens);
        let slots = config.slots.max(1);
        let shared = Arc::new(Shared::new(slots, config.queue, kv_tokens));
        // Large enough for all open requests, so that sending does not block.
        let (new_requests, receiver) = sync_channel(shared.capacity() as usize);
        let scheduler = BatchScheduler::new(BatchConfig {
            slots,
            token_budget: config.token_budget,
            blocks,
            block_tokens,
            // Mean pooling needs the states of all tokens, including those of cached blocks.
            prefix_cache: config.prefix_cache && pooling != Some(Pooling::Mean),
        });
        let engine_loop = EngineLoop::new(engine, scheduler, receiver, shared.clone());
        let thread = thread::Builder::new()
            .name(THREAD.into())
            .spawn({
                let shared = shared.clone();
                move || run_engine(engine_loop, &shared)
            })
            .map_err(|e| errors::thread_not_started(THREAD, &e))?;
        shared.set_engine_thread(thread.thread().clone());
        let limits = ModelLimits {
            context_length: u32::try_from(kv_tokens)
                .unwrap_or(u32::MAX)
                .min(description.context_length),
            vocab_size: description.vocab_size,
        };
        Ok(Self(Arc::new(Handle {
            new_requests,
            computes_embeddings: pooling.is_some(),
            constraints: Constraints::new(codec.clone(), description.vocab_size, shared.clone()),
            shared,
            codec,
            description,
            limits,
            model: config.model,
        })))
    }

    /// Submits a request for generated text. Blocks while it tokenizes the input and compiles
    /// the constraint.
    ///
    /// Errors: `INVALID_REQUEST` with the field, `CONTEXT_LENGTH_EXCEEDED`,
    /// `DEADLINE_EXCEEDED`, `ALL_SLOTS_BUSY`, `DRAINING`, `DUPLICATE_REQUEST`.
    pub fn submit(&self, request: InferRequest) -> Result<RequestStream, Diagnostic> {
        let id = request.request_id.clone();
        self.submit_generation(request)
            .map_err(|error| error.correlation_id(id.as_str()))
    }

    fn submit_generation(&self, request: InferRequest) -> Result<RequestStream, Diagnostic> {
        let handle = &*self.0;
        let shared = &handle.shared;
        let times = RequestTimes::arrived_now();
        let deadline = request.deadline.map(Deadline::from_wall_clock);
        let deadline = deadline.transpose()?;
        // A slot comes first: a busy worker refuses without tokenizing.
        let ticket = shared.accept(&request.request_id, request.first_choice_id())?;
        let recommended = &handle.description.sampling;
        let mut admitted = admit(
            &request,
            &handle.model,
            &handle.codec,
            handle.limits,
            recommended,
        )?;
        let seed = match request.sampling.seed {
            Some(seed) => seed,
            None => draw_seed()?,
        };
        let (generation, finish) = self.prepare_generation(&request, &mut admitted, seed)?;
        let (events, stream) = stream::channel(shared.clone());
        let prompt_tokens = admitted.prompt.len() as u32;
        shared.counters.add_prompt_tokens(prompt_tokens);
        let prompt = if request.report_prompt {
            admitted.prompt.clone()
        } else {
            Vec::new()
        };
        let mut tokens = admitted.prompt;
        tokens.extend(request.continue_from);
        self.send(NewRequest::Generation(Box::new(NewGeneration {
            tokens,
            deadline,
            finish,
            request: GenerationRequest {
                ticket,
                events,
                generation,
                started: StartedEvent {
                    request_id: request.request_id,
                    model: handle.model.clone(),
                    seed,
                    prompt_tokens,
                    prompt,
                    cached_tokens: 0,
                    sampling: admitted.sampling.used(),
                    notes: admitted.notes,
                },
                times,
                pending_logits: None,
                paused: false,
            },
        })))?;
        Ok(stream)
    }

    /// Replays the output so far and compiles the constraint. The finish reason is set if the
    /// output is complete. What is not enforced is added to the notes.
    fn prepare_generation(
        &self,
        request: &InferRequest,
        admitted: &mut Admitted,
        seed: u64,
    ) -> Result<(Generation, Option<FinishReason>), Diagnostic> {
        let Handle {
            codec, constraints, ..
        } = &*self.0;
        let mut generation = Generation::new(request, admitted, seed, codec.clone());
        let finish = generation.replay(&request.continue_from);
        let Shape { constraint, note } = required_shape(request, codec);
        admitted.notes.extend(note);
        if let Some(constraint) = constraint.filter(|_| finish.is_none()) {
            let notes = &mut admitted.notes;
            let guide = constraints.guide(constraint, generation.constrained_tokens(), notes)?;
            generation.set_guide(guide);
        }
        Ok((generation, finish))
    }

    /// Submits a request for embeddings. Blocks while it tokenizes the inputs.
    ///
    /// Errors: as [`Self::submit`], and `UNSUPPORTED_MODEL` if the model does not compute
    /// embeddings.
    pub fn embed(&self, request: &EmbedRequest) -> Result<EmbeddingReply, Diagnostic> {
        self.submit_embedding(request)
            .map_err(|error| error.correlation_id(request.request_id.as_str()))
    }

    fn submit_embedding(&self, request: &EmbedRequest) -> Result<EmbeddingReply, Diagnostic> {
        let handle = &*self.0;
        let shared = &handle.shared;
        if !handle.computes_embeddings {
            return Err(errors::no_embeddings(&handle.model));
        }
        let deadline = request.deadline.map(Deadline::from_wall_clock);
        let deadline = deadline.transpose()?;
        let ticket = shared.accept(&request.request_id, None)?;
        let inputs = admit_embedding_inputs(
            &request.inputs,
            request.truncate,
            &handle.codec,
            handle.limits,
        )?;
        let prompt_tokens = inputs.iter().map(|tokens| tokens.len() as u32).sum();
        shared.counters.add_prompt_tokens(prompt_tokens);
        let (sender, reply) = oneshot::channel();
        self.send(NewRequest::Embedding(NewEmbedding {
            ticket,
            deadline,
            inputs,
            reply: sender,
        }))?;
        Ok(EmbeddingReply {
            reply,
            shared: shared.clone(),
            prompt_tokens,
        })
    }

    fn send(&self, request: NewRequest) -> Result<(), Diagnostic> {
        let Handle {
            new_requests,
            shared,
            ..
        } = &*self.0;
        new_requests
            .try_send(request)
            .map_err(|_| shared.engine_error())?;
        shared.wake_engine();
        Ok(())
    }

    /// Converts an input to tokens as [`Self::submit`] does. `tools` require messages.
    pub fn tokenize(&self, request: &TokenizeRequest) -> Result<Vec<u32>, Diagnostic> {
        let Handle {
            model,
            codec,
            limits,
            ..
        } = &*self.0;
        admit_tokenize(request, model, codec, limits.vocab_size)
    }

    /// Converts tokens to text.
    ///
    /// Errors: `INVALID_REQUEST` if a token is not in the vocabulary.
    pub fn detokenize(&self, tokens: &[u32]) -> Result<String, Diagnostic> {
        let Handle { codec, limits, .. } = &*self.0;
        detokenize(tokens, codec, limits.vocab_size)
    }

    /// Cancels a request and its other choices. Their streams end with `CANCELLED`. Returns
    /// whether any of them was open.
    pub fn cancel(&self, id: &RequestId) -> bool {
        self.0.shared.cancel(id)
    }

    /// Refuses new requests from now on. Open requests continue.
    pub fn drain(&self) {
        self.0.shared.drain();
    }

    /// Waits until no request is open.
    pub async fn idle(&self) {
        let mut changes = self.changes();
        // The channel cannot close, because this handle holds the sender.
        let _ = changes.wait_for(|_| self.0.shared.is_idle()).await;
    }

    /// Drains and ends all open requests with `error`. Only the first call sets the error.
    pub fn abort(&self, error: Diagnostic) {
        self.0.shared.abort(error);
    }

    pub fn status(&self) -> RuntimeStatus {
        self.0.shared.status()
    }

    /// Returns the time since the engine completed a step, or `None` before its first step.
    pub fn since_last_step(&self) -> Option<Duration> {
        self.0.shared.since_last_step()
    }

    pub fn counts(&self) -> RuntimeCounts {
        self.0.shared.counters.snapshot()
    }

    /// Returns a channel that changes whenever the runtime becomes busy, ready, idle, draining
    /// or lost.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.shared.changes()
    }

    /// Returns the error that the engine was lost with. The process must exit then.
    pub fn failure(&self) -> Option<&Diagnostic> {
        self.0.shared.failure()
    }

    pub fn description(&self) -> &ModelDescription {
        &self.0.description
    }

    /// Returns the maximum length of a sequence in tokens: what the model supports and the KV
    /// cache has room for.
    pub fn context_length(&self) -> u32 {
        self.0.limits.context_length
    }

    pub fn computes_embeddings(&self) -> bool {
        self.0.computes_embeddings
    }

    /// Returns the model reference that clients use.
    pub fn model(&self) -> &ModelRef {
        &self.0.model
    }

    pub fn codec(&self) -> &Arc<Codec> {
        &self.0.codec
    }
}

/// Runs the engine thread. A panic of the engine counts as a lost device, because the state that
/// it leaves behind cannot be trusted.
fn run_engine(mut engine_loop: EngineLoop, shared: &Shared) {
    let error = match catch_unwind(AssertUnwindSafe(|| engine_loop.run())) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.into(),
        Err(panic) => errors::engine_panicked(panic_message(&*panic)),
    };
    tracing::error!(%error, "engine lost");
    shared.set_failure(error.clone());
    engine_loop.fail_all(&error);
    shared.notify();
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    message.unwrap_or("no message")
}

/// Draws a seed of 53 bits, which every JSON parser can represent.
pub fn draw_seed() -> Result<u64, Diagnostic> {
    getrandom::u64()
        .map(|bits| bits >> 11)
        .map_err(errors::no_seed)
}
