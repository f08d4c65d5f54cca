//! OpenAI's API: chat completions, text completions, embeddings, models.

mod chat;
mod chunks;
mod common;
mod completion;
mod constraint;
mod document;
mod embeddings;
mod endpoint;
mod error_body;
mod limits;
mod models;
mod reasoning;
mod response_head;
mod schemas;
mod tools;
mod unsupported;
mod usage;

pub use chat::{ChatMessage, ChatRequest};
pub use common::StreamOptions;
pub use completion::CompletionRequest;
pub use document::{ChatCompletion, TextCompletion};
pub use embeddings::{EmbeddingsRequest, EmbeddingsResponse, ParsedEmbeddingsRequest};
pub use endpoint::OpenAiEndpoint;
pub use error_body::{OpenAiError, OpenAiErrorBody};
pub use models::{OpenAiModel, OpenAiModelList, OpenAiModelState};
pub use schemas::{ChatCompletionEvent, TextCompletionEvent};

pub(crate) use common::TEMPERATURE;
pub(crate) use error_body::message as error_message;
pub(crate) use reasoning::effort;
pub(crate) use schemas::ReasoningEffort;
pub(crate) use tools::{MAX_TOOLS, function_definition};

use diagnostics::Diagnostic;
use serde_json::Value;

use crate::parsed_request::{ParsedRequest, RequestContext};

/// Parses the JSON body of `endpoint`.
pub fn parse(
    endpoint: OpenAiEndpoint,
    body: &Value,
    context: &RequestContext,
) -> Result<ParsedRequest, Diagnostic> {
    match endpoint {
        OpenAiEndpoint::ChatCompletions => chat::parse(body, context),
        OpenAiEndpoint::Completions => completion::parse(body, context),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
