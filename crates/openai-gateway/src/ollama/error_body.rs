use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Error response. Ollama's clients read `error`; the other fields are rbee's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OllamaErrorBody {
    /// Message and hint, separated by a semicolon.
    pub error: String,
    /// The error in rbee's format.
    #[serde(flatten)]
    pub diagnostic: Diagnostic,
}

impl From<Diagnostic> for OllamaErrorBody {
    fn from(diagnostic: Diagnostic) -> Self {
        let error = match &diagnostic.hint {
            // Ollama's clients show only this text.
            Some(hint) => format!("{}; {hint}", diagnostic.message),
            None => diagnostic.message.clone(),
        };
        Self { error, diagnostic }
    }
}
