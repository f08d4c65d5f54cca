use diagnostics::{Code, Diagnostic};
use serde_json::Value;

/// The sizes of an input that does not fit the context of the model.
///
/// Agents and gateways compact a conversation when they recognise this error, and they recognise
/// it by the sentence of the API that they call. Each dialect writes its own from these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// Tokens of the input, or a lower bound of them.
    pub(crate) tokens: u64,
    /// Maximum number of tokens of input and output together.
    pub(crate) context_length: u64,
}

impl Overflow {
    /// Returns the sizes that a worker reports with its error.
    pub(crate) fn of(error: &Diagnostic) -> Option<Self> {
        let details = error.details.as_ref()?;
        let number = |name: &str| details.get(name).and_then(Value::as_u64);
        (error.code == Code::ContextLengthExceeded).then_some(Self {
            tokens: number("prompt_tokens")?,
            context_length: number("context_length")?,
        })
    }

    /// Maximum number of tokens of an input, which leaves room for the output.
    pub(crate) fn max_input(self) -> u64 {
        self.context_length.min(self.tokens.saturating_sub(1))
    }
}
