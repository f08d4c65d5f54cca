//! Ollama's API. Answers are lines of JSON, streamed unless told otherwise; durations are
//! nanoseconds.

mod answer;
mod embed;
mod models;
mod options;
mod request;

pub use answer::{OllamaAnswer, OllamaMessage, OllamaWriter};
pub use embed::{
    OllamaEmbedAnswer, OllamaEmbedCall, OllamaEmbedRequest, OllamaEmbeddingsAnswer,
    OllamaEmbeddingsRequest,
};
pub use models::{
    Facts, OllamaModel, OllamaModels, OllamaProcesses, OllamaRunning, OllamaShown, resolve,
};
pub use options::OllamaOptions;
pub use request::{OllamaChatRequest, OllamaGenerateRequest, OllamaShowRequest, parse};

use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version of Ollama whose API this is; clients ask for no more, and some for no less.
pub const API_VERSION: &str = "0.13.0";

/// Which endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OllamaEdge {
    /// `/api/chat`.
    Chat,
    /// `/api/generate`.
    Generate,
}

/// An error as Ollama's clients read it; what they do not know stands beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OllamaError {
    /// What failed, and what to do about it.
    pub error: String,
    /// The error itself.
    #[serde(flatten)]
    pub diagnostic: Diagnostic,
}

impl From<Diagnostic> for OllamaError {
    fn from(diagnostic: Diagnostic) -> Self {
        let error = match &diagnostic.hint {
            // The clients show nothing but this text.
            Some(hint) => format!("{}; {hint}", diagnostic.message),
            None => diagnostic.message.clone(),
        };
        Self { error, diagnostic }
    }
}

#[cfg(test)]
mod tests;
