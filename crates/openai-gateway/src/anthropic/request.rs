use std::ops::RangeInclusive;

use diagnostics::Diagnostic;
use openapi_schema::impl_schema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use worker_contract::{
    Constraint, InferRequest, Sampling, SamplingValues, TokenizeRequest, ToolChoice,
    ToolDefinition, limits,
};

use super::{
    messages::{AnthropicContent, AnthropicInputMessage, conversation, type_of},
    schemas::{
        AnthropicContextManagement, AnthropicEffort, AnthropicText,
        tool_choice as tool_choice_schema,
    },
    thinking::{self, AnthropicThinking, Thinking},
    writer::AnthropicWriter,
};
use crate::{
    errors::{missing, must_be, must_be_object, server_tool, unsupported},
    field_names::{self, FieldNames},
    fields::{self, integer, number, read, stops},
    parsed_request::{ParsedRequest, ParsedTokenCount, RequestContext, ResponseFormat},
    schemas::{JsonSchema, StopSequences, Unsupported, UnsupportedArray},
};

/// Range of the temperature; workers accept more.
const TEMPERATURE: RangeInclusive<f64> = 0.0..=1.0;

const FIELD_NAMES: FieldNames = FieldNames {
    input: "messages",
    constraint: "output_config.format",
    others: field_names::ANTHROPIC,
};

/// Body of `POST /v1/messages`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicRequest {
    /// Model: an id that `/v1/models` lists.
    pub model: String,
    /// Conversation, oldest message first; at least one message. The output continues the last
    /// one if it is of the assistant.
    #[schema(min_items = 1)]
    pub messages: Vec<AnthropicInputMessage>,
    /// System prompt: a string, or blocks of type `text`.
    #[schema(value_type = Option<AnthropicText>)]
    pub system: Option<AnthropicContent>,
    /// Maximum number of tokens to generate; the output also ends where the context does. 0: only
    /// the prompt is computed, and later requests share it; -1: no limit but the context.
    #[schema(minimum = -1, required, nullable = false)]
    #[serde(default, deserialize_with = "integer")]
    pub max_tokens: Option<i64>,
    /// Up to 16 stop sequences. The first one to occur ends the output and is not part of it.
    #[schema(value_type = Option<StopSequences>)]
    pub stop_sequences: Option<Value>,
    /// Whether to stream the response as server-sent events. Default: false.
    #[schema(default = false)]
    pub stream: Option<bool>,
    /// Sampling temperature, 0 to 1; 0 selects the most likely token (greedy).
    /// Default: the model's recommendation, or 1.
    #[schema(minimum = 0, maximum = 1)]
    pub temperature: Option<f64>,
    /// Keeps the k most likely tokens; 0 keeps all. Default: the model's recommendation, or
    /// 0.
    #[serde(default, deserialize_with = "integer")]
    pub top_k: Option<u32>,
    /// Keeps the smallest set of tokens whose probabilities reach this sum, 0 to 1. Default:
    /// the model's recommendation, or 1 (all tokens).
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Functions that the model may call.
    pub tools: Option<Vec<AnthropicTool>>,
    /// Whether and which functions the model calls. Default: `auto`.
    pub tool_choice: Option<AnthropicToolChoice>,
    pub output_config: Option<AnthropicOutputConfig>,
    /// Whether the model thinks before it answers. Default: as its chat template decides, and
    /// the response does not contain its thoughts.
    pub thinking: Option<AnthropicThinking>,
    /// Ignored if all its edits are of a `clear_` type; other edits are not supported.
    #[schema(value_type = Option<AnthropicContextManagement>)]
    pub context_management: Option<Value>,
    /// Not supported.
    #[schema(value_type = Unsupported, required = false)]
    pub container: Option<Value>,
    /// Not supported: null or an empty array.
    #[schema(value_type = Option<UnsupportedArray>)]
    pub mcp_servers: Option<Value>,
}

/// Body of `POST /v1/messages/count_tokens`. Other fields of `POST /v1/messages` are accepted,
/// and have no effect.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicTokenCountRequest {
    /// Model: an id that `/v1/models` lists.
    pub model: String,
    /// Conversation, oldest message first; at least one message.
    #[schema(min_items = 1)]
    pub messages: Vec<AnthropicInputMessage>,
    /// System prompt: a string, or blocks of type `text`.
    #[schema(value_type = Option<AnthropicText>)]
    pub system: Option<AnthropicContent>,
    /// Functions that the model may call.
    pub tools: Option<Vec<AnthropicTool>>,
    /// Whether the model thinks before it answers, which may change the prompt.
    pub thinking: Option<AnthropicThinking>,
}

/// Function that the model may call.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicTool {
    /// Only `custom` (the default) is supported.
    #[serde(rename = "type")]
    #[schema(pattern = "^custom$")]
    pub kind: Option<String>,
    pub name: String,
    /// Description of the function, which the model reads.
    pub description: Option<String>,
    /// JSON schema of the arguments, an object.
    #[schema(value_type = Object, required, nullable = false)]
    pub input_schema: Option<Value>,
    /// Whether calls always match `input_schema`, even where the model decides whether to call;
    /// an `input_schema` that cannot be enforced is refused. Default: false; arguments are then
    /// constrained as far as possible if the output must be a call, or if the request also has an
    /// `output_config.format`.
    pub strict: Option<bool>,
}

/// Whether and which functions the model calls.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AnthropicToolChoice {
    /// `auto`, `none`, `any` (the output is one call of any of the functions) or `tool` (the
    /// output is one call of the function `name`).
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the function; required with `tool`.
    pub name: Option<String>,
    /// Whether the output may contain at most one tool call. Default: false.
    pub disable_parallel_tool_use: Option<bool>,
}

impl_schema! {
    AnthropicToolChoice, uses [],
    "Whether and which functions the model calls: `auto` (the model decides), `none`, `any` (the \
     output is one call of any of the functions) or `tool` (the output is one call of the function \
     `name`). The last two require `tools`. With `disable_parallel_tool_use`, the output contains \
     at most one tool call.",
    tool_choice_schema()
}

/// Format of the output.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicOutputConfig {
    /// JSON schema that the output must match. Default: any text.
    pub format: Option<AnthropicOutputFormat>,
    /// How much the model thinks if `thinking` is enabled: `low`, `medium`, `high`, `xhigh`
    /// or `max`. A model uses the nearest level that it knows.
    #[schema(value_type = Option<AnthropicEffort>)]
    pub effort: Option<Value>,
}

/// JSON schema that the output must match.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicOutputFormat {
    /// Only `json_schema` is supported.
    #[serde(rename = "type")]
    #[schema(pattern = "^json_schema$")]
    pub kind: String,
    #[schema(value_type = JsonSchema)]
    pub schema: Value,
}

/// Refuses fields that would change the output and are not implemented.
fn refuse_unsupported(body: &Value) -> Result<(), Diagnostic> {
    for name in ["container", "context_management", "mcp_servers"] {
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(value) if name == "mcp_servers" && *value == json!([]) => {}
            Some(value) if name == "context_management" && only_clears(value) => {}
            Some(value) => return Err(unsupported(name, value)),
        }
    }
    Ok(())
}

/// Whether the edits only remove parts of the conversation. They are optional: the model may
/// as well read the parts. A compaction, whose summary the client expects, is not.
fn only_clears(management: &Value) -> bool {
    let clears = |edit| type_of(edit).is_some_and(|kind| kind.starts_with("clear_"));
    match management.get("edits") {
        None => management.is_object(),
        Some(edits) => edits
            .as_array()
            .is_some_and(|edits| edits.iter().all(clears)),
    }
}

/// Parses the JSON body of `POST /v1/messages`.
pub fn parse(body: &Value, context: &RequestContext) -> Result<ParsedRequest, Diagnostic> {
    let fields = read_fields(body)?;
    let Some(max_tokens) = fields.max_tokens else {
        return Err(missing("max_tokens"));
    };
    // As in Anthropic's API, 0 only computes the prompt.
    let only_prompt = max_tokens == 0;
    let max_tokens = match max_tokens {
        0 => Some(1),
        n => fields::max_tokens("max_tokens", n)?,
    };
    let values = SamplingValues {
        temperature: number("temperature", fields.temperature, &TEMPERATURE)?,
        top_k: fields.top_k,
        top_p: number("top_p", fields.top_p, &limits::PROBABILITY)?,
        ..SamplingValues::default()
    };
    let sampling = Sampling {
        values,
        ..Sampling::default()
    };
    let thinking = thinking(&fields, max_tokens.filter(|_| !only_prompt))?;
    let constraint = constraint(fields.output_config)?;
    let one_call = |choice: &AnthropicToolChoice| choice.disable_parallel_tool_use == Some(true);
    let (input, continue_final_message) = conversation(fields.system, fields.messages)?;
    let request = InferRequest {
        continue_final_message,
        parallel_tool_calls: !fields.tool_choice.as_ref().is_some_and(one_call),
        tools: tools(fields.tools.unwrap_or_default())?,
        max_tokens,
        // Anthropic's clients must send a limit and send the one of Anthropic's own models,
        // which is more than the context of many others.
        end_with_context: true,
        sampling,
        stop: stops("stop_sequences", fields.stop_sequences.as_ref())?,
        constraint,
        tool_choice: tool_choice(fields.tool_choice)?,
        reasoning: thinking.options,
        ..InferRequest::new(context.request_id.clone(), input)
    };
    let stream = fields.stream.unwrap_or(false);
    let writer = AnthropicWriter::new(
        &request.request_id,
        fields.model.clone(),
        request.stop.clone(),
        stream,
    )
    .with_thinking(thinking.is_shown);
    let parsed = ParsedRequest {
        model: fields.model,
        request,
        choices: 1,
        further_inputs: Vec::new(),
        priority: None,
        format: if stream {
            ResponseFormat::Events
        } else {
            ResponseFormat::Document
        },
        field_names: FIELD_NAMES,
        notes: Vec::new(),
        writer: Box::new(writer),
    };
    Ok(if only_prompt {
        parsed.without_output()
    } else {
        parsed
    })
}

/// Parses the JSON body of `POST /v1/messages/count_tokens`.
pub fn parse_token_count(body: &Value) -> Result<ParsedTokenCount, Diagnostic> {
    let fields = read_fields(body)?;
    let thinking = thinking(&fields, None)?;
    let (input, _) = conversation(fields.system, fields.messages)?;
    let request = TokenizeRequest {
        input,
        tools: tools(fields.tools.unwrap_or_default())?,
        reasoning: thinking.options,
        template_variables: Map::new(),
    };
    Ok(ParsedTokenCount {
        model: fields.model,
        request,
        field_names: FIELD_NAMES,
    })
}

fn thinking(fields: &AnthropicRequest, max_output: Option<u32>) -> Result<Thinking, Diagnostic> {
    let config = fields.output_config.as_ref();
    let effort = config.and_then(|config| config.effort.as_ref());
    thinking::parse(fields.thinking.as_ref(), effort, max_output)
}

fn read_fields(body: &Value) -> Result<AnthropicRequest, Diagnostic> {
    let fields = read(body)?;
    refuse_unsupported(body)?;
    Ok(fields)
}

fn constraint(config: Option<AnthropicOutputConfig>) -> Result<Option<Constraint>, Diagnostic> {
    match config.and_then(|config| config.format) {
        None => Ok(None),
        Some(format) if format.kind == "json_schema" => {
            Ok(Some(Constraint::JsonSchema(format.schema)))
        }
        Some(format) => Err(unsupported(
            "output_config.format.type",
            &json!(format.kind),
        )),
    }
}

fn tool_choice(choice: Option<AnthropicToolChoice>) -> Result<ToolChoice, Diagnostic> {
    let Some(choice) = choice else {
        return Ok(ToolChoice::Auto);
    };
    match (choice.kind.as_str(), choice.name) {
        ("auto", _) => Ok(ToolChoice::Auto),
        ("any", _) => Ok(ToolChoice::Required),
        ("none", _) => Ok(ToolChoice::None),
        ("tool", Some(name)) => Ok(ToolChoice::Named(name)),
        ("tool", None) => Err(missing("tool_choice.name")),
        _ => Err(must_be(
            "tool_choice.type",
            "`auto`, `any`, `tool` or `none`",
        )),
    }
}

fn tools(tools: Vec<AnthropicTool>) -> Result<Vec<ToolDefinition>, Diagnostic> {
    let convert = |(i, tool): (usize, AnthropicTool)| {
        if let Some(kind) = tool.kind.filter(|kind| kind != "custom") {
            return Err(server_tool(&format!("tools[{i}].type"), &kind));
        }
        let param = format!("tools[{i}].input_schema");
        let schema = tool.input_schema.ok_or_else(|| missing(&param))?;
        if !schema.is_object() {
            return Err(must_be_object(&param));
        }
        Ok(ToolDefinition {
            name: tool.name,
            description: tool.description,
            parameters: Some(schema),
            strict: tool.strict.unwrap_or_default(),
        })
    };
    tools.into_iter().enumerate().map(convert).collect()
}
