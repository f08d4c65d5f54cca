use diagnostics::Diagnostic;
use input_validation::{ModelRef, RequestId};
use jiff::Timestamp;
use openapi_schema::{
    any_of, array, boolean, impl_schema, object, one_of_names, reference, strings, text, unsigned,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    defaults::{self, is_false, is_true, yes},
    message::{Message, ToolCall, ToolChoice, ToolDefinition},
    output::{FinishReason, Timings, TokenLogprob, Usage},
    sampling::{Sampling, SamplingValues},
    schemas::StopSequence,
};

/// Constraint that the entire output must match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid under this JSON schema, as far as it can be enforced. What cannot is
    /// named in the notes of the response.
    JsonSchema(Value),
    /// JSON that is valid under this JSON schema. The request is refused if a part of the schema
    /// cannot be enforced.
    StrictJsonSchema(Value),
    /// Regular expression.
    Regex(String),
    /// Grammar in Lark's notation.
    Grammar(String),
}

impl_schema! {
    Constraint, uses [],
    "Constraint that the entire output must match: any JSON object, a JSON schema, a regular \
     expression, or a grammar in Lark's notation.",
    any_of([
        strings(["json_object"]),
        one_of_names([
            ("json_schema", any_of([object([]), boolean(None)])),
            ("strict_json_schema", any_of([object([]), boolean(None)])),
            ("regex", text()),
            ("grammar", text()),
        ]),
    ])
}

/// Input of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InferInput {
    /// Text, without a chat template.
    Prompt(String),
    /// Conversation, oldest message first, rendered by the model's chat template.
    Messages(Vec<Message>),
    /// Token ids.
    Tokens(Vec<u32>),
}

impl_schema! {
    InferInput, uses [Message],
    "Input of the model: text that is used without a chat template, messages (oldest first) that \
     the model's chat template renders, or token ids. It must contain at least one token.",
    one_of_names([
        ("prompt", text()),
        ("messages", array(reference::<Message>(), 1..=usize::MAX)),
        ("tokens", array(unsigned(u32::MAX as usize), 1..=usize::MAX)),
    ])
}

/// How the model reasons before it answers. Models without reasoning ignore it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ReasoningOptions {
    /// Whether the model reasons. Absent: as the chat template decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How much the model reasons, in the words of its chat template: `low`, `medium`, `high`, ….
    /// With `none`, it does not reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// Maximum number of reasoning tokens; the model answers after them. With 0, it does not
    /// reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Whether a model that cannot reason refuses a request with `enabled: true` instead of
    /// ignoring it.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

impl ReasoningOptions {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Body of `POST /v1/infer`. All APIs of the queen translate their requests to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferRequest {
    /// Id of the request; must not be the id of a running request.
    pub request_id: RequestId,
    /// Input of the model; must not be empty.
    pub input: InferInput,
    /// Tokens of an earlier exchange that precede the input. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preceding_tokens: Vec<u32>,
    /// Context length in tokens that the client expects. A note says if it is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_context: Option<u32>,
    /// Whether the oldest turns are dropped if the messages exceed the context, except system
    /// messages and the last turn. A note says how many messages were dropped. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub drop_oldest_messages: bool,
    /// Whether the event `started` has the tokens of the prompt. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub report_prompt: bool,
    /// Maximum number of tokens to generate. Default: what the context leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u32>,
    /// Whether the output ends where the context does if `max_tokens` exceeds what the context
    /// leaves. Otherwise, such a request is refused. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub end_with_context: bool,
    /// Whether the output continues the last message, which is of the assistant, instead of being
    /// a message after it. The output does not repeat its text. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub continue_final_message: bool,
    /// Parameters of the sampler.
    #[serde(default)]
    pub sampling: Sampling,
    /// Parameters of the sampler where neither `sampling` nor the model's recommendation has a
    /// value: the defaults of the client's API.
    #[serde(default, skip_serializing_if = "SamplingValues::is_empty")]
    pub sampling_defaults: SamplingValues,
    /// Constraint of the output. It does not apply to tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// Functions that the model may call; requires an input of messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDefinition>,
    /// Whether the model calls tools. Default: `auto`.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub tool_choice: ToolChoice,
    /// Whether the output may contain several tool calls. Otherwise, it ends after the first
    /// one. Default: true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    #[schema(default = true)]
    pub parallel_tool_calls: bool,
    /// How the model reasons before it answers.
    #[serde(
        default,
        deserialize_with = "defaults::object",
        skip_serializing_if = "ReasoningOptions::is_default"
    )]
    pub reasoning: ReasoningOptions,
    /// Further variables of the chat template, by name. Those that the template does not use
    /// are named in the notes of the response.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub template_variables: Map<String, Value>,
    /// Stop sequences of up to 1024 bytes. The first one to occur ends the output and is not
    /// part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<StopSequence>, max_items = 16)]
    pub stop: Vec<String>,
    /// Reports the log probability of each output token and of this many most likely tokens at
    /// its position. Absent: no log probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 20)]
    pub logprobs: Option<u8>,
    /// Tokens that another worker generated for this request. They count as generated and are
    /// not sent again; the output continues after them as if it had not been interrupted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continue_from: Vec<u32>,
    /// Deadline. A request that is not complete then fails with `DEADLINE_EXCEEDED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// Whether the response is an event stream or one document. Default: true.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub stream: bool,
}

fn is_auto(choice: &ToolChoice) -> bool {
    *choice == ToolChoice::Auto
}

impl InferRequest {
    /// Creates a request for an event stream, with defaults for all other fields.
    pub fn new(request_id: RequestId, input: InferInput) -> Self {
        Self {
            request_id,
            input,
            preceding_tokens: Vec::new(),
            expected_context: None,
            drop_oldest_messages: false,
            report_prompt: false,
            max_tokens: None,
            end_with_context: false,
            continue_final_message: false,
            sampling: Sampling::default(),
            sampling_defaults: SamplingValues::default(),
            constraint: None,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            reasoning: ReasoningOptions::default(),
            template_variables: Map::new(),
            stop: Vec::new(),
            logprobs: None,
            continue_from: Vec::new(),
            deadline: None,
            stream: true,
        }
    }

    /// Whether a message has an image.
    pub fn has_images(&self) -> bool {
        match &self.input {
            InferInput::Messages(messages) => messages.iter().any(|m| !m.images.is_empty()),
            _ => false,
        }
    }

    /// Whether the output may contain tool calls.
    pub fn may_call(&self) -> bool {
        !self.tools.is_empty() && self.tool_choice != ToolChoice::None
    }

    /// Returns the request for another choice of the same input. `choice` is its index, at
    /// least 1. Its id is derived: `r` becomes `r_2`.
    ///
    /// Fails with `INVALID_REQUEST` if that id is too long.
    pub fn for_choice(&self, choice: u32) -> Result<Self, Diagnostic> {
        let mut request = self.clone();
        request.request_id = format!("{}_{choice}", self.request_id).parse()?;
        request.sampling.choice = choice;
        Ok(request)
    }

    /// Returns the id of the first choice, if this is [another](Self::for_choice) choice.
    pub fn first_choice_id(&self) -> Option<&str> {
        let choice = self.sampling.choice;
        let id = self.request_id.as_str();
        let first = id.strip_suffix(&choice.to_string())?.strip_suffix('_')?;
        (choice > 0).then_some(first)
    }
}

/// Response of `POST /v1/infer` with `stream: false`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferResponse {
    /// Id of the request.
    pub request_id: RequestId,
    /// Model that generated the output.
    pub model: ModelRef,
    /// Seed of the sampler, from the request or drawn at random.
    pub seed: u64,
    /// Parameters of the sampler that were used, from request, model and defaults. Those that
    /// are absent were off.
    #[serde(default, skip_serializing_if = "SamplingValues::is_empty")]
    pub sampling: SamplingValues,
    /// Text of the output.
    pub text: String,
    /// Reasoning of the model before its answer; absent if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// What was changed in the request or ignored so that the model can serve it, as sentences
    /// for the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Ids of the generated tokens, including the end token.
    pub tokens: Vec<u32>,
    /// Log probabilities of the tokens; absent unless requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprob>,
    /// Tool calls for the client to run; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Reason why the output ended.
    pub reason: FinishReason,
    /// Token counts.
    pub usage: Usage,
    /// Durations of the phases of the request.
    pub timings: Timings,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_have_derived_ids() {
        let request =
            |id: &str| InferRequest::new(id.parse().unwrap(), InferInput::Prompt("x".into()));
        let third = request("a_1").for_choice(2).unwrap();
        assert_eq!(
            (third.request_id.as_str(), third.sampling.choice),
            ("a_1_2", 2)
        );
        assert_eq!(third.first_choice_id(), Some("a_1"));
        // Only `sampling.choice` makes a request another choice, not the form of its id.
        assert_eq!(request("a_1").first_choice_id(), None);
        assert_eq!(request("a_0").first_choice_id(), None);
        assert!(request(&"a".repeat(127)).for_choice(1).is_err());
    }
}
