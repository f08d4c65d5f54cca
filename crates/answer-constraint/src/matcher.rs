use diagnostics::Diagnostic;
use llguidance::api::StopReason;

use crate::{TokenMask, fault};

/// Follows one answer through its constraint. Use it on threads of
/// [`crate::thread_builder`] only.
pub struct Matcher {
    inner: llguidance::Matcher,
    tokens: usize,
    end_tokens: TokenMask,
    /// What errors name.
    field: &'static str,
}

impl Matcher {
    pub(crate) fn new(
        inner: llguidance::Matcher,
        tokens: usize,
        end_tokens: TokenMask,
        field: &'static str,
    ) -> Self {
        Self {
            inner,
            tokens,
            end_tokens,
            field,
        }
    }

    /// Takes the next token of the answer, which is not an end token.
    ///
    /// Errors: `INVALID_REQUEST` when the constraint does not allow it, or when following it
    /// takes too much work.
    pub fn accept(&mut self, token: u32) -> Result<(), Diagnostic> {
        self.inner
            .consume_token(token)
            .map_err(|error| self.fault(&error))
    }

    /// The tokens that may come next: end tokens among them when the answer may end here,
    /// and nothing else when it must. Never empty.
    ///
    /// Errors: `INVALID_REQUEST` when nothing may come next, or when finding out takes too
    /// much work.
    pub fn allowed(&mut self) -> Result<TokenMask, Diagnostic> {
        let finished = [StopReason::NoExtension, StopReason::EndOfSentence];
        if finished.contains(&self.inner.stop_reason()) {
            return Ok(self.end_tokens.clone());
        }
        match self.inner.compute_mask() {
            Ok(mask) => Ok(TokenMask::from_words(mask.into(), self.tokens)),
            Err(error) => Err(self.fault(&error)),
        }
    }

    fn fault(&self, error: &impl ToString) -> Diagnostic {
        fault::while_followed(error).renamed(fault::PARAM, self.field)
    }
}
