use diagnostics::{Diagnostic, ErrorBody};
use serde::Serialize;
use worker_contract::{EndEvent, TokenEvent};

use crate::{CompletionUsage, Edge, Envelope, finish_reason, logprobs::Pending};

/// Writes the chunks of one streamed answer as server-sent events.
///
/// What is the same in every chunk is encoded once; a token costs the encoding of its text.
/// Order: [`start`](Self::start), [`token`](Self::token) …, then [`end`](Self::end) or
/// [`error`](Self::error).
#[derive(Debug, Clone)]
pub struct ChunkWriter {
    edge: Edge,
    /// Up to the list of choices.
    head: Vec<u8>,
    include_usage: bool,
    logprobs: Option<Pending>,
}

#[derive(Serialize)]
struct Head<'a> {
    id: &'a str,
    object: &'a str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'a str,
}

impl ChunkWriter {
    /// A writer of the answer to one request; `logprobs` when probabilities were asked for.
    pub fn new(edge: Edge, envelope: &Envelope, include_usage: bool, logprobs: bool) -> Self {
        let head = Head {
            id: &envelope.id(edge),
            object: match edge {
                Edge::Chat => "chat.completion.chunk",
                Edge::Completion => "text_completion",
            },
            created: envelope.created,
            model: &envelope.model,
            system_fingerprint: &envelope.system_fingerprint,
        };
        let mut bytes = b"data: ".to_vec();
        write_json(&mut bytes, &head);
        bytes.pop();
        bytes.extend_from_slice(b",\"choices\":[");
        Self {
            edge,
            head: bytes,
            include_usage,
            logprobs: logprobs.then(Pending::default),
        }
    }

    /// The first chunk, which has the role; completions have none.
    pub fn start(&self, out: &mut Vec<u8>) {
        if self.edge == Edge::Chat {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(
                br#"{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]"#,
            );
            self.close(out, b"null");
        }
    }

    /// A token's text. Writes nothing when no text became final with it.
    pub fn token(&mut self, event: &TokenEvent, out: &mut Vec<u8>) {
        if let Some(pending) = &mut self.logprobs {
            pending.push(event);
        }
        if !event.t.is_empty() {
            self.text(&event.t, out);
        }
    }

    /// The chunk with the reason of the end, the one with the tokens counted when asked for,
    /// and OpenAI's end mark.
    pub fn end(&mut self, event: &EndEvent, out: &mut Vec<u8>) {
        if let Some(pending) = &mut self.logprobs {
            pending.finish(event.reason);
            if !pending.is_empty() {
                self.text("", out);
            }
        }
        out.extend_from_slice(&self.head);
        out.extend_from_slice(match self.edge {
            Edge::Chat => br#"{"index":0,"delta":{},"logprobs":null,"finish_reason":""#,
            Edge::Completion => br#"{"index":0,"text":"","logprobs":null,"finish_reason":""#,
        });
        out.extend_from_slice(finish_reason(event.reason).as_bytes());
        out.extend_from_slice(b"\"}]");
        self.close(out, b"null");
        if self.include_usage {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            write_json(out, &CompletionUsage::from(event.usage));
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// An error ends the answer; what came before it stays with the client.
    pub fn error(&self, error: Diagnostic, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        write_json(out, &ErrorBody::from(error));
        out.extend_from_slice(b"\n\n");
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(match self.edge {
            Edge::Chat => br#"{"index":0,"delta":{"content":"#.as_slice(),
            Edge::Completion => br#"{"index":0,"text":"#.as_slice(),
        });
        write_json(out, text);
        if self.edge == Edge::Chat {
            out.push(b'}');
        }
        out.extend_from_slice(b",\"logprobs\":");
        match (&mut self.logprobs, self.edge) {
            (Some(pending), Edge::Chat) => write_json(out, &pending.take_chat()),
            (Some(pending), Edge::Completion) => write_json(out, &pending.take_completion()),
            (None, _) => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"finish_reason\":null}]");
        self.close(out, b"null");
    }

    fn close(&self, out: &mut Vec<u8>, usage: &[u8]) {
        // With include_usage every chunk has the field, and only the last has figures.
        if self.include_usage {
            out.extend_from_slice(b",\"usage\":");
            out.extend_from_slice(usage);
        }
        out.extend_from_slice(b"}\n\n");
    }
}

fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Plain data into memory: neither can fail.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
