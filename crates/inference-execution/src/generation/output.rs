use std::ops::ControlFlow;

use reasoning::{Phase, Splitter};
use text_codec::{Codec, Utf8Stream};
use tool_calls::Part;
use worker_contract::{FinishReason, InferRequest, ToolCallPiece};

use super::tools::ToolCalls;
use crate::{admission::Admitted, stop::StopMatcher};

/// Text, reasoning and tool calls that became final.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<ToolCallPiece>,
}

/// Turns tokens into text, reasoning and tool calls.
///
/// The bytes of a token pass through four stages, each of which may hold some of them back:
/// the UTF-8 decoder until a character is complete, the splitter of reasoning and answer while
/// the text could be a mark, the tool call parser until it is known whether the text is a tool
/// call, and the stop matcher while the text could be the start of a stop sequence. Reasoning
/// does not reach the last two. A stage that returns [`ControlFlow::Break`] ends the output.
pub(super) struct Output {
    utf8: Utf8Stream,
    /// Absent if all of the output is the answer.
    splitter: Option<Splitter>,
    /// Absent if the request may not call tools.
    tools: Option<ToolCalls>,
    stops: StopMatcher,
}

impl Output {
    pub fn new(request: &InferRequest, admitted: &Admitted, seed: u64, codec: &Codec) -> Self {
        Self {
            utf8: Utf8Stream::default(),
            splitter: admitted.reasoning.as_ref().map(|r| r.splitter.clone()),
            tools: ToolCalls::new(request, admitted, seed, codec),
            stops: StopMatcher::new(request.stop.clone()),
        }
    }

    /// Returns the index of the stop sequence that ended the output.
    pub fn stopped_by(&self) -> Option<u32> {
        self.stops.found().map(|index| index as u32)
    }

    /// Returns the finish reason of an output that was not cut off.
    pub fn stop_reason(&self) -> FinishReason {
        match &self.tools {
            Some(tools) if tools.count() > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }

    /// Returns the part of the output that the next token belongs to.
    pub fn phase(&self) -> Phase {
        self.splitter
            .as_ref()
            .map_or(Phase::Answer, Splitter::phase)
    }

    /// Appends a token.
    pub fn push(&mut self, id: u32, codec: &Codec, delta: &mut Delta) -> ControlFlow<FinishReason> {
        // In some vocabularies the marks of reasoning and tool calls are special tokens, which
        // have no text otherwise.
        let mark = self.splitter.as_ref().filter(|s| !s.is_transparent());
        let mark = mark.and_then(|_| codec.reasoning_mark(id));
        let marker = mark.or_else(|| self.tools.as_ref().and_then(|_| codec.marker(id)));
        let bytes = marker.map_or_else(|| codec.token_bytes(id), str::as_bytes);
        let text = self.utf8.push(bytes);
        self.push_text(&text, delta)
    }

    /// Ends an output that the model ended: releases what the stages hold back.
    pub fn finish(&mut self, delta: &mut Delta) -> ControlFlow<FinishReason> {
        let text = self.utf8.flush();
        self.push_text(&text, delta)?;
        if let Some(splitter) = &mut self.splitter {
            let rest = splitter.finish(&mut delta.reasoning);
            self.push_answer(&rest, delta)?;
        }
        if let Some(tools) = &mut self.tools {
            let parts = tools.finish();
            self.push_parts(parts, delta)?;
        }
        self.stops.flush(&mut delta.text);
        ControlFlow::Continue(())
    }

    /// Ends an output that was cut off: drops the start of a character, a mark or a call that the
    /// stages hold back.
    pub fn cut_off(&mut self, delta: &mut Delta) -> ControlFlow<FinishReason> {
        let header = self.splitter.as_mut();
        let header = header.map(|splitter| splitter.cut_off(&mut delta.reasoning));
        if let Some(tools) = &mut self.tools {
            let mut parts = tools.push(&header.unwrap_or_default());
            parts.extend(tools.cut_off());
            self.push_parts(parts, delta)?;
        }
        self.stops.flush(&mut delta.text);
        ControlFlow::Continue(())
    }

    fn push_text(&mut self, text: &str, delta: &mut Delta) -> ControlFlow<FinishReason> {
        let Some(splitter) = &mut self.splitter else {
            return self.push_answer(text, delta);
        };
        let answer = splitter.push(text, &mut delta.reasoning);
        self.push_answer(&answer, delta)
    }

    /// Appends text that is not reasoning.
    fn push_answer(&mut self, text: &str, delta: &mut Delta) -> ControlFlow<FinishReason> {
        match &mut self.tools {
            None => self.push_plain_text(text, delta),
            Some(tools) => {
                let parts = tools.push(text);
                self.push_parts(parts, delta)
            }
        }
    }

    fn push_parts(&mut self, parts: Vec<Part>, delta: &mut Delta) -> ControlFlow<FinishReason> {
        for part in parts {
            if let Part::Text(text) = &part {
                self.push_plain_text(text, delta)?;
            } else if let Some(tools) = &mut self.tools {
                // A stop sequence does not span a tool call.
                self.stops.flush(&mut delta.text);
                tools.apply(part, &mut delta.calls)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Appends text that is not part of a tool call.
    fn push_plain_text(&mut self, text: &str, delta: &mut Delta) -> ControlFlow<FinishReason> {
        if self.stops.push(text, &mut delta.text) {
            return ControlFlow::Break(self.stop_reason());
        }
        ControlFlow::Continue(())
    }
}
