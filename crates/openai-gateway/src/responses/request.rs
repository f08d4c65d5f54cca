use std::collections::BTreeMap;

use diagnostics::Diagnostic;
use queen_contract::Priority;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use worker_contract::{
    InferInput, InferRequest, ReasoningOptions, Sampling, SamplingValues, TokenizeRequest, limits,
};

use super::{
    document::{ReasoningEcho, ResponseDocument, TextEcho},
    format::{self, ResponsesText},
    input::messages,
    schemas::{ResponsesInput, ResponsesToolChoice, ResponsesTruncation, UnsupportedBackground},
    tools::{self, ResponsesTool},
    writer::ResponsesWriter,
};
use crate::{
    errors::{must_be, not_stored, unsupported},
    field_names::{self, FieldNames},
    fields::{integer, logprobs, max_tokens, no_limit_note, number, read},
    openai::{self, ReasoningEffort, TEMPERATURE},
    parsed_request::{ParsedRequest, ParsedTokenCount, RequestContext, ResponseFormat},
    priority::priority,
    schemas::Unsupported,
};

/// Element of `include` that reports log probabilities.
const INCLUDE_LOGPROBS: &str = "message.output_text.logprobs";

const FIELD_NAMES: FieldNames = FieldNames {
    input: "input",
    constraint: "text.format",
    others: field_names::RESPONSES,
};

/// Body of `POST /v1/responses`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ResponsesRequest {
    /// Model: an id that `/v1/models` lists, such as `builtin:haiku`, or `file:/path`.
    pub model: String,
    /// Text of the user, or the items of the conversation, oldest first; at least one item.
    #[schema(value_type = ResponsesInput)]
    pub input: Value,
    /// Text of a system message before the input.
    pub instructions: Option<String>,
    /// Whether to stream the response as server-sent events. Default: false.
    #[schema(default = false)]
    pub stream: Option<bool>,
    /// Options of a stream; ignored.
    pub stream_options: Option<ResponsesStreamOptions>,
    /// Functions that the model may call, up to 128. Their names must differ.
    #[schema(max_items = 128)]
    pub tools: Option<Vec<ResponsesTool>>,
    /// `auto` (the default), `none`, `required` (the output is one call of any of the
    /// functions), `{"type": "function", "name": …}` (the output is one call of this function) or
    /// `{"type": "allowed_tools", "mode": …, "tools": […]}` (the model receives these functions
    /// only).
    #[schema(value_type = Option<ResponsesToolChoice>)]
    pub tool_choice: Option<Value>,
    /// Whether the output may contain several tool calls. Default: true.
    #[schema(default = true)]
    pub parallel_tool_calls: Option<bool>,
    /// Format of the output.
    pub text: Option<ResponsesText>,
    /// How the model reasons before it answers.
    pub reasoning: Option<ResponsesReasoning>,
    /// Maximum number of tokens to generate; the output also ends where the context does. 0, -1
    /// and the default: no limit but the context.
    #[schema(minimum = -1)]
    #[serde(default, deserialize_with = "integer")]
    pub max_output_tokens: Option<i64>,
    /// Sampling temperature, 0 to 2; 0 selects the most likely token (greedy). Default: the
    /// model's recommendation, or 1.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Keeps the smallest set of tokens whose probabilities reach this sum, 0 to 1. Default: the
    /// model's recommendation, or 1 (all tokens).
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Number of most likely tokens to report at each position, 0 to 20; only with
    /// `message.output_text.logprobs` in `include`. Default: 0.
    #[schema(minimum = 0, maximum = 20, default = 0)]
    #[serde(default, deserialize_with = "integer")]
    pub top_logprobs: Option<i64>,
    /// Further output to include. `message.output_text.logprobs` reports the log probability of
    /// each output token; other elements are ignored.
    pub include: Option<Vec<String>>,
    /// Strings by name, which the response repeats.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Ignored: nothing is stored.
    #[schema(default = false)]
    pub store: Option<bool>,
    /// `disabled`; `auto` has the same effect. An input that does not fit into the context is an
    /// error.
    #[schema(value_type = Option<ResponsesTruncation>)]
    pub truncation: Option<String>,
    /// Id of the end user; the response repeats it.
    pub user: Option<String>,
    /// Id of the end user; the response repeats it.
    pub safety_identifier: Option<String>,
    /// The response repeats it. Prompts with the same beginning share it without a key.
    pub prompt_cache_key: Option<String>,
    /// `flex`: the request is served after interactive ones, as with the header
    /// `x-request-priority: batch`. Other tiers have no effect.
    pub service_tier: Option<String>,
    /// Not supported: responses are not stored.
    #[schema(value_type = Unsupported, required = false)]
    pub previous_response_id: Option<Value>,
    /// Not supported: conversations are not stored.
    #[schema(value_type = Unsupported, required = false)]
    pub conversation: Option<Value>,
    /// Not supported: prompts are not stored.
    #[schema(value_type = Unsupported, required = false)]
    pub prompt: Option<Value>,
    /// Only false is supported.
    #[schema(value_type = Option<UnsupportedBackground>)]
    pub background: Option<Value>,
}

/// Options of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub struct ResponsesStreamOptions {
    /// Ignored: deltas have no field `obfuscation`.
    #[schema(default = false)]
    pub include_obfuscation: Option<bool>,
}

/// How the model reasons before it answers. Models without reasoning ignore it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct ResponsesReasoning {
    /// How much the model reasons: `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`. A
    /// model uses the nearest level that it knows. Default: as its chat template decides.
    #[schema(value_type = Option<ReasoningEffort>)]
    pub effort: Option<String>,
    /// If present, the reasoning is returned as the summary of its item, complete; otherwise as
    /// its content.
    pub summary: Option<String>,
    /// Same as `summary`.
    pub generate_summary: Option<String>,
}

/// Parses the JSON body of `POST /v1/responses`.
pub fn parse(body: &Value, context: &RequestContext) -> Result<ParsedRequest, Diagnostic> {
    let fields: ResponsesRequest = read(body)?;
    refuse_unsupported(&fields)?;
    let mut notes = Vec::new();
    if fields.store == Some(true) {
        notes.push("`store` is ignored: responses are not stored".to_owned());
    }
    notes.extend(no_limit_note("max_output_tokens", fields.max_output_tokens));
    let truncation = truncation(fields.truncation.as_deref(), &mut notes)?;
    let all_tools = tools::definitions(fields.tools.as_deref().unwrap_or_default())?;
    let chosen = tools::choose(fields.tool_choice.as_ref(), all_tools)?;
    let text = fields.text.unwrap_or_default();
    let sampling = Sampling {
        values: SamplingValues {
            temperature: number("temperature", fields.temperature, &TEMPERATURE)?,
            top_p: number("top_p", fields.top_p, &limits::PROBABILITY)?,
            ..SamplingValues::default()
        },
        ..Sampling::default()
    };
    // Clients set the number of alternatives without asking for log probabilities.
    let alternatives = logprobs(Some(true), fields.top_logprobs)?;
    let include = fields.include.unwrap_or_default();
    let with_logprobs = include.iter().any(|name| name == INCLUDE_LOGPROBS);
    let max_tokens = match fields.max_output_tokens {
        Some(n) => max_tokens("max_output_tokens", n)?,
        None => None,
    };
    let parallel_tool_calls = fields.parallel_tool_calls.unwrap_or(true);
    let reasoning = fields.reasoning;
    let effort = reasoning.as_ref().and_then(|r| r.effort.clone());
    let effort = openai::effort("reasoning.effort", effort)?;
    let summary = reasoning.and_then(|r| r.summary.or(r.generate_summary));
    let request = InferRequest {
        max_tokens,
        end_with_context: true,
        constraint: format::constraint(text.format.as_ref())?,
        sampling,
        logprobs: alternatives.filter(|_| with_logprobs),
        tools: chosen.tools,
        tool_choice: chosen.choice,
        parallel_tool_calls,
        reasoning: ReasoningOptions {
            effort: effort.clone(),
            ..ReasoningOptions::default()
        },
        ..InferRequest::new(
            context.request_id.clone(),
            InferInput::Messages(messages(fields.instructions.as_deref(), &fields.input)?),
        )
    };
    let priority = priority(fields.service_tier.as_deref(), None);
    let response = ResponseDocument {
        service_tier: match priority {
            Some(Priority::Batch) => "flex",
            _ => "default",
        },
        created_at: context.received_at.as_second(),
        instructions: fields.instructions,
        max_output_tokens: max_tokens,
        metadata: fields.metadata.unwrap_or_default(),
        parallel_tool_calls,
        prompt_cache_key: fields.prompt_cache_key,
        safety_identifier: fields.safety_identifier,
        reasoning: ReasoningEcho {
            effort,
            summary: summary.clone(),
        },
        temperature: fields.temperature.unwrap_or(1.0),
        text: TextEcho {
            format: text.format.unwrap_or_else(|| json!({"type": "text"})),
        },
        tool_choice: fields.tool_choice.unwrap_or_else(|| json!("auto")),
        tools: match body.get("tools") {
            Some(Value::Array(tools)) => tools.clone(),
            _ => Vec::new(),
        },
        top_logprobs: fields.top_logprobs.unwrap_or(0),
        top_p: fields.top_p.unwrap_or(1.0),
        truncation,
        user: fields.user,
        ..ResponseDocument::new(&context.request_id, fields.model.clone())
    };
    let stream = fields.stream.unwrap_or(false);
    let writer = ResponsesWriter::new(context.request_id.clone(), response, stream)
        .with_logprobs(with_logprobs)
        .with_summary(summary.is_some());
    Ok(ParsedRequest {
        model: fields.model,
        request,
        choices: 1,
        further_inputs: Vec::new(),
        format: if stream {
            ResponseFormat::Events
        } else {
            ResponseFormat::Document
        },
        priority,
        field_names: FIELD_NAMES,
        notes,
        writer: Box::new(writer),
    })
}

/// Parses the JSON body of `POST /v1/responses/input_tokens`.
pub fn parse_token_count(body: &Value) -> Result<ParsedTokenCount, Diagnostic> {
    let fields: ResponsesRequest = read(body)?;
    refuse_unsupported(&fields)?;
    let all_tools = tools::definitions(fields.tools.as_deref().unwrap_or_default())?;
    let chosen = tools::choose(fields.tool_choice.as_ref(), all_tools)?;
    let effort = fields.reasoning.and_then(|reasoning| reasoning.effort);
    let messages = messages(fields.instructions.as_deref(), &fields.input)?;
    Ok(ParsedTokenCount {
        model: fields.model,
        request: TokenizeRequest {
            input: InferInput::Messages(messages),
            tools: chosen.tools,
            reasoning: ReasoningOptions {
                effort: openai::effort("reasoning.effort", effort)?,
                ..ReasoningOptions::default()
            },
            template_variables: Map::new(),
        },
        field_names: FIELD_NAMES,
    })
}

fn refuse_unsupported(fields: &ResponsesRequest) -> Result<(), Diagnostic> {
    for (name, value) in [
        ("previous_response_id", &fields.previous_response_id),
        ("conversation", &fields.conversation),
        ("prompt", &fields.prompt),
    ] {
        if value.as_ref().is_some_and(|value| !value.is_null()) {
            return Err(not_stored(name));
        }
    }
    match &fields.background {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(value) => Err(unsupported("background", value)),
    }
}

/// Returns the mode to report.
fn truncation(mode: Option<&str>, notes: &mut Vec<String>) -> Result<&'static str, Diagnostic> {
    match mode {
        None | Some("disabled") => Ok("disabled"),
        Some("auto") => {
            notes.push("`truncation: auto` is ignored: the input is never shortened".to_owned());
            Ok("disabled")
        }
        Some(_) => Err(must_be("truncation", "`auto` or `disabled`")),
    }
}
