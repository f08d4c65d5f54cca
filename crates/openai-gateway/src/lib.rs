//! Between the APIs that clients speak and rbee's own [`InferRequest`]:
//! bodies in, chunks and documents out. Pure: no HTTP, no clock. OpenAI's is here, the others
//! are in [`ollama`] and [`anthropic`].
//!
//! A field that an API defines and rbee does not have is refused with
//! [`UNSUPPORTED_PARAMETER`](diagnostics::Code::UnsupportedParameter) whenever it would
//! change the answer; it is never ignored. A field that neither knows is ignored, as
//! clients expect.

mod answer;
pub mod anthropic;
mod chat;
mod chunks;
mod completion;
mod constraint;
mod embeddings;
mod fields;
mod logprobs;
mod models;
pub mod ollama;
mod tools;
mod unsupported;
mod usage;
mod writer;

pub use answer::{Answer, ChatAnswer, CompletionAnswer};
pub use chat::{ChatMessage, ChatRequest};
pub use chunks::ChunkWriter;
pub use completion::CompletionRequest;
pub use constraint::{ClientFields, in_clients_words};
pub use embeddings::{EmbeddingsAnswer, EmbeddingsCall, EmbeddingsRequest};
pub use models::{Model, ModelList};
pub use tools::{CalledFunction, ChatFunction, ChatTool, ChatToolCall};
pub use usage::{CompletionUsage, PromptTokensDetails};
pub use writer::{AnswerWriter, Asked};

pub(crate) use usage::UsageSum;

use diagnostics::Diagnostic;
use input_validation::RequestId;
use jiff::Timestamp;
use serde_json::Value;
use worker_contract::{
    Constraint, FinishReason, InferInput, InferRequest, Sampling, ToolChoice, ToolDefinition,
};

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
    /// What the answer must match, unless it calls tools.
    pub constraint: Option<Constraint>,
    /// What the client calls what a worker may refuse.
    pub fields: ClientFields,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Alternatives to report at each position; `None` reports no probabilities.
    pub logprobs: Option<u8>,
    /// Functions that the model may ask to have called.
    pub tools: Vec<ToolDefinition>,
    /// Whether it does.
    pub tool_choice: ToolChoice,
    /// Whether one answer may call several times.
    pub parallel_tool_calls: bool,
    /// How many answers are wanted, 1 to [`MOST_CHOICES`].
    pub choices: u32,
}

/// Most answers to one request.
pub const MOST_CHOICES: u32 = 16;

impl Call {
    /// Reads the JSON body of an endpoint.
    pub fn parse(edge: Edge, body: &Value) -> Result<Self, Diagnostic> {
        match edge {
            Edge::Chat => chat::parse(body),
            Edge::Completion => completion::parse(body),
        }
    }

    /// The request for a worker, for the first of its answers.
    pub fn into_request(self, request_id: RequestId, deadline: Option<Timestamp>) -> InferRequest {
        InferRequest {
            max_tokens: self.max_tokens,
            sampling: self.sampling,
            constraint: self.constraint,
            stop: self.stop,
            logprobs: self.logprobs,
            tools: self.tools,
            tool_choice: self.tool_choice,
            parallel_tool_calls: self.parallel_tool_calls,
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

/// Why an answer ended, as OpenAI has it: that a function is called which the client named
/// is nothing that the model decided, so such an answer ends with `stop`.
pub fn told_reason(choice: &ToolChoice, reason: FinishReason) -> FinishReason {
    match (choice, reason) {
        (ToolChoice::Named(_), FinishReason::ToolCalls) => FinishReason::Stop,
        _ => reason,
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
