use diagnostics::Diagnostic;
use input_validation::{ModelRef, RequestId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{FinishReason, Timings, ToolCall, Usage};

/// First event: the request has a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartedEvent {
    /// The request's name.
    pub request_id: RequestId,
    /// The model that answers.
    pub model: ModelRef,
    /// The seed, given or drawn.
    pub seed: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of them, not computed because a cache had them.
    pub cached_tokens: u32,
}

/// An alternative at one position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopLogprob {
    /// Token id.
    pub id: u32,
    /// Its text; bytes that are no UTF-8 alone show as U+FFFD.
    pub token: String,
    /// The bytes of its text, which may be a part of a character; none for a special token.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, before temperature and filters.
    pub logprob: f32,
}

/// The probability of a generated token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenLogprob {
    /// The token's own text, which is not what became final with it; as [`TopLogprob::token`].
    pub token: String,
    /// As [`TopLogprob::bytes`].
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, before temperature and filters.
    pub logprob: f32,
    /// The likeliest tokens, likeliest first.
    #[serde(default)]
    pub top: Vec<TopLogprob>,
}

/// One generated token. Its text may be empty: bytes wait for the rest of a character,
/// and text that may become a stop text waits until it is known not to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenEvent {
    /// Its index in the answer, from 0; continued requests go on counting.
    pub i: u32,
    /// Text that became final with this token.
    pub t: String,
    /// Token id; the end token is sent too.
    pub id: u32,
    /// Pieces of calls of tools that became final with this token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCallPiece>,
    /// Its probability, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprob: Option<TokenLogprob>,
}

/// A piece of a call of a tool. The first piece of a call has its id and name; the pieces'
/// arguments, put together, are the text of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCallPiece {
    /// Which call of this answer, from 0.
    pub index: u32,
    /// Names the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of its arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

impl ToolCallPiece {
    /// Puts the piece to the calls that came before it.
    pub fn add_to(self, calls: &mut Vec<ToolCall>) {
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

/// Sent once before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsEvent {
    /// From the request's arrival at the worker to its first token.
    pub time_to_first_token_ms: f64,
    /// From the first token to the last; 0 with fewer than two.
    pub tokens_per_second: f64,
}

/// The answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndEvent {
    /// Why it ended.
    pub reason: FinishReason,
    /// The stop text that ended it, by its place in the request's list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<u32>,
    /// Tokens counted.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

/// An event of `/v1/infer`: `started`, `token` …, `metrics`, then exactly one of `end` and
/// `error`, last. As SSE the variant is the event's name, its content the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamEvent {
    /// The request has a slot.
    Started(StartedEvent),
    /// One token.
    Token(TokenEvent),
    /// Figures.
    Metrics(MetricsEvent),
    /// The answer is complete.
    End(EndEvent),
    /// The answer stays incomplete.
    Error(Diagnostic),
}

impl StreamEvent {
    /// The name of the event in SSE.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Token(_) => "token",
            Self::Metrics(_) => "metrics",
            Self::End(_) => "end",
            Self::Error(_) => "error",
        }
    }

    /// Whether nothing follows it.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::End(_) | Self::Error(_))
    }

    /// Appends the event to `out` as SSE: name, one line of JSON, empty line.
    pub fn write_sse(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(self.name().as_bytes());
        out.extend_from_slice(b"\ndata: ");
        match self {
            Self::Started(e) => serde_json::to_writer(&mut *out, e)?,
            Self::Token(e) => serde_json::to_writer(&mut *out, e)?,
            Self::Metrics(e) => serde_json::to_writer(&mut *out, e)?,
            Self::End(e) => serde_json::to_writer(&mut *out, e)?,
            Self::Error(e) => serde_json::to_writer(&mut *out, e)?,
        }
        out.extend_from_slice(b"\n\n");
        Ok(())
    }

    /// Reads an event by its SSE name and data; `Ok(None)` is an event that this version
    /// does not know and passes over.
    pub fn read_sse(name: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match name {
            "started" => Self::Started(serde_json::from_str(data)?),
            "token" => Self::Token(serde_json::from_str(data)?),
            "metrics" => Self::Metrics(serde_json::from_str(data)?),
            "end" => Self::End(serde_json::from_str(data)?),
            "error" => Self::Error(serde_json::from_str(data)?),
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_from_its_sse_form() {
        let event = StreamEvent::Token(TokenEvent {
            i: 3,
            t: "line\nnext \"quoted\"".into(),
            id: 7,
            calls: Vec::new(),
            logprob: None,
        });
        let mut out = Vec::new();
        event.write_sse(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.matches('\n').count(),
            3,
            "the data is one line: {text}"
        );
        let data = text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap();
        assert_eq!(StreamEvent::read_sse("token", data).unwrap(), Some(event));
        assert_eq!(StreamEvent::read_sse("later", "{}").unwrap(), None);
    }
}
