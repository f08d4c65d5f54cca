use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{overflow::Overflow, shown_message::shown_message};

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
    fn from(mut diagnostic: Diagnostic) -> Self {
        if let Some(overflow) = Overflow::of(&diagnostic) {
            // Begins with Ollama's own sentence, by which its clients know the error.
            diagnostic.message = format!(
                "the input length exceeds the context length: {} tokens > {} maximum",
                overflow.tokens,
                overflow.max_input(),
            );
        }
        Self {
            error: shown_message(&diagnostic),
            diagnostic,
        }
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn an_overflow_has_the_sentence_that_clients_look_for() {
        let error = Diagnostic::new(Code::ContextLengthExceeded, "too long")
            .detail("prompt_tokens", 9000)
            .detail("context_length", 8192);
        let body = OllamaErrorBody::from(error);
        assert_eq!(
            body.error,
            "the input length exceeds the context length: 9000 tokens > 8192 maximum"
        );
    }
}
