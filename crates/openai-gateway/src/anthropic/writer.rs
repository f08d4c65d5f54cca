use diagnostics::Diagnostic;
use input_validation::RequestId;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use worker_contract::{EndEvent, FinishReason, StartedEvent, TokenEvent, ToolCallPiece, Usage};

use super::{
    error_body::AnthropicErrorBody, partial_object::partial_object, schemas::AnthropicStopReason,
};
use crate::{json::write_json, response_writer::ResponseWriter};

/// Signature of thoughts. Clients check that there is one.
const SIGNATURE: &str = "cmJlZQ==";

/// Response of `POST /v1/messages`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnthropicMessage {
    /// `msg_` and the id of the request.
    pub id: String,
    /// Always `message`.
    #[serde(rename = "type")]
    #[schema(pattern = "^message$")]
    pub kind: &'static str,
    /// Always `assistant`.
    #[schema(pattern = "^assistant$")]
    pub role: &'static str,
    /// Model as the request named it.
    pub model: String,
    /// Output of the model, in order.
    pub content: Vec<AnthropicContentBlock>,
    /// `end_turn`, `stop_sequence`, `max_tokens` or `tool_use`; null in `message_start`.
    #[schema(value_type = Option<AnthropicStopReason>)]
    pub stop_reason: Option<&'static str>,
    /// Stop sequence that ended the output; null if none did.
    pub stop_sequence: Option<String>,
    pub usage: AnthropicUsage,
}

/// Part of the output.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AnthropicContentBlock {
    /// Thoughts of the model, if the request enabled them.
    Thinking {
        thinking: String,
        /// Of no meaning. Clients send it back with the thoughts.
        signature: String,
    },
    Text {
        text: String,
    },
    /// Tool call for the client to run.
    ToolUse {
        /// Id to send back as `tool_use_id` with the result.
        id: String,
        name: String,
        /// Arguments. If the output was cut off in the middle of the call, those that are
        /// complete.
        #[schema(value_type = Object)]
        input: Value,
    },
}

/// Token counts of a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnthropicUsage {
    /// Tokens of the prompt that were computed.
    pub input_tokens: u32,
    /// Always 0.
    #[schema(maximum = 0)]
    pub cache_creation_input_tokens: u32,
    /// Tokens of the prompt found in the KV cache instead of being computed.
    pub cache_read_input_tokens: u32,
    /// Generated tokens.
    pub output_tokens: u32,
}

impl From<Usage> for AnthropicUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
        }
    }
}

/// Response of `POST /v1/messages/count_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnthropicTokenCount {
    /// Tokens of the prompt.
    pub input_tokens: u32,
}

fn stop_reason(reason: FinishReason, by_stop_sequence: bool) -> &'static str {
    match reason {
        FinishReason::Stop if by_stop_sequence => "stop_sequence",
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
    }
}

/// Block that the next text or call piece of the same kind belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenBlock {
    Thinking,
    Text,
    /// The call with this index.
    Call(u32),
}

/// Writes a response as server-sent events, or as one document.
#[derive(Debug)]
pub(super) struct AnthropicWriter {
    stream: bool,
    /// The document; in a stream, its `content` stays empty.
    message: AnthropicMessage,
    stop_sequences: Vec<String>,
    /// The response contains thoughts.
    shows_thinking: bool,
    open: Option<OpenBlock>,
    /// Number of blocks begun so far.
    blocks: usize,
}

impl AnthropicWriter {
    pub(super) fn new(
        request_id: &RequestId,
        model: String,
        stop_sequences: Vec<String>,
        stream: bool,
    ) -> Self {
        Self {
            stream,
            stop_sequences,
            message: AnthropicMessage {
                id: format!("msg_{request_id}"),
                kind: "message",
                role: "assistant",
                model,
                content: Vec::new(),
                stop_reason: None,
                stop_sequence: None,
                usage: AnthropicUsage::default(),
            },
            shows_thinking: false,
            open: None,
            blocks: 0,
        }
    }

    /// Sets whether the response contains thoughts. Default: false.
    pub(super) fn with_thinking(mut self, shown: bool) -> Self {
        self.shows_thinking = shown;
        self
    }

    fn thinking(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Some(OpenBlock::Thinking) {
            let block = AnthropicContentBlock::Thinking {
                thinking: String::new(),
                signature: String::new(),
            };
            self.begin_block(OpenBlock::Thinking, block, out);
        }
        if self.stream {
            self.delta("thinking_delta", "thinking", text, out);
        } else if let Some(AnthropicContentBlock::Thinking { thinking, .. }) =
            self.message.content.last_mut()
        {
            thinking.push_str(text);
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Some(OpenBlock::Text) {
            let block = AnthropicContentBlock::Text {
                text: String::new(),
            };
            self.begin_block(OpenBlock::Text, block, out);
        }
        if self.stream {
            self.delta("text_delta", "text", text, out);
        } else if let Some(AnthropicContentBlock::Text { text: written }) =
            self.message.content.last_mut()
        {
            written.push_str(text);
        }
    }

    fn call(&mut self, piece: ToolCallPiece, out: &mut Vec<u8>) {
        let call = OpenBlock::Call(piece.index);
        if self.open != Some(call) {
            let block = AnthropicContentBlock::ToolUse {
                id: piece.id.unwrap_or_default(),
                name: piece.name.unwrap_or_default(),
                input: Value::Object(Map::new()),
            };
            self.begin_block(call, block, out);
        }
        if piece.arguments.is_empty() {
            return;
        }
        if self.stream {
            self.delta("input_json_delta", "partial_json", &piece.arguments, out);
        } else if let Some(AnthropicContentBlock::ToolUse { input, .. }) =
            self.message.content.last_mut()
        {
            match input {
                // Collected as text until the block ends.
                Value::String(text) => text.push_str(&piece.arguments),
                _ => *input = Value::String(piece.arguments),
            }
        }
    }

    fn begin_block(&mut self, kind: OpenBlock, block: AnthropicContentBlock, out: &mut Vec<u8>) {
        self.end_block(out);
        self.open = Some(kind);
        if self.stream {
            write_event(
                "content_block_start",
                &json!({"type": "content_block_start", "index": self.blocks, "content_block": block}),
                out,
            );
        } else {
            self.message.content.push(block);
        }
        self.blocks += 1;
    }

    fn end_block(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else {
            return;
        };
        if open == OpenBlock::Thinking {
            if self.stream {
                self.delta("signature_delta", "signature", SIGNATURE, out);
            } else if let Some(AnthropicContentBlock::Thinking { signature, .. }) =
                self.message.content.last_mut()
            {
                SIGNATURE.clone_into(signature);
            }
        }
        if self.stream {
            let index = self.blocks.saturating_sub(1);
            write_event(
                "content_block_stop",
                &json!({"type": "content_block_stop", "index": index}),
                out,
            );
        } else if let (OpenBlock::Call(_), Some(AnthropicContentBlock::ToolUse { input, .. })) =
            (open, self.message.content.last_mut())
            && let Value::String(text) = input
        {
            *input = Value::Object(partial_object(text));
        }
    }

    /// Writes the event of a token. It is assembled by hand: it occurs more often than all
    /// other events.
    fn delta(&self, kind: &str, field: &str, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        write_json(out, &self.blocks.saturating_sub(1));
        for part in [",\"delta\":{\"type\":\"", kind, "\",\"", field, "\":"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_json(out, text);
        out.extend_from_slice(b"}}\n\n");
    }
}

impl ResponseWriter for AnthropicWriter {
    fn start(&mut self, event: &StartedEvent, out: &mut Vec<u8>) {
        self.message.usage = Usage {
            prompt_tokens: event.prompt_tokens,
            cached_tokens: event.cached_tokens,
            ..Usage::default()
        }
        .into();
        if self.stream {
            write_event(
                "message_start",
                &json!({"type": "message_start", "message": self.message}),
                out,
            );
            write_event("ping", &json!({"type": "ping"}), out);
        }
    }

    fn token(&mut self, _: u32, event: TokenEvent, out: &mut Vec<u8>) {
        if self.shows_thinking && !event.reasoning.is_empty() {
            self.thinking(&event.reasoning, out);
        }
        if !event.t.is_empty() {
            self.text(&event.t, out);
        }
        for piece in event.calls {
            self.call(piece, out);
        }
    }

    fn end(&mut self, _: u32, event: &EndEvent, out: &mut Vec<u8>) -> bool {
        self.end_block(out);
        let usage = AnthropicUsage::from(event.usage);
        let stop_sequence = event
            .stop
            .and_then(|index| self.stop_sequences.get(index as usize).cloned());
        let stop_reason = stop_reason(event.reason, stop_sequence.is_some());
        if self.stream {
            write_event(
                "message_delta",
                &json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": stop_reason, "stop_sequence": stop_sequence},
                    "usage": usage,
                }),
                out,
            );
            write_event("message_stop", &json!({"type": "message_stop"}), out);
        } else {
            self.message.usage = usage;
            self.message.stop_reason = Some(stop_reason);
            self.message.stop_sequence = stop_sequence;
            write_json(out, &self.message);
        }
        true
    }

    fn error(&mut self, error: Diagnostic, out: &mut Vec<u8>) {
        write_event("error", &AnthropicErrorBody::from(error), out);
    }

    fn keep_alive(&self) -> &'static [u8] {
        b"event: ping\ndata: {\"type\":\"ping\"}\n\n"
    }

    fn partial_text(&self) -> String {
        let texts = self.message.content.iter().map(|block| match block {
            AnthropicContentBlock::Text { text } => text.as_str(),
            AnthropicContentBlock::Thinking { .. } | AnthropicContentBlock::ToolUse { .. } => "",
        });
        texts.collect()
    }
}

fn write_event(name: &str, data: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    write_json(out, data);
    out.extend_from_slice(b"\n\n");
}
