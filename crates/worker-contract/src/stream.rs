use diagnostics::Diagnostic;
use input_validation::{ModelRef, RequestId};
use openapi_schema::{event_of_json, events, impl_schema, reference};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    output::{FinishReason, Timings, TokenLogprob, ToolCallPiece, Usage},
    sampling::SamplingValues,
};

/// First event: the request has a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartedEvent {
    /// Id of the request.
    pub request_id: RequestId,
    /// Model that generates the output.
    pub model: ModelRef,
    /// Seed of the sampler, from the request or drawn at random.
    pub seed: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// The tokens of the prompt; absent unless requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt: Vec<u32>,
    /// Tokens of the prompt found in the KV cache instead of being computed.
    pub cached_tokens: u32,
    /// Parameters of the sampler that are used, from request, model and defaults. Those that
    /// are absent are off.
    #[serde(default, skip_serializing_if = "SamplingValues::is_empty")]
    pub sampling: SamplingValues,
    /// What was changed in the request or ignored so that the model can serve it, as sentences
    /// for the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Id of a token whose engine does not report it. Outputs with such tokens cannot be continued.
pub const UNKNOWN_TOKEN: u32 = u32::MAX;

/// A generated token. Its text is empty while the bytes of a character are incomplete, and
/// while the text could be the beginning of a stop sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenEvent {
    /// Index of the token in the output, from 0. It counts the tokens of `continue_from`.
    pub i: u32,
    /// Text that became final with this token.
    pub t: String,
    /// Reasoning that became final with this token. It is not part of the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// Id of the token. The end token has an event as well.
    pub id: u32,
    /// Parts of tool calls that became final with this token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCallPiece>,
    /// Log probability of the token; absent unless requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub logprob: Option<TokenLogprob>,
}

/// Metrics, sent once before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsEvent {
    /// Time from the arrival of the request at the worker to the first token, in milliseconds.
    pub time_to_first_token_ms: f64,
    /// Tokens per second from the first to the last token; 0 with fewer than two tokens.
    pub tokens_per_second: f64,
}

/// Last event of a successful request: the output is complete.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndEvent {
    /// Reason why the output ended.
    pub reason: FinishReason,
    /// Index in `stop` of the stop sequence that ended the output; absent if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub stop: Option<u32>,
    /// Token counts.
    pub usage: Usage,
    /// Durations of the phases of the request.
    pub timings: Timings,
}

/// Event of `POST /v1/infer`. A stream consists of `started`, a `token` for each token,
/// `metrics` and `end`; if the request fails, `error` is the last event instead. As a
/// server-sent event, the variant is the event's type and its content the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamEvent {
    /// The request has a slot.
    Started(StartedEvent),
    /// A token was generated.
    Token(TokenEvent),
    /// Metrics of the request.
    Metrics(MetricsEvent),
    /// The output is complete.
    End(EndEvent),
    /// The request failed; the output is incomplete.
    Error(Diagnostic),
}

impl_schema! {
    StreamEvent, uses [StartedEvent, TokenEvent, MetricsEvent, EndEvent, Diagnostic],
    "Event of a request. A stream consists of `started`, a `token` for each token, `metrics` and \
     `end`; if the request fails, `error` is the last event instead.",
    events([
        event_of_json(Some("started"), reference::<StartedEvent>()),
        event_of_json(Some("token"), reference::<TokenEvent>()),
        event_of_json(Some("metrics"), reference::<MetricsEvent>()),
        event_of_json(Some("end"), reference::<EndEvent>()),
        event_of_json(Some("error"), reference::<Diagnostic>()),
    ])
}

impl StreamEvent {
    /// Returns the type of the server-sent event.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Token(_) => "token",
            Self::Metrics(_) => "metrics",
            Self::End(_) => "end",
            Self::Error(_) => "error",
        }
    }

    /// Whether this is the last event of a stream.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::End(_) | Self::Error(_))
    }

    /// Appends the event to `out` as a server-sent event.
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

    /// Parses a server-sent event from its type and data. Returns `Ok(None)` for a type that
    /// this version does not know.
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
    fn written_events_can_be_read() {
        let event = StreamEvent::Token(TokenEvent {
            i: 3,
            t: "line\nnext \"quoted\"".into(),
            reasoning: String::new(),
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
