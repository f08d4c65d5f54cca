//! From a request to its tokens: batching, sampling, stopping, cancelling.
//!
//! [`Runtime`] is the whole: one thread owns an [`Engine`] and loops over admit, schedule,
//! step, sample, emit. Its parts are pure and usable alone: [`Scheduler`] with its
//! [`BlockPool`] decides what is computed, [`Sampler`] chooses a token from logits,
//! [`StopMatcher`] finds stop texts, [`Guide`] keeps to a constraint, and [`Generation`]
//! combines the latter three with the decoder into token events. [`mock`] is an engine
//! without a model.

pub mod admission;
mod blocks;
mod engine;
mod generation;
mod guide;
pub mod mock;
mod runtime;
mod sampler;
mod scheduler;
mod stop;
mod tool_calls;

pub use blocks::BlockPool;
pub use engine::{
    Batch, BlockId, Chunk, Engine, EngineError, KvCache, Logits, ModelDescription, Pooling,
    SequenceId, States,
};
pub use generation::{Generated, Generation};
pub use guide::{Guide, MaskThread};
pub use runtime::{
    EmbeddingReply, RequestStream, Runtime, RuntimeConfig, RuntimeCounts, RuntimeStatus,
};
pub use sampler::{Logprob, Sampler, logprob};
pub use scheduler::{Effect, Event, Scheduler, SchedulerConfig};
pub use stop::{Pushed, StopMatcher};
