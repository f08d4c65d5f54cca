use input_validation::{ModelRef, RequestId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::TokenLogprob;

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// What the model is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InferInput {
    /// Text as it is, no template.
    Prompt(String),
    /// A conversation, rendered by the model's chat template.
    Messages(Vec<Message>),
    /// Token ids as they are.
    Tokens(Vec<u32>),
}

/// How the next token is chosen. The defaults change nothing about the model's own
/// distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Sampling {
    /// 0 is greedy; logits are divided by it.
    pub temperature: f32,
    /// Least set of tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// The k likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides (multiplies, when negative) the logits of tokens seen; 1 is off.
    pub repetition_penalty: f32,
    /// Taken from a logit once for each time its token was generated.
    pub frequency_penalty: f32,
    /// Taken from a logit whose token was generated.
    pub presence_penalty: f32,
    /// Added to logits, by token id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<(u32, f32)>,
    /// Same seed, same text. Drawn and reported when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// One request for text, the form that every edge translates to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferRequest {
    /// Its name; cancelling names it.
    pub request_id: RequestId,
    /// What the model is given.
    pub input: InferInput,
    /// Most tokens to generate; absent, what the context leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    #[serde(default)]
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Report the log probability of each token and of this many alternatives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// Tokens already generated elsewhere for this very request: they count as generated,
    /// are not sent again, and the rest is as if nothing had been interrupted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continue_from: Vec<u32>,
    /// When the answer is worth nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// Events (true) or one document.
    #[serde(default = "yes")]
    pub stream: bool,
}

fn yes() -> bool {
    true
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token or a stop text.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// Tokens counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u32,
    /// Generated, the end token and `continue_from` included.
    pub completion_tokens: u32,
    /// Of the prompt, not computed because a cache had them.
    pub cached_tokens: u32,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Waiting for a slot.
    pub queue_ms: f64,
    /// From the start of the prefill to the first token.
    pub prefill_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
    /// Tokens per second from the first to the last; 0 with fewer than two.
    pub tokens_per_second: f64,
}

/// The answer of `/v1/infer` with `stream: false`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferResponse {
    /// The request's name.
    pub request_id: RequestId,
    /// The model that answered.
    pub model: ModelRef,
    /// The seed, given or drawn.
    pub seed: u64,
    /// The text.
    pub text: String,
    /// The tokens, the end token included.
    pub tokens: Vec<u32>,
    /// Their log probabilities, when asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprob>,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens counted.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}
