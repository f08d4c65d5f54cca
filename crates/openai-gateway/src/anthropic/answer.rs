use diagnostics::Diagnostic;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use worker_contract::{EndEvent, FinishReason, StartedEvent, TokenEvent, ToolCallPiece, Usage};

use super::AnthropicErrorBody;
use crate::{AnswerWriter, Asked, chunks::write_json};

/// Answer of `POST /v1/messages`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnthropicMessage {
    /// The answer's name.
    pub id: String,
    /// Always `message`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Always `assistant`.
    pub role: &'static str,
    /// The model by the client's name for it.
    pub model: String,
    /// What was said, in order.
    pub content: Vec<AnthropicBlock>,
    /// `end_turn`, `stop_sequence`, `max_tokens` or `tool_use`.
    pub stop_reason: Option<&'static str>,
    /// The one that ended the answer.
    pub stop_sequence: Option<String>,
    /// Tokens counted.
    pub usage: AnthropicUsage,
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AnthropicBlock {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A tool that is to be called.
    ToolUse {
        /// Names the call.
        id: String,
        /// The function.
        name: String,
        /// Its arguments, an object; of a call that was cut off, the text that there is.
        input: Value,
    },
}

/// Anthropic's count of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnthropicUsage {
    /// Of the prompt, those that were computed.
    pub input_tokens: u32,
    /// Always 0: what a cache keeps costs nothing.
    pub cache_creation_input_tokens: u32,
    /// Of the prompt, those that a cache had.
    pub cache_read_input_tokens: u32,
    /// Generated.
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

/// Answer of `POST /v1/messages/count_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnthropicTokenCount {
    /// Tokens of the prompt.
    pub input_tokens: u32,
}

fn stop_reason(reason: FinishReason, stopped: bool) -> &'static str {
    match reason {
        FinishReason::Stop if stopped => "stop_sequence",
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
    }
}

/// The block that text or pieces of a call are added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    /// The call of this index.
    Call(u32),
}

/// Writes an answer as events, or as one document.
#[derive(Debug, Clone)]
pub struct AnthropicWriter {
    stream: bool,
    message: AnthropicMessage,
    stops: Vec<String>,
    open: Option<Open>,
    /// Blocks begun so far.
    begun: usize,
}

impl AnthropicWriter {
    /// A writer of the answer to one request.
    pub fn new(asked: &Asked) -> Self {
        let Asked {
            model,
            stream,
            request,
            ..
        } = asked;
        Self {
            stream: *stream,
            stops: request.stop.clone(),
            message: AnthropicMessage {
                id: format!("msg_{}", request.request_id),
                kind: "message",
                role: "assistant",
                model: model.clone(),
                content: Vec::new(),
                stop_reason: None,
                stop_sequence: None,
                usage: AnthropicUsage::default(),
            },
            open: None,
            begun: 0,
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Some(Open::Text) {
            let block = AnthropicBlock::Text {
                text: String::new(),
            };
            self.begin(Open::Text, block, out);
        }
        if self.stream {
            self.delta("text_delta", "text", text, out);
        } else if let Some(AnthropicBlock::Text { text: said }) = self.message.content.last_mut() {
            said.push_str(text);
        }
    }

    fn call(&mut self, piece: ToolCallPiece, out: &mut Vec<u8>) {
        let this = Open::Call(piece.index);
        if self.open != Some(this) {
            let block = AnthropicBlock::ToolUse {
                id: piece.id.unwrap_or_default(),
                name: piece.name.unwrap_or_default(),
                input: Value::Object(Map::new()),
            };
            self.begin(this, block, out);
        }
        if piece.arguments.is_empty() {
            return;
        }
        if self.stream {
            self.delta("input_json_delta", "partial_json", &piece.arguments, out);
        } else if let Some(AnthropicBlock::ToolUse { input, .. }) = self.message.content.last_mut()
        {
            match input {
                // Text until the block ends.
                Value::String(text) => text.push_str(&piece.arguments),
                _ => *input = Value::String(piece.arguments),
            }
        }
    }

    fn begin(&mut self, kind: Open, block: AnthropicBlock, out: &mut Vec<u8>) {
        self.finish_block(out);
        self.open = Some(kind);
        if self.stream {
            event(
                "content_block_start",
                &json!({"type": "content_block_start", "index": self.begun, "content_block": block}),
                out,
            );
        } else {
            self.message.content.push(block);
        }
        self.begun += 1;
    }

    fn finish_block(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else {
            return;
        };
        if self.stream {
            let index = self.begun.saturating_sub(1);
            event(
                "content_block_stop",
                &json!({"type": "content_block_stop", "index": index}),
                out,
            );
        } else if let (Open::Call(_), Some(AnthropicBlock::ToolUse { input, .. })) =
            (open, self.message.content.last_mut())
            && let Value::String(text) = input
            && let Ok(arguments) = serde_json::from_str::<Map<String, Value>>(text)
        {
            *input = Value::Object(arguments);
        }
    }

    /// The one event that comes with every token, so written by hand.
    fn delta(&self, kind: &str, field: &str, text: &str, out: &mut Vec<u8>) {
        let index = self.begun.saturating_sub(1).to_string();
        for part in [
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
            &index,
            ",\"delta\":{\"type\":\"",
            kind,
            "\",\"",
            field,
            "\":",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        write_json(out, text);
        out.extend_from_slice(b"}}\n\n");
    }
}

impl AnswerWriter for AnthropicWriter {
    fn start(&mut self, started: &StartedEvent, out: &mut Vec<u8>) {
        self.message.usage = Usage {
            prompt_tokens: started.prompt_tokens,
            cached_tokens: started.cached_tokens,
            completion_tokens: 0,
        }
        .into();
        if self.stream {
            event(
                "message_start",
                &json!({"type": "message_start", "message": self.message}),
                out,
            );
            event("ping", &json!({"type": "ping"}), out);
        }
    }

    fn token(&mut self, token: TokenEvent, out: &mut Vec<u8>) {
        if !token.t.is_empty() {
            self.text(&token.t, out);
        }
        for piece in token.calls {
            self.call(piece, out);
        }
    }

    fn end(&mut self, end: &EndEvent, out: &mut Vec<u8>) {
        self.finish_block(out);
        let usage = AnthropicUsage::from(end.usage);
        let place = end.stop.map(|place| place as usize);
        let stop_sequence = place.and_then(|place| self.stops.get(place).cloned());
        let stop_reason = stop_reason(end.reason, stop_sequence.is_some());
        if self.stream {
            event(
                "message_delta",
                &json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": stop_reason, "stop_sequence": stop_sequence},
                    "usage": usage,
                }),
                out,
            );
            event("message_stop", &json!({"type": "message_stop"}), out);
        } else {
            self.message.usage = usage;
            self.message.stop_reason = Some(stop_reason);
            self.message.stop_sequence = stop_sequence;
            write_json(out, &self.message);
        }
    }

    fn error(&mut self, error: Diagnostic, out: &mut Vec<u8>) {
        event("error", &AnthropicErrorBody::from(error), out);
    }

    fn partial(&self) -> String {
        let texts = self.message.content.iter().map(|block| match block {
            AnthropicBlock::Text { text } => text.as_str(),
            AnthropicBlock::ToolUse { .. } => "",
        });
        texts.collect()
    }
}

fn event(name: &str, data: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    write_json(out, data);
    out.extend_from_slice(b"\n\n");
}
