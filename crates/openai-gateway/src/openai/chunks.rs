use diagnostics::Diagnostic;
use serde::Serialize;
use worker_contract::{EndEvent, StartedEvent, TokenEvent, ToolCallPiece};

use super::{
    endpoint::OpenAiEndpoint, error_body::OpenAiErrorBody, response_head::ResponseHead,
    usage::UsageSum,
};
use crate::{json::write_json, logprobs::PendingLogprobs, response_writer::ResponseWriter};

/// Writes a streamed response as server-sent events.
///
/// The fields that all chunks share are encoded once; a token costs the encoding of its text.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    head: ResponseHead,
    /// Beginning of every event, up to the elements of `choices`.
    prefix: Vec<u8>,
    include_usage: bool,
    choices: u32,
    /// One for each choice, if log probabilities are requested.
    logprobs: Option<Vec<PendingLogprobs>>,
    usage: UsageSum,
}

#[derive(Serialize)]
struct ChunkHead<'a> {
    id: &'a str,
    object: &'a str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'a str,
}

#[derive(Serialize)]
struct ToolCallDelta<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCallPiece> for ToolCallDelta<'a> {
    fn from(piece: &'a ToolCallPiece) -> Self {
        Self {
            index: piece.index,
            id: piece.id.as_deref(),
            r#type: piece.id.is_some().then_some("function"),
            function: FunctionDelta {
                name: piece.name.as_deref(),
                arguments: &piece.arguments,
            },
        }
    }
}

impl ChunkWriter {
    pub(super) fn new(
        head: ResponseHead,
        include_usage: bool,
        logprobs: bool,
        choices: u32,
    ) -> Self {
        let chunk_head = ChunkHead {
            id: &head.id,
            object: match head.endpoint {
                OpenAiEndpoint::ChatCompletions => "chat.completion.chunk",
                OpenAiEndpoint::Completions => "text_completion",
            },
            created: head.created,
            model: &head.model,
            system_fingerprint: head.system_fingerprint,
        };
        let usage = UsageSum::new(choices, head.choices_per_input);
        let mut prefix = b"data: ".to_vec();
        write_json(&mut prefix, &chunk_head);
        prefix.pop();
        prefix.extend_from_slice(b",\"choices\":[");
        Self {
            head,
            prefix,
            include_usage,
            choices,
            logprobs: logprobs.then(|| (0..choices).map(|_| PendingLogprobs::default()).collect()),
            usage,
        }
    }

    fn pending(&mut self, choice: u32) -> Option<&mut PendingLogprobs> {
        self.logprobs.as_mut()?.get_mut(choice as usize)
    }

    /// Writes reasoning under both names that clients read.
    fn reasoning(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        self.begin(choice, out);
        out.extend_from_slice(br#""delta":{"reasoning_content":"#);
        write_json(out, text);
        out.extend_from_slice(br#","reasoning":"#);
        write_json(out, text);
        out.extend_from_slice(br#"},"logprobs":null,"finish_reason":null}]"#);
        self.finish(out);
    }

    fn text(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        let endpoint = self.head.endpoint;
        self.begin(choice, out);
        out.extend_from_slice(match endpoint {
            OpenAiEndpoint::ChatCompletions => br#""delta":{"content":"#.as_slice(),
            OpenAiEndpoint::Completions => br#""text":"#.as_slice(),
        });
        write_json(out, text);
        if endpoint == OpenAiEndpoint::ChatCompletions {
            out.push(b'}');
        }
        out.extend_from_slice(b",\"logprobs\":");
        match (self.pending(choice), endpoint) {
            (Some(pending), OpenAiEndpoint::ChatCompletions) => {
                write_json(out, &pending.take_chat());
            }
            (Some(pending), OpenAiEndpoint::Completions) => {
                write_json(out, &pending.take_completion());
            }
            (None, _) => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"finish_reason\":null}]");
        self.finish(out);
    }

    /// Begins a chunk of one choice.
    fn begin(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"{\"index\":");
        write_json(out, &choice);
        out.push(b',');
    }

    /// Finishes a chunk after its `choices`.
    fn finish(&self, out: &mut Vec<u8>) {
        // With `include_usage` every chunk has the field; only the last one has values.
        if self.include_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }
}

impl ResponseWriter for ChunkWriter {
    fn start(&mut self, _: &StartedEvent, out: &mut Vec<u8>) {
        if self.head.endpoint != OpenAiEndpoint::ChatCompletions {
            return;
        }
        for choice in 0..self.choices {
            self.begin(choice, out);
            out.extend_from_slice(
                br#""delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]"#,
            );
            self.finish(out);
        }
    }

    fn token(&mut self, choice: u32, mut event: TokenEvent, out: &mut Vec<u8>) {
        if let Some(pending) = self.pending(choice) {
            pending.push(&mut event);
        }
        self.head.hide_reasoning(&mut event);
        if !event.reasoning.is_empty() {
            self.reasoning(choice, &event.reasoning, out);
        }
        if !event.t.is_empty() {
            self.text(choice, &event.t, out);
        }
        if self.head.endpoint == OpenAiEndpoint::ChatCompletions && !event.calls.is_empty() {
            self.begin(choice, out);
            out.extend_from_slice(br#""delta":{"tool_calls":"#);
            let calls: Vec<_> = event.calls.iter().map(ToolCallDelta::from).collect();
            write_json(out, &calls);
            out.extend_from_slice(br#"},"logprobs":null,"finish_reason":null}]"#);
            self.finish(out);
        }
    }

    fn end(&mut self, choice: u32, event: &EndEvent, out: &mut Vec<u8>) -> bool {
        if let Some(pending) = self.pending(choice) {
            pending.finish(event.reason);
            if !pending.is_empty() {
                self.text(choice, "", out);
            }
        }
        self.begin(choice, out);
        out.extend_from_slice(match self.head.endpoint {
            OpenAiEndpoint::ChatCompletions => {
                br#""delta":{},"logprobs":null,"finish_reason":""#.as_slice()
            }
            OpenAiEndpoint::Completions => {
                br#""text":"","logprobs":null,"finish_reason":""#.as_slice()
            }
        });
        out.extend_from_slice(self.head.finish_reason(event.reason).as_bytes());
        out.extend_from_slice(b"\"}]");
        self.finish(out);
        let complete = self.usage.add(choice, event.usage);
        if complete {
            if self.include_usage {
                out.extend_from_slice(&self.prefix);
                out.extend_from_slice(b"],\"usage\":");
                write_json(out, &self.usage.total());
                out.extend_from_slice(b"}\n\n");
            }
            out.extend_from_slice(b"data: [DONE]\n\n");
        }
        complete
    }

    fn error(&mut self, error: Diagnostic, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        write_json(out, &OpenAiErrorBody::from(error));
        out.extend_from_slice(b"\n\n");
    }

    fn partial_text(&self) -> String {
        String::new()
    }
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
