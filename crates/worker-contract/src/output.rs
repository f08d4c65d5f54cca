use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{defaults::is_zero, message::ToolCall};

/// Reason why the output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token or a stop sequence.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The client must run the tool calls.
    ToolCalls,
}

/// Token counts of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Generated tokens, including the end token and `continue_from`.
    pub completion_tokens: u32,
    /// Tokens of the prompt found in the KV cache instead of being computed.
    pub cached_tokens: u32,
    /// Generated tokens that are reasoning; part of `completion_tokens`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u32,
}

/// Durations of the phases of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Time spent waiting for a slot, in milliseconds.
    pub queue_ms: f64,
    /// Time from the start of the prefill to the first token, in milliseconds.
    pub prefill_ms: f64,
    /// Time from the first to the last token, in milliseconds.
    pub decode_ms: f64,
    /// Tokens per second from the first to the last token; 0 with fewer than two tokens.
    pub tokens_per_second: f64,
}

/// One of the most likely tokens at a position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopLogprob {
    /// Id of the token.
    pub id: u32,
    /// Text of the token. Bytes that are not valid UTF-8 by themselves appear as U+FFFD.
    pub token: String,
    /// Bytes of the token's text, which can be part of a character; empty for a special token.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the token's probability, before temperature and filters.
    pub logprob: f32,
}

/// Log probability of a generated token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenLogprob {
    /// Text of the token itself, which can differ from the text that became final with it.
    /// Bytes that are not valid UTF-8 by themselves appear as U+FFFD.
    pub token: String,
    /// Bytes of the token's text, which can be part of a character; empty for a special token.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the token's probability, before temperature and filters.
    pub logprob: f32,
    /// Most likely tokens at this position, in descending order of probability.
    #[serde(default)]
    #[schema(required)]
    pub top: Vec<TopLogprob>,
}

/// Part of a tool call. The first part of a call has its id and name. The arguments of all
/// parts, concatenated, are the text of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCallPiece {
    /// Index of the call in the output, from 0.
    pub index: u32,
    /// Id of the call; only in its first part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// Name of the function; only in the first part of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Text to append to the arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

impl ToolCallPiece {
    /// Appends the part to `calls`, which contains all previous parts.
    pub fn append_to(self, calls: &mut Vec<ToolCall>) {
        if let Some(call) = calls.get_mut(self.index as usize) {
            call.arguments.push_str(&self.arguments);
        } else {
            calls.push(ToolCall {
                id: self.id.unwrap_or_default(),
                name: self.name.unwrap_or_default(),
                arguments: self.arguments,
            });
        }
    }
}
