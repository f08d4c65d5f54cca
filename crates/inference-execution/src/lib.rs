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

/// The checks and the bookkeeping of requests, for engines that compute outside this process.
pub mod requests {
    pub use crate::{
        admission::{check_parameters, check_tool_choice, max_output_tokens, split_continuation},
        deadline::Deadline,
        errors::{
            cancelled, cannot_reason, empty_input, generation_expired, no_continuation, no_inputs,
            no_vision, nothing_to_answer, tools_without_messages,
        },
        history::{dropped_note, turn_starts, without_turns_before},
        runtime::{
            EventSender, RequestEnd, RequestTimes, Shared as Requests, Ticket, channel, draw_seed,
        },
        stop::StopMatcher,
    };
}

/// The decisions of batching, without an engine and a clock.
pub mod batching {
    pub use crate::{
        deadline::Deadline,
        scheduler::{BatchConfig, BatchEffect, BatchScheduler, SequenceEvent},
    };
}

pub use engine::{
    Batch, BlockId, Chunk, Engine, EngineError, KvCache, Logits, ModelDescription, Pooling,
    SequenceId, States,
};
pub use runtime::{
    EmbeddingReply, RequestStream, Runtime, RuntimeConfig, RuntimeCounts, RuntimeStatus,
};
