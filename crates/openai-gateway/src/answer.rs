use serde::Serialize;
use utoipa::ToSchema;
use worker_contract::{EndEvent, TokenEvent};

use crate::{
    CompletionUsage, Edge, Envelope, finish_reason,
    logprobs::{ChatLogprobs, CompletionLogprobs, Pending},
};

/// Collects an answer that is sent as one document.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    text: String,
    logprobs: Option<Pending>,
}

/// Answer of `POST /v1/chat/completions`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatAnswer {
    /// The answer's name.
    pub id: String,
    /// Always `chat.completion`.
    pub object: &'static str,
    /// When the request came, in seconds since 1970.
    pub created: i64,
    /// The model by the client's name for it.
    pub model: String,
    /// What computed it.
    pub system_fingerprint: String,
    /// One.
    pub choices: Vec<ChatChoice>,
    /// Tokens counted.
    pub usage: CompletionUsage,
}

/// The answer's message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Always 0.
    pub index: u32,
    /// The message.
    pub message: AssistantMessage,
    /// Probabilities, when asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AssistantMessage {
    /// Always `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
    /// Always null.
    pub refusal: Option<String>,
}

/// Answer of `POST /v1/completions`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CompletionAnswer {
    /// The answer's name.
    pub id: String,
    /// Always `text_completion`.
    pub object: &'static str,
    /// When the request came, in seconds since 1970.
    pub created: i64,
    /// The model by the client's name for it.
    pub model: String,
    /// What computed it.
    pub system_fingerprint: String,
    /// One.
    pub choices: Vec<CompletionChoice>,
    /// Tokens counted.
    pub usage: CompletionUsage,
}

/// The answer's text.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CompletionChoice {
    /// Always 0.
    pub index: u32,
    /// The text.
    pub text: String,
    /// Probabilities, when asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
}

impl Answer {
    /// An empty answer; `logprobs` when probabilities were asked for.
    pub fn new(logprobs: bool) -> Self {
        Self {
            text: String::new(),
            logprobs: logprobs.then(Pending::default),
        }
    }

    /// Adds a token.
    pub fn token(&mut self, event: &TokenEvent) {
        self.text.push_str(&event.t);
        if let Some(pending) = &mut self.logprobs {
            pending.push(event);
        }
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The document.
    pub fn finish(
        mut self,
        edge: Edge,
        envelope: &Envelope,
        event: &EndEvent,
    ) -> Result<Vec<u8>, serde_json::Error> {
        if let Some(pending) = &mut self.logprobs {
            pending.finish(event.reason);
        }
        let id = envelope.id(edge);
        let model = envelope.model.clone();
        let system_fingerprint = envelope.system_fingerprint.clone();
        let finish_reason = finish_reason(event.reason);
        match edge {
            Edge::Chat => serde_json::to_vec(&ChatAnswer {
                id,
                object: "chat.completion",
                created: envelope.created,
                model,
                system_fingerprint,
                choices: vec![ChatChoice {
                    index: 0,
                    message: AssistantMessage {
                        role: "assistant",
                        content: self.text,
                        refusal: None,
                    },
                    logprobs: self.logprobs.as_mut().map(Pending::take_chat),
                    finish_reason,
                }],
                usage: event.usage.into(),
            }),
            Edge::Completion => serde_json::to_vec(&CompletionAnswer {
                id,
                object: "text_completion",
                created: envelope.created,
                model,
                system_fingerprint,
                choices: vec![CompletionChoice {
                    index: 0,
                    text: self.text,
                    logprobs: self.logprobs.as_mut().map(Pending::take_completion),
                    finish_reason,
                }],
                usage: event.usage.into(),
            }),
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
