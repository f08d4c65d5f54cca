use diagnostics::Diagnostic;
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
    /// Of an assistant: the tools it called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool: the call that this is the result of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Of a tool: its name; of others, who speaks, where the template has a place for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message without tools.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }
}

/// A function that the model may ask to have called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolDefinition {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON schema of its arguments; absent, it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Value>,
}

/// A function that the model asks to have called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCall {
    /// Names the call, so that its result can.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments, as the text of a JSON object.
    pub arguments: String,
}

/// Whether tools are called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// None is, and the model is not told of them.
    None,
    /// One is: the answer is a call, and nothing else.
    Required,
    /// This one is, likewise.
    Named(String),
}

impl ToolChoice {
    /// Whether the answer must be a call.
    pub const fn must_call(&self) -> bool {
        matches!(self, Self::Required | Self::Named(_))
    }
}

/// What the answer must match, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// A document of this JSON schema.
    JsonSchema(serde_json::Value),
    /// This regular expression.
    Regex(String),
    /// This grammar, in Lark's notation.
    Grammar(String),
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
    /// Which of several answers to one prompt this is: each draws numbers of its own from
    /// one seed.
    #[serde(skip_serializing_if = "is_first")]
    pub choice: u32,
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
            choice: 0,
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
    /// Whether `max_tokens` may be more than the context leaves: then the answer ends where
    /// the context does. Otherwise such a request is refused.
    #[serde(default, skip_serializing_if = "is_no")]
    pub end_with_context: bool,
    /// How tokens are chosen.
    #[serde(default)]
    pub sampling: Sampling,
    /// What the answer must match, unless it calls tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// Functions that the model may ask to have called; only with messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDefinition>,
    /// Whether it does.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub tool_choice: ToolChoice,
    /// Whether one answer may call several times; otherwise it ends with its first call.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub parallel_tool_calls: bool,
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

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_yes(flag: &bool) -> bool {
    *flag
}

#[allow(clippy::trivially_copy_pass_by_ref)]
pub(crate) fn is_no(flag: &bool) -> bool {
    !*flag
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_first(choice: &u32) -> bool {
    *choice == 0
}

fn is_auto(choice: &ToolChoice) -> bool {
    *choice == ToolChoice::Auto
}

impl InferRequest {
    /// Whether the answer may be a call.
    pub fn may_call(&self) -> bool {
        !self.tools.is_empty() && self.tool_choice != ToolChoice::None
    }

    /// The request for another answer to the same, the `choice`th from 0, under a name of
    /// its own: `r` becomes `r_2`.
    ///
    /// Errors: `INVALID_REQUEST` when that name is too long.
    pub fn another(&self, choice: u32) -> Result<Self, Diagnostic> {
        let mut another = self.clone();
        another.request_id = format!("{}_{choice}", self.request_id).parse()?;
        another.sampling.choice = choice;
        Ok(another)
    }

    /// The name of the request that this asks for [another](Self::another) answer to.
    pub fn first(&self) -> Option<&str> {
        let choice = self.sampling.choice;
        let name = self.request_id.as_str();
        let first = name.strip_suffix(&choice.to_string())?.strip_suffix('_')?;
        (choice > 0).then_some(first)
    }

    /// A request for events, with nothing asked beyond the input.
    pub fn new(request_id: RequestId, input: InferInput) -> Self {
        Self {
            request_id,
            input,
            max_tokens: None,
            end_with_context: false,
            sampling: Sampling::default(),
            constraint: None,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            stop: Vec::new(),
            logprobs: None,
            continue_from: Vec::new(),
            deadline: None,
            stream: true,
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token or a stop text.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// Tools are to be called.
    ToolCalls,
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
    /// The tokens' log probabilities, when asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprob>,
    /// Tools that are to be called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens counted.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_answer_knows_the_request_that_it_belongs_to() {
        let request =
            |name: &str| InferRequest::new(name.parse().unwrap(), InferInput::Prompt("x".into()));
        let third = request("a_1").another(2).unwrap();
        assert_eq!(
            (third.request_id.as_str(), third.sampling.choice),
            ("a_1_2", 2)
        );
        assert_eq!(third.first(), Some("a_1"));
        // A name that only looks like it is a name.
        assert_eq!(request("a_1").first(), None);
        assert_eq!(request("a_0").first(), None);
        assert!(request(&"a".repeat(127)).another(1).is_err());
    }
}
