//! The output of one request: from logits to token events, until it is complete.

mod output;
mod tools;

#[cfg(test)]
mod tests;

use std::{ops::ControlFlow, sync::Arc};

use diagnostics::Diagnostic;
use output::{Delta, Output};
use text_codec::Codec;
use worker_contract::{FinishReason, InferRequest, TokenEvent, TokenLogprob, TopLogprob};

use crate::{
    admission::Admitted,
    deadline::Deadline,
    errors,
    guide::Guide,
    sampler::{Sampler, logprob},
};

/// The state of a request's output between two tokens.
pub(crate) struct Generation {
    codec: Arc<Codec>,
    sampler: Sampler,
    output: Output,
    /// Keeps the output within its constraint, if the request has one.
    guide: Option<Guide>,
    max_tokens: u32,
    /// Number of alternatives to report, if the request asks for log probabilities.
    top_logprobs: Option<u8>,
    /// Number of output tokens so far, including replayed ones.
    count: u32,
    replayed: u32,
}

/// A sampled token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generated {
    pub event: TokenEvent,
    /// Set if the token is the last one.
    pub finish: Option<FinishReason>,
}

impl Generation {
    pub fn new(request: &InferRequest, admitted: &Admitted, seed: u64, codec: Arc<Codec>) -> Self {
        Self {
            output: Output::new(request, admitted, seed, &codec),
            codec,
            sampler: Sampler::new(admitted.sampling.clone(), seed, &admitted.prompt),
            guide: None,
            max_tokens: admitted.max_tokens,
            top_logprobs: request.logprobs,
            count: 0,
            replayed: 0,
        }
    }

    /// Sets the guide, which must be positioned after the replayed tokens.
    pub fn set_guide(&mut self, guide: Guide) {
        self.guide = Some(guide);
    }

    /// Returns the number of output tokens so far, including replayed ones.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the number of tokens sampled here.
    pub fn sampled(&self) -> u32 {
        self.count - self.replayed
    }

    /// Returns the index of the stop sequence that ended the output.
    pub fn stopped_by(&self) -> Option<u32> {
        self.output.stopped_by()
    }

    /// Replays tokens that another worker generated for this request, without events. Returns
    /// the finish reason if they complete the output.
    pub fn replay(&mut self, tokens: &[u32]) -> Option<FinishReason> {
        let finish = tokens
            .iter()
            .find_map(|token| self.append(*token, &mut Delta::default()));
        self.replayed = self.count;
        finish
    }

    /// Waits until the mask for the next token is computed, or until `deadline`.
    pub fn wait_for_mask(&mut self, deadline: Deadline) {
        if let Some(guide) = &mut self.guide {
            guide.wait(deadline);
        }
    }

    /// Samples the next token. Returns `None` while its mask is being computed; the caller
    /// must call again with the same logits.
    ///
    /// Errors: `INTERNAL` if no token can be sampled, `INVALID_REQUEST` if the constraint cannot
    /// be followed any further.
    pub fn next(&mut self, logits: &[f32]) -> Result<Option<Generated>, Diagnostic> {
        let index = self.count;
        let mask = match &mut self.guide {
            None => None,
            Some(guide) => match guide.allowed()? {
                None => return Ok(None),
                mask => mask,
            },
        };
        let id = self
            .sampler
            .choose(logits, index, mask)
            .ok_or_else(errors::nothing_to_sample)?;
        let logprob = self.top_logprobs.map(|top| self.logprob(logits, id, top));
        let mut delta = Delta::default();
        let finish = self.append(id, &mut delta);
        if finish.is_none()
            && let Some(guide) = &mut self.guide
        {
            guide.accept(id);
        }
        Ok(Some(Generated {
            event: TokenEvent {
                i: index,
                t: delta.text,
                reasoning: String::new(),
                id,
                calls: delta.calls,
                logprob,
            },
            finish,
        }))
    }

    /// Appends a token to the output and adds what became final to `delta`. Returns the finish
    /// reason if the token is the last one.
    fn append(&mut self, id: u32, delta: &mut Delta) -> Option<FinishReason> {
        self.count += 1;
        self.sampler.record(id);
        self.append_to_output(id, delta).break_value()
    }

    fn append_to_output(&mut self, id: u32, delta: &mut Delta) -> ControlFlow<FinishReason> {
        let is_end_token = self.codec.end_tokens().contains(&id);
        if !is_end_token {
            self.output.push(id, &self.codec, delta)?;
        }
        if is_end_token || self.count >= self.max_tokens {
            self.output.flush(delta)?;
            return ControlFlow::Break(if is_end_token {
                self.output.stop_reason()
            } else {
                FinishReason::Length
            });
        }
        ControlFlow::Continue(())
    }

    fn logprob(&self, logits: &[f32], id: u32, top: u8) -> TokenLogprob {
        let logprob = logprob(logits, id, usize::from(top));
        let bytes = |id| self.codec.token_bytes(id).to_vec();
        TokenLogprob {
            token: self.codec.token_text(id),
            bytes: bytes(id),
            logprob: logprob.chosen,
            top: logprob
                .top
                .into_iter()
                .map(|(id, logprob)| TopLogprob {
                    id,
                    token: self.codec.token_text(id),
                    bytes: bytes(id),
                    logprob,
                })
                .collect(),
        }
    }
}
