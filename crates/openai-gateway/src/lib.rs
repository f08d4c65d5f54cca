//! Between OpenAI's API and rbee's own [`InferRequest`]:
//! bodies in, chunks and documents out. Pure: no HTTP, no clock.
//!
//! A field that OpenAI defines and rbee does not have is refused with
//! [`UNSUPPORTED_PARAMETER`](diagnostics::Code::UnsupportedParameter) whenever it would
//! change the answer; it is never ignored. A field that neither knows is ignored, as OpenAI's
//! clients expect.

mod answer;
mod chat;
mod chunks;
mod completion;
mod fields;
mod logprobs;
mod models;
mod unsupported;

pub use answer::{Answer, ChatAnswer, CompletionAnswer};
pub use chat::{ChatMessage, ChatRequest};
pub use chunks::ChunkWriter;
pub use completion::CompletionRequest;
pub use models::{Model, ModelList};

use diagnostics::Diagnostic;
use input_validation::RequestId;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{FinishReason, InferInput, InferRequest, Sampling, Usage};

/// Which of the two endpoints speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
}

/// A request of an OpenAI client, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Where it came in.
    pub edge: Edge,
    /// The model by the client's name for it.
    pub model: String,
    /// Chunks or one document.
    pub stream: bool,
    /// Send a last chunk with the tokens counted.
    pub include_usage: bool,
    /// What the model is given.
    pub input: InferInput,
    /// Most tokens to generate.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Alternatives to report at each position; `None` reports no probabilities.
    pub logprobs: Option<u8>,
}

impl Call {
    /// Reads the JSON body of an endpoint.
    pub fn parse(edge: Edge, body: &Value) -> Result<Self, Diagnostic> {
        match edge {
            Edge::Chat => chat::parse(body),
            Edge::Completion => completion::parse(body),
        }
    }

    /// The request for a worker.
    pub fn into_request(self, request_id: RequestId, deadline: Option<Timestamp>) -> InferRequest {
        InferRequest {
            max_tokens: self.max_tokens,
            sampling: self.sampling,
            stop: self.stop,
            logprobs: self.logprobs,
            deadline,
            ..InferRequest::new(request_id, self.input)
        }
    }
}

/// What every answer to one request says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The request's name; OpenAI's prefix is put before it.
    pub request_id: RequestId,
    /// The model by the client's name for it.
    pub model: String,
    /// When the request came, in seconds since 1970.
    pub created: i64,
    /// What computed it: version and engine, so that a client sees a change.
    pub system_fingerprint: String,
}

impl Envelope {
    fn id(&self, edge: Edge) -> String {
        let prefix = match edge {
            Edge::Chat => "chatcmpl",
            Edge::Completion => "cmpl",
        };
        format!("{prefix}-{}", self.request_id)
    }
}

/// OpenAI's count of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct CompletionUsage {
    /// Of the prompt.
    pub prompt_tokens: u32,
    /// Generated.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
    /// More about the prompt's.
    pub prompt_tokens_details: PromptTokensDetails,
}

/// More about the tokens of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Not computed because a cache had them.
    pub cached_tokens: u32,
}

impl From<Usage> for CompletionUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: usage.cached_tokens,
            },
        }
    }
}

fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
