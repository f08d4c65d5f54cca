use diagnostics::Diagnostic;
use input_validation::RequestId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use worker_contract::{
    Constraint, InferRequest, Sampling, TokenizeRequest, ToolChoice, ToolDefinition,
};

use super::messages::{AnthropicContent, AnthropicInputMessage, conversation, kind};
use crate::{
    Asked, ClientFields,
    fields::{invalid, limit, number, read, stops},
    unsupported::unsupported,
};

/// Body of `POST /v1/messages`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicRequest {
    /// A model that `/v1/models` lists.
    pub model: String,
    /// The conversation, oldest first; the last is the user's.
    pub messages: Vec<AnthropicInputMessage>,
    /// Instructions: a text, or blocks of type `text`.
    pub system: Option<AnthropicContent>,
    /// Most tokens to generate; required, at least 1. May be more than the context leaves:
    /// then the answer ends where the context does.
    pub max_tokens: Option<i64>,
    /// Texts that end the answer and are not part of it.
    pub stop_sequences: Option<Value>,
    /// Events (true) or one document.
    pub stream: Option<bool>,
    /// 0 to 1; 0 is greedy; absent, 1.
    pub temperature: Option<f64>,
    /// The k likeliest tokens; absent, all.
    pub top_k: Option<u32>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Functions that the model may ask to have called.
    pub tools: Option<Vec<AnthropicTool>>,
    /// Whether it does.
    pub tool_choice: Option<AnthropicToolChoice>,
    /// What the answer must look like.
    pub output_config: Option<AnthropicOutputConfig>,
    /// Advice to models that think; not used.
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    pub thinking: Option<Map<String, Value>>,
    /// Only edits that clear what the context has no room for; nothing is cleared.
    pub context_management: Option<Value>,
}

/// A function that the model may ask to have called.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicTool {
    /// Only `custom`, the default.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments.
    pub input_schema: Option<Value>,
    /// Whether arguments keep to `input_schema` exactly. They do, asked or not, where a call must
    /// come and beside a form of the answer; elsewhere as well as the model can.
    pub strict: Option<bool>,
}

/// Whether tools are called.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicToolChoice {
    /// `auto`, `any` (the answer is one call of any of them), `tool` (it is one call of this
    /// one) or `none`.
    #[serde(rename = "type")]
    pub kind: String,
    /// With `tool`: which.
    pub name: Option<String>,
    /// Whether one answer may call only once.
    pub disable_parallel_tool_use: Option<bool>,
}

/// What the answer must look like.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicOutputConfig {
    /// A JSON schema that it must match.
    pub format: Option<AnthropicFormat>,
    /// Advice to models that think; not used.
    pub effort: Option<Value>,
}

/// A form of the answer.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicFormat {
    /// Only `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The schema.
    pub schema: Value,
}

/// Refuses what Anthropic has and rbee does not, unless it asks for nothing.
fn refuse(body: &Value) -> Result<(), Diagnostic> {
    for name in ["container", "context_management", "mcp_servers"] {
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(value) if name == "mcp_servers" && *value == json!([]) => {}
            Some(value) if name == "context_management" && only_clears(value) => {}
            Some(_) => return Err(unsupported(name)),
        }
    }
    Ok(())
}

/// Whether what is cleared may as well stay: an answer that read more of the conversation is
/// no worse. A summary that the client asks for is not there to be left out.
fn only_clears(management: &Value) -> bool {
    let clears = |edit| kind(edit).is_some_and(|kind| kind.starts_with("clear_"));
    match management.get("edits") {
        None => management.is_object(),
        Some(edits) => edits
            .as_array()
            .is_some_and(|edits| edits.iter().all(clears)),
    }
}

/// Reads the JSON body of `POST /v1/messages`.
pub fn parse(body: &Value, request_id: RequestId) -> Result<Asked, Diagnostic> {
    let fields = read_fields(body)?;
    let Some(max_tokens) = limit("max_tokens", fields.max_tokens)? else {
        return Err(invalid("max_tokens", "is missing"));
    };
    let default = Sampling::default();
    let sampling = Sampling {
        temperature: number("temperature", fields.temperature, 0.0, 1.0)?
            .unwrap_or(default.temperature),
        top_k: fields.top_k.unwrap_or(default.top_k),
        top_p: number("top_p", fields.top_p, 0.0, 1.0)?.unwrap_or(default.top_p),
        ..default
    };
    let constraint = constraint(fields.output_config)?;
    let once = |choice: &AnthropicToolChoice| choice.disable_parallel_tool_use == Some(true);
    let request = InferRequest {
        parallel_tool_calls: !fields.tool_choice.as_ref().is_some_and(once),
        tools: tools(fields.tools.unwrap_or_default())?,
        max_tokens: Some(max_tokens),
        // Its clients must send one, and send what their largest model can do.
        end_with_context: true,
        sampling,
        stop: stops("stop_sequences", fields.stop_sequences.as_ref())?,
        constraint,
        tool_choice: tool_choice(fields.tool_choice)?,
        ..InferRequest::new(request_id, conversation(fields.system, fields.messages)?)
    };
    Ok(Asked {
        model: fields.model,
        stream: fields.stream.unwrap_or(false),
        request,
        fields: ClientFields {
            input: "messages",
            constraint: "output_config.format",
        },
    })
}

/// Reads the JSON body of `POST /v1/messages/count_tokens`: the model, and what is counted.
pub fn parse_count(body: &Value) -> Result<(String, TokenizeRequest), Diagnostic> {
    let fields = read_fields(body)?;
    let request = TokenizeRequest {
        input: conversation(fields.system, fields.messages)?,
        tools: tools(fields.tools.unwrap_or_default())?,
    };
    Ok((fields.model, request))
}

fn read_fields(body: &Value) -> Result<AnthropicRequest, Diagnostic> {
    let fields = read(body)?;
    refuse(body)?;
    Ok(fields)
}

fn constraint(config: Option<AnthropicOutputConfig>) -> Result<Option<Constraint>, Diagnostic> {
    let Some(config) = config else {
        return Ok(None);
    };
    match config.format {
        None => Ok(None),
        Some(format) if format.kind == "json_schema" => {
            Ok(Some(Constraint::JsonSchema(format.schema)))
        }
        Some(_) => Err(unsupported("output_config.format.type")),
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
        ("tool", None) => Err(invalid("tool_choice.name", "is missing")),
        _ => Err(invalid(
            "tool_choice.type",
            "must be `auto`, `any`, `tool` or `none`",
        )),
    }
}

fn tools(tools: Vec<AnthropicTool>) -> Result<Vec<ToolDefinition>, Diagnostic> {
    let convert = |(nth, tool): (usize, AnthropicTool)| {
        if tool.kind.is_some_and(|kind| kind != "custom") {
            return Err(unsupported(&format!("tools[{nth}].type"))
                .hint("rbee runs no tools itself; define them as `custom` ones"));
        }
        Ok(ToolDefinition {
            name: tool.name,
            description: tool.description,
            parameters: tool.input_schema,
        })
    };
    tools.into_iter().enumerate().map(convert).collect()
}
