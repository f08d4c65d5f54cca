use diagnostics::Diagnostic;
use llguidance::api::StopReason;

use crate::{errors, mask::TokenMask};

/// Follows one output through its constraint. Must run on threads of
/// [`crate::thread_builder`].
pub struct Matcher {
    inner: llguidance::Matcher,
    tokens: usize,
    end_tokens: TokenMask,
    /// Request field named in errors.
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

    /// Consumes the next token of the output, which must not be an end token.
    ///
    /// Errors: `INVALID_REQUEST` if the constraint does not allow the token, or a work limit is
    /// exceeded.
    pub fn accept(&mut self, token: u32) -> Result<(), Diagnostic> {
        self.inner
            .consume_token(token)
            .map_err(|error| self.diagnostic(&error))
    }

    /// Computes the tokens allowed next, including end tokens if the output may end here, and
    /// only end tokens if it must. Never empty.
    ///
    /// Errors: `INVALID_REQUEST` if no token is allowed, or a work limit is exceeded.
    pub fn allowed(&mut self) -> Result<TokenMask, Diagnostic> {
        let finished = [StopReason::NoExtension, StopReason::EndOfSentence];
        if finished.contains(&self.inner.stop_reason()) {
            return Ok(self.end_tokens.clone());
        }
        match self.inner.compute_mask() {
            Ok(mask) => Ok(TokenMask::from_words(mask.into(), self.tokens)),
            Err(error) => Err(self.diagnostic(&error)),
        }
    }

    fn diagnostic(&self, error: &impl ToString) -> Diagnostic {
        errors::from_matching(error).rename_param(errors::PARAM, self.field)
    }
}
