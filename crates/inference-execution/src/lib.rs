//! Inference execution: batching, sampling, stop sequences, cancellation.
//!
//! A [`Runtime`] owns the engine thread, which repeats these steps: accept requests, compose a
//! batch, let the [`Engine`] compute it, sample tokens, send events. [`mock`] has an engine
//! without a model.

mod admission;
mod blocks;
mod calls;
mod deadline;
mod engine;
mod errors;
mod generation;
mod guide;
mod history;
pub mod mock;
mod reasoning_request;
mod runtime;
mod sampler;
mod scheduler;
mod stop;

pub use engine::{
    Batch, BlockId, Chunk, Engine, EngineError, KvCache, Logits, ModelDescription, Pooling,
    SequenceId, States,
};
pub use runtime::{
    EmbeddingReply, RequestStream, Runtime, RuntimeConfig, RuntimeCounts, RuntimeStatus,
};
