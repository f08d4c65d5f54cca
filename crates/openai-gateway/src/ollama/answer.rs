use diagnostics::Diagnostic;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use worker_contract::{EndEvent, FinishReason, StartedEvent, TokenEvent, ToolCall};

use super::{OllamaEdge, OllamaError};
use crate::{
    AnswerWriter,
    chunks::write_json,
    logprobs::{ChatToken, Pending},
};

/// A line of an answer, or the whole of it. A line that is not the last has no figures.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaAnswer {
    /// The model by the client's name for it.
    pub model: String,
    /// When the request came.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// What was said, or more of it.
    #[serde(flatten)]
    pub said: OllamaSaid,
    /// Log probabilities, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<ChatToken>,
    /// Whether this is the last line.
    pub done: bool,
    /// What the last line has beside it.
    #[serde(flatten)]
    pub figures: OllamaFigures,
}

/// What was said, by endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OllamaSaid {
    /// Of `/api/chat`.
    Message(OllamaMessage),
    /// Of `/api/generate`.
    Response(String),
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaMessage {
    /// Always `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
    /// Tools that are to be called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<OllamaAnsweredCall>,
}

/// A tool that is to be called.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaAnsweredCall {
    /// Names the call.
    pub id: String,
    /// What is called.
    pub function: OllamaAnsweredFunction,
}

/// What is to be called.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaAnsweredFunction {
    /// Which call of this answer, from 0.
    pub index: usize,
    /// The function.
    pub name: String,
    /// Its arguments.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub arguments: Map<String, Value>,
}

/// Figures of a complete answer; durations are nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OllamaFigures {
    /// `stop`, `length`, or `load` when the model was only loaded.
    pub done_reason: &'static str,
    /// All of it.
    pub total_duration: u64,
    /// Waiting for the model.
    pub load_duration: u64,
    /// Tokens of the prompt.
    pub prompt_eval_count: u32,
    /// Computing them.
    pub prompt_eval_duration: u64,
    /// Tokens generated.
    pub eval_count: u32,
    /// Computing them.
    pub eval_duration: u64,
}

impl OllamaFigures {
    fn new(event: &EndEvent, only_load: bool) -> Self {
        let nanoseconds = |ms: f64| (ms * 1e6) as u64;
        let timings = event.timings;
        Self {
            done_reason: match event.reason {
                _ if only_load => "load",
                FinishReason::Length => "length",
                FinishReason::Stop | FinishReason::ToolCalls => "stop",
            },
            total_duration: nanoseconds(timings.queue_ms + timings.prefill_ms + timings.decode_ms),
            load_duration: nanoseconds(timings.queue_ms),
            prompt_eval_count: event.usage.prompt_tokens,
            prompt_eval_duration: nanoseconds(timings.prefill_ms),
            eval_count: event.usage.completion_tokens,
            eval_duration: nanoseconds(timings.decode_ms),
        }
    }
}

/// Writes an answer in lines of JSON, or as one.
#[derive(Debug, Clone)]
pub struct OllamaWriter {
    edge: OllamaEdge,
    stream: bool,
    only_load: bool,
    /// What every line begins with, up to the comma before what was said.
    head: Vec<u8>,
    /// Text that was not written yet; streamed, none waits.
    text: String,
    calls: Vec<ToolCall>,
    /// Calls that were written.
    written: usize,
    logprobs: Option<Pending>,
}

impl OllamaWriter {
    /// A writer of the answer to one request.
    pub fn new(edge: OllamaEdge, model: &str, created_at: Timestamp) -> Self {
        #[derive(Serialize)]
        struct Head<'a> {
            model: &'a str,
            created_at: Timestamp,
        }
        let mut head = Vec::new();
        write_json(&mut head, &Head { model, created_at });
        head.pop();
        head.push(b',');
        Self {
            edge,
            stream: true,
            only_load: false,
            head,
            text: String::new(),
            calls: Vec::new(),
            written: 0,
            logprobs: None,
        }
    }

    /// Lines (true, the default) or one document.
    #[must_use]
    pub fn streamed(mut self, stream: bool) -> Self {
        self.stream = stream;
        self
    }

    /// The answer to a request that only loads: its text is thrown away.
    #[must_use]
    pub fn only_load(mut self, only_load: bool) -> Self {
        self.only_load = only_load;
        self
    }

    /// Reports the probabilities of tokens.
    #[must_use]
    pub fn with_logprobs(mut self, wanted: bool) -> Self {
        self.logprobs = wanted.then(Pending::default);
        self
    }

    /// A line without its end: text, calls and probabilities that wait.
    fn line(&mut self, text: &str, complete_calls: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        match self.edge {
            OllamaEdge::Generate => out.extend_from_slice(b"\"response\":"),
            OllamaEdge::Chat => {
                out.extend_from_slice(b"\"message\":{\"role\":\"assistant\",\"content\":");
            }
        }
        write_json(out, text);
        if self.edge == OllamaEdge::Chat {
            let calls = self.take_calls(complete_calls);
            if !calls.is_empty() {
                out.extend_from_slice(b",\"tool_calls\":");
                write_json(out, &calls);
            }
            out.push(b'}');
        }
        if let Some(pending) = &mut self.logprobs
            && !pending.is_empty()
        {
            out.extend_from_slice(b",\"logprobs\":");
            write_json(out, &pending.take_chat().content);
        }
    }

    /// The calls up to this one that were not written yet. One that was cut off has arguments
    /// that are no object, which the clients could not read: it is left out, as if the answer
    /// had ended before it.
    fn take_calls(&mut self, complete: usize) -> Vec<OllamaAnsweredCall> {
        let from = std::mem::replace(&mut self.written, complete);
        let calls = self.calls.iter().enumerate().take(complete).skip(from);
        calls
            .filter_map(|(index, call)| {
                let arguments = match call.arguments.trim() {
                    "" => Map::new(),
                    text => serde_json::from_str(text).ok()?,
                };
                Some(OllamaAnsweredCall {
                    id: call.id.clone(),
                    function: OllamaAnsweredFunction {
                        index,
                        name: call.name.clone(),
                        arguments,
                    },
                })
            })
            .collect()
    }
}

impl AnswerWriter for OllamaWriter {
    fn start(&mut self, _: &StartedEvent, _: &mut Vec<u8>) {}

    fn token(&mut self, event: TokenEvent, out: &mut Vec<u8>) {
        if self.only_load {
            return;
        }
        if let Some(pending) = &mut self.logprobs {
            pending.push(&event);
        }
        for piece in event.calls {
            piece.add_to(&mut self.calls);
        }
        // Clients take calls only whole; one is when the next has begun.
        let complete = self.calls.len().saturating_sub(1).max(self.written);
        if !self.stream {
            self.text.push_str(&event.t);
        } else if !event.t.is_empty() || complete > self.written {
            self.line(&event.t, complete, out);
            out.extend_from_slice(b",\"done\":false}\n");
        }
    }

    fn end(&mut self, event: &EndEvent, out: &mut Vec<u8>) {
        if let Some(pending) = &mut self.logprobs {
            pending.finish(event.reason);
        }
        let text = std::mem::take(&mut self.text);
        self.line(&text, self.calls.len(), out);
        out.extend_from_slice(b",\"done\":true,");
        let mut figures = Vec::new();
        write_json(&mut figures, &OllamaFigures::new(event, self.only_load));
        // They stand beside the rest, not in an object of their own.
        out.extend_from_slice(&figures[1..]);
        out.push(b'\n');
    }

    fn error(&mut self, error: Diagnostic, out: &mut Vec<u8>) {
        write_json(out, &OllamaError::from(error));
        out.push(b'\n');
    }

    fn partial(&self) -> String {
        self.text.clone()
    }
}
