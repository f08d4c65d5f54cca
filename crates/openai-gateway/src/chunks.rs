use diagnostics::{Diagnostic, ErrorBody};
use serde::Serialize;
use worker_contract::{EndEvent, TokenEvent, ToolCallPiece};

use crate::{CompletionUsage, Edge, Envelope, UsageSum, finish_reason, logprobs::Pending};

/// Writes the chunks of one streamed answer, of all its choices, as server-sent events.
///
/// What is the same in every chunk is encoded once; a token costs the encoding of its text.
/// Order: [`start`](Self::start), [`token`](Self::token) …, then [`end`](Self::end), for
/// each choice; or [`error`](Self::error).
#[derive(Debug, Clone)]
pub struct ChunkWriter {
    edge: Edge,
    /// Up to the list of choices.
    head: Vec<u8>,
    include_usage: bool,
    /// Of each choice.
    logprobs: Option<Vec<Pending>>,
    usage: UsageSum,
}

#[derive(Serialize)]
struct Head<'a> {
    id: &'a str,
    object: &'a str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'a str,
}

#[derive(Serialize)]
struct CallDelta<'a> {
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

impl<'a> CallDelta<'a> {
    fn of(piece: &'a ToolCallPiece) -> Self {
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
    /// A writer of the `choices` answers to one request; `logprobs` when probabilities were
    /// asked for.
    pub fn new(
        edge: Edge,
        envelope: &Envelope,
        include_usage: bool,
        logprobs: bool,
        choices: u32,
    ) -> Self {
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
            logprobs: logprobs.then(|| (0..choices).map(|_| Pending::default()).collect()),
            usage: UsageSum::of(choices),
        }
    }

    /// The first chunk of a choice, which has the role; completions have none.
    pub fn start(&self, choice: u32, out: &mut Vec<u8>) {
        if self.edge == Edge::Chat {
            self.begin(choice, out);
            out.extend_from_slice(
                br#""delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]"#,
            );
            self.close(out, b"null");
        }
    }

    /// A token's text and calls. Writes nothing when nothing became final with it.
    pub fn token(&mut self, choice: u32, event: &TokenEvent, out: &mut Vec<u8>) {
        if let Some(pending) = self.pending(choice) {
            pending.push(event);
        }
        if !event.t.is_empty() {
            self.text(choice, &event.t, out);
        }
        if self.edge == Edge::Chat && !event.calls.is_empty() {
            self.begin(choice, out);
            out.extend_from_slice(br#""delta":{"tool_calls":"#);
            let calls: Vec<_> = event.calls.iter().map(CallDelta::of).collect();
            write_json(out, &calls);
            out.extend_from_slice(br#"},"logprobs":null,"finish_reason":null}]"#);
            self.close(out, b"null");
        }
    }

    /// The chunk with the reason of a choice's end. The last choice brings the chunk with the
    /// tokens counted, when asked for, and OpenAI's end mark.
    pub fn end(&mut self, choice: u32, event: &EndEvent, out: &mut Vec<u8>) {
        if let Some(pending) = self.pending(choice) {
            pending.finish(event.reason);
            if !pending.is_empty() {
                self.text(choice, "", out);
            }
        }
        self.begin(choice, out);
        out.extend_from_slice(match self.edge {
            Edge::Chat => br#""delta":{},"logprobs":null,"finish_reason":""#.as_slice(),
            Edge::Completion => br#""text":"","logprobs":null,"finish_reason":""#.as_slice(),
        });
        out.extend_from_slice(finish_reason(event.reason).as_bytes());
        out.extend_from_slice(b"\"}]");
        self.close(out, b"null");
        if !self.usage.add(choice, event.usage) {
            return;
        }
        if self.include_usage {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            write_json(out, &CompletionUsage::from(self.usage.total()));
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

    fn pending(&mut self, choice: u32) -> Option<&mut Pending> {
        self.logprobs.as_mut()?.get_mut(choice as usize)
    }

    fn text(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        self.begin(choice, out);
        out.extend_from_slice(match self.edge {
            Edge::Chat => br#""delta":{"content":"#.as_slice(),
            Edge::Completion => br#""text":"#.as_slice(),
        });
        write_json(out, text);
        if self.edge == Edge::Chat {
            out.push(b'}');
        }
        out.extend_from_slice(b",\"logprobs\":");
        let edge = self.edge;
        match (self.pending(choice), edge) {
            (Some(pending), Edge::Chat) => write_json(out, &pending.take_chat()),
            (Some(pending), Edge::Completion) => write_json(out, &pending.take_completion()),
            (None, _) => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"finish_reason\":null}]");
        self.close(out, b"null");
    }

    /// The beginning of a chunk of one choice.
    fn begin(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":");
        write_json(out, &choice);
        out.push(b',');
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

pub(crate) fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Plain data into memory: neither can fail.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
