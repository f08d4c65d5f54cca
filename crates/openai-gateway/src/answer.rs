use serde::Serialize;
use utoipa::ToSchema;
use worker_contract::{EndEvent, TokenEvent, ToolCall};

use crate::{
    CompletionUsage, Edge, Envelope, UsageSum, finish_reason,
    logprobs::{ChatLogprobs, CompletionLogprobs, Pending},
};

/// Collects an answer, all its choices, that is sent as one document.
#[derive(Debug, Clone)]
pub struct Answer {
    choices: Vec<Choice>,
    usage: UsageSum,
}

#[derive(Debug, Clone, Default)]
struct Choice {
    text: String,
    calls: Vec<ToolCall>,
    logprobs: Option<Pending>,
    finish_reason: &'static str,
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
    /// As many as were asked for.
    pub choices: Vec<ChatChoice>,
    /// Tokens counted.
    pub usage: CompletionUsage,
}

/// The answer's message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Which of the answers, from 0.
    pub index: u32,
    /// The message.
    pub message: AssistantMessage,
    /// Probabilities, when asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`.
    pub finish_reason: &'static str,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AssistantMessage {
    /// Always `assistant`.
    pub role: &'static str,
    /// The text; null when there are only calls.
    pub content: Option<String>,
    /// Always null.
    pub refusal: Option<String>,
    /// Tools that are to be called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<AnsweredCall>,
}

/// A tool that is to be called.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnsweredCall {
    /// Names the call, so that its result can.
    pub id: String,
    /// Always `function`.
    pub r#type: &'static str,
    /// What is to be called.
    pub function: AnsweredFunction,
}

/// What is to be called.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnsweredFunction {
    /// The function.
    pub name: String,
    /// Its arguments, as the text of a JSON object; a model may get it wrong.
    pub arguments: String,
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
    /// As many as were asked for.
    pub choices: Vec<CompletionChoice>,
    /// Tokens counted.
    pub usage: CompletionUsage,
}

/// The answer's text.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CompletionChoice {
    /// Which of the answers, from 0.
    pub index: u32,
    /// The text.
    pub text: String,
    /// Probabilities, when asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
}

impl Answer {
    /// `choices` empty answers; `logprobs` when probabilities were asked for.
    pub fn new(logprobs: bool, choices: u32) -> Self {
        let empty = || Choice {
            logprobs: logprobs.then(Pending::default),
            ..Choice::default()
        };
        Self {
            choices: (0..choices).map(|_| empty()).collect(),
            usage: UsageSum::of(choices),
        }
    }

    /// Adds a token to a choice.
    pub fn token(&mut self, choice: u32, event: &TokenEvent) {
        let Some(choice) = self.choices.get_mut(choice as usize) else {
            return;
        };
        choice.text.push_str(&event.t);
        for piece in &event.calls {
            piece.clone().add_to(&mut choice.calls);
        }
        if let Some(pending) = &mut choice.logprobs {
            pending.push(event);
        }
    }

    /// The text of the first choice so far.
    pub fn text(&self) -> &str {
        self.choices.first().map_or("", |choice| &choice.text)
    }

    /// A choice is complete; `true` when all are.
    pub fn end(&mut self, choice: u32, event: &EndEvent) -> bool {
        if let Some(choice) = self.choices.get_mut(choice as usize) {
            if let Some(pending) = &mut choice.logprobs {
                pending.finish(event.reason);
            }
            choice.finish_reason = finish_reason(event.reason);
        }
        self.usage.add(choice, event.usage)
    }

    /// The document.
    pub fn finish(self, edge: Edge, envelope: &Envelope) -> Result<Vec<u8>, serde_json::Error> {
        let id = envelope.id(edge);
        let model = envelope.model.clone();
        let system_fingerprint = envelope.system_fingerprint.clone();
        let created = envelope.created;
        let usage = self.usage.total().into();
        let choices = (0..).zip(self.choices);
        match edge {
            Edge::Chat => serde_json::to_vec(&ChatAnswer {
                id,
                object: "chat.completion",
                created,
                model,
                system_fingerprint,
                choices: choices.map(|(nth, choice)| choice.chat(nth)).collect(),
                usage,
            }),
            Edge::Completion => serde_json::to_vec(&CompletionAnswer {
                id,
                object: "text_completion",
                created,
                model,
                system_fingerprint,
                choices: choices
                    .map(|(nth, choice)| choice.completion(nth))
                    .collect(),
                usage,
            }),
        }
    }
}

impl Choice {
    fn chat(mut self, index: u32) -> ChatChoice {
        let only_calls = self.text.is_empty() && !self.calls.is_empty();
        ChatChoice {
            index,
            message: AssistantMessage {
                role: "assistant",
                content: (!only_calls).then_some(self.text),
                refusal: None,
                tool_calls: self.calls.into_iter().map(AnsweredCall::from).collect(),
            },
            logprobs: self.logprobs.as_mut().map(Pending::take_chat),
            finish_reason: self.finish_reason,
        }
    }

    fn completion(mut self, index: u32) -> CompletionChoice {
        CompletionChoice {
            index,
            text: self.text,
            logprobs: self.logprobs.as_mut().map(Pending::take_completion),
            finish_reason: self.finish_reason,
        }
    }
}

impl From<ToolCall> for AnsweredCall {
    fn from(call: ToolCall) -> Self {
        Self {
            id: call.id,
            r#type: "function",
            function: AnsweredFunction {
                name: call.name,
                arguments: call.arguments,
            },
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
