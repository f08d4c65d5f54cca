//! The output of one request: from logits to token events, until it is complete.

mod output;
mod reasoning_control;
mod tools;

#[cfg(test)]
mod tests;

use std::{ops::ControlFlow, sync::Arc};

use diagnostics::Diagnostic;
use output::{Delta, Output};
use reasoning::Phase;
use reasoning_control::ReasoningControl;
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
    reasoning: ReasoningControl,
    /// Keeps the answer within its constraint, if the request has one.
    guide: Option<Guide>,
    /// Replayed tokens that the constraint applies to.
    constrained: Vec<u32>,
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
        let output = Output::new(request, admitted, seed, &codec);
        Self {
            reasoning: ReasoningControl::new(request, admitted.reasoning.as_ref(), output.phase()),
            output,
            codec,
            sampler: Sampler::new(admitted.sampling.clone(), seed, &admitted.prompt),
            guide: None,
            constrained: Vec::new(),
            max_tokens: admitted.max_tokens,
            top_logprobs: request.logprobs,
            count: 0,
            replayed: 0,
        }
    }

    /// Returns the replayed tokens that the constraint applies to: those of the answer.
    pub fn constrained_tokens(&self) -> &[u32] {
        &self.constrained
    }

    /// Sets the guide, which must be positioned after [`Self::constrained_tokens`].
    pub fn set_guide(&mut self, guide: Guide) {
        self.guide = Some(guide);
    }

    /// Returns the number of reasoning tokens so far, including replayed ones.
    pub fn reasoning_tokens(&self) -> u32 {
        self.reasoning.count()
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
        let finish = tokens.iter().find_map(|token| {
            if self.reasoning.is_constrained(*token, self.output.phase()) {
                self.constrained.push(*token);
            }
            self.append(*token, &mut Delta::default())
        });
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
        let before = self.output.phase();
        let Some(id) = self.next_token(logits, before)? else {
            return Ok(None);
        };
        let is_constrained = self.reasoning.is_constrained(id, before);
        let logprob = self.top_logprobs.map(|top| self.logprob(logits, id, top));
        let mut delta = Delta::default();
        let finish = self.append(id, &mut delta);
        if finish.is_none()
            && is_constrained
            && let Some(guide) = &mut self.guide
        {
            guide.accept(id);
        }
        Ok(Some(Generated {
            event: TokenEvent {
                i: index,
                t: delta.text,
                reasoning: delta.reasoning,
                id,
                calls: delta.calls,
                logprob,
            },
            finish,
        }))
    }

    /// Returns the token that follows in phase `before`, or `None` while its mask is being
    /// computed.
    fn next_token(&mut self, logits: &[f32], before: Phase) -> Result<Option<u32>, Diagnostic> {
        if let Some(forced) = self.reasoning.forced() {
            return Ok(Some(forced));
        }
        let guide = self.guide.as_mut();
        let guide = guide.filter(|_| matches!(before, Phase::Start | Phase::Answer));
        let mask = match guide {
            None => None,
            Some(guide) => match guide.allowed()? {
                None => return Ok(None),
                mask => mask,
            },
        };
        let opening = self.reasoning.allowed_opening(before);
        let wider = mask.zip(opening).map(|(mask, opening)| {
            let mut wider = mask.clone();
            wider.insert(opening);
            wider
        });
        let id = self
            .sampler
            .choose(logits, self.count, wider.as_ref().or(mask))
            .ok_or_else(errors::nothing_to_sample)?;
        if self.guide.is_some() && self.codec.end_tokens().contains(&id) {
            return Ok(Some(self.reasoning.instead_of_end(before).unwrap_or(id)));
        }
        Ok(Some(id))
    }

    /// Appends a token to the output and adds what became final to `delta`. Returns the finish
    /// reason if the token is the last one.
    fn append(&mut self, id: u32, delta: &mut Delta) -> Option<FinishReason> {
        self.count += 1;
        self.sampler.record(id);
        let before = self.output.phase();
        let finish = self.append_to_output(id, delta).break_value();
        self.reasoning.record(id, before, self.output.phase());
        finish
    }

    fn append_to_output(&mut self, id: u32, delta: &mut Delta) -> ControlFlow<FinishReason> {
        let is_end_token = self.codec.end_tokens().contains(&id);
        if !is_end_token {
            self.output.push(id, &self.codec, delta)?;
        }
        if is_end_token {
            self.output.finish(delta)?;
            return ControlFlow::Break(self.output.stop_reason());
        }
        if self.count >= self.max_tokens {
            self.output.cut_off(delta)?;
            return ControlFlow::Break(FinishReason::Length);
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
