//! From the updates of an engine to the events of the contract.

use diagnostics::Diagnostic;
use inference_execution::requests::{RequestTimes, StopMatcher};
use reasoning::{Phase, Splitter};
use worker_contract::{
    EndEvent, FinishReason, InferRequest, StartedEvent, StreamEvent, TokenEvent, UNKNOWN_TOKEN,
    Usage,
};

use crate::{
    errors,
    piece::{Counts, Piece},
};

/// The state of one output.
#[derive(Debug)]
pub(crate) struct Generation {
    started: StartedEvent,
    stops: StopMatcher,
    splitter: Option<Splitter>,
    times: RequestTimes,
    /// Tokens of an earlier worker that the engine generates once more.
    repeated: Vec<u32>,
    /// Number of alternatives to report with each log probability.
    alternatives: usize,
    /// Tokens so far, with those of an earlier worker.
    count: u32,
    /// Tokens that the engine has reported.
    received: u32,
    sent: u32,
    reasoning_tokens: u32,
    counts: Counts,
    /// The last token while some of its text could still be dropped.
    pending: Option<TokenEvent>,
    /// Whether all tokens have ids, so that they are counted here.
    ids_known: bool,
    called: bool,
}

impl Generation {
    /// `splitter` separates reasoning, if the engine does not. The first tokens are `repeated`
    /// ones, which are not sent again.
    pub fn new(
        request: &InferRequest,
        started: StartedEvent,
        times: RequestTimes,
        splitter: Option<Splitter>,
        repeated: Vec<u32>,
    ) -> Self {
        Self {
            started,
            stops: StopMatcher::new(request.stop.clone()),
            splitter,
            times,
            alternatives: usize::from(request.logprobs.unwrap_or(0)),
            count: (request.continue_from.len() - repeated.len()) as u32,
            repeated,
            received: 0,
            sent: 0,
            reasoning_tokens: 0,
            counts: Counts::default(),
            pending: None,
            ids_known: true,
            called: false,
        }
    }

    /// Returns the first event.
    pub fn start(&self) -> StreamEvent {
        StreamEvent::Started(StartedEvent {
            prompt_tokens: self.prompt_tokens(),
            ..self.started.clone()
        })
    }

    pub fn times(&mut self) -> &mut RequestTimes {
        &mut self.times
    }

    /// Number of tokens that the engine has reported.
    pub fn received(&self) -> u32 {
        self.received
    }

    pub fn set_counts(&mut self, counts: Counts) {
        self.counts.update(counts);
    }

    /// Processes a part of the output. Appends the events that are complete to `out`, and returns
    /// whether a stop sequence has ended the output.
    ///
    /// Errors: the engine does not repeat the tokens of the earlier worker.
    pub fn push(&mut self, piece: Piece, out: &mut Vec<TokenEvent>) -> Result<bool, Diagnostic> {
        out.extend(self.pending.take());
        let index = self.count;
        self.count += 1;
        self.received += 1;
        if let Some(expected) = self.repeated.get(index as usize)
            && piece.token != Some(*expected)
        {
            return Err(errors::not_repeated(index));
        }
        let length = piece.text.len();
        let (mut text, mut reasoning) = (piece.text, piece.reasoning);
        if let Some(splitter) = &mut self.splitter {
            text = splitter.push(&text, &mut reasoning).into_owned();
            let reasons = splitter.phase() == Phase::Reasoning || !reasoning.is_empty();
            self.reasoning_tokens += u32::from(reasons);
        } else {
            self.reasoning_tokens += u32::from(!reasoning.is_empty());
        }
        let mut answer = String::new();
        let stopped = self.stops.push(&text, &mut answer);
        self.called |= !piece.calls.is_empty();
        if (index as usize) < self.repeated.len() {
            return Ok(stopped);
        }
        self.ids_known &= piece.token.is_some();
        let mut logprob = piece.logprob;
        if let Some(logprob) = &mut logprob {
            logprob.top.truncate(self.alternatives);
        }
        let holds = answer.len() + reasoning.len() < length;
        let event = TokenEvent {
            i: index,
            t: answer,
            reasoning,
            id: piece.token.unwrap_or(UNKNOWN_TOKEN),
            calls: piece.calls,
            logprob,
        };
        self.sent += 1;
        if holds && !stopped {
            self.pending = Some(event);
        } else {
            out.push(event);
        }
        Ok(stopped)
    }

    /// Ends the output. Returns the token that was held back, and the last events.
    pub fn end(&mut self, reason: FinishReason) -> (Option<TokenEvent>, [StreamEvent; 2]) {
        let (mut rest, mut reasoning) = (String::new(), String::new());
        if let Some(splitter) = &mut self.splitter {
            let text = match reason {
                FinishReason::Length => splitter.cut_off(&mut reasoning),
                FinishReason::Stop | FinishReason::ToolCalls => splitter.finish(&mut reasoning),
            };
            self.stops.push(&text, &mut rest);
        }
        let stop = self.stops.found();
        self.stops.flush(&mut rest);
        let mut last = self.pending.take();
        if let Some(event) = &mut last {
            event.t.push_str(&rest);
            event.reasoning.push_str(&reasoning);
        }
        let reason = match reason {
            FinishReason::Stop if self.called => FinishReason::ToolCalls,
            other => other,
        };
        let (metrics, end) = (self.times.metrics(self.sent), self.end_event(reason, stop));
        (last, [StreamEvent::Metrics(metrics), StreamEvent::End(end)])
    }

    fn end_event(&self, reason: FinishReason, stop: Option<usize>) -> EndEvent {
        // Engines that report no ids send several tokens in one part, and parts of a token.
        let completion = match self.counts.completion {
            Some(completion) if !self.ids_known => completion,
            _ => self.count,
        };
        let prompt_tokens = self.prompt_tokens();
        let cached = self.counts.cached.unwrap_or_default();
        EndEvent {
            reason,
            stop: stop.map(|index| index as u32),
            usage: Usage {
                prompt_tokens,
                completion_tokens: completion,
                cached_tokens: cached.min(prompt_tokens),
                reasoning_tokens: self.reasoning_tokens.min(completion),
            },
            timings: self.times.timings(self.sent),
        }
    }

    /// The number of tokens of the prompt, as far as it is known.
    fn prompt_tokens(&self) -> u32 {
        match self.started.prompt_tokens {
            0 => self.counts.prompt.unwrap_or(0),
            known => known,
        }
    }

    /// Tokens of the prompt that the engine computed and found in its cache, at the end.
    pub fn prompt_counts(&self) -> (u32, u32) {
        let prompt = self.prompt_tokens();
        (prompt, self.counts.cached.unwrap_or(0).min(prompt))
    }
}

#[cfg(test)]
#[path = "generation_tests.rs"]
mod tests;
