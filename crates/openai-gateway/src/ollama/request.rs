use diagnostics::Diagnostic;
use openapi_schema::{impl_schema, reference};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use worker_contract::{
    Constraint, InferInput, InferRequest, Message, Role, ToolCall, ToolDefinition,
};

use super::{
    endpoint::OllamaEndpoint,
    keep_alive::{OllamaDuration, keep_alive},
    options::{self, OllamaOptions},
    schemas::{OllamaFormat, OllamaThink, message},
    think,
    writer::OllamaWriter,
};
use crate::{
    errors::{must_be, only_assistant_calls, requires, unknown_role, unsupported},
    field_names::{self, FieldNames},
    fields::{integer, logprobs, read, text},
    images::{self, Base64Image},
    parsed_request::{ParsedRequest, RequestContext, ResponseFormat},
    schemas::UnsupportedString,
};

/// Fields of chat and generate.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaCommonFields {
    /// Model: a name that `/api/tags` lists, or its short form: `haiku`, `haiku:q8_0`.
    pub model: String,
    /// Whether to stream the response as newline-delimited JSON. Default: true.
    #[schema(default = true)]
    pub stream: Option<bool>,
    /// `json`, or a JSON schema that the output must match. Default: any text.
    #[schema(value_type = Option<OllamaFormat>)]
    pub format: Option<Value>,
    pub options: Option<OllamaOptions>,
    /// How long the model stays loaded after its last request; 0 unloads it then, or at once if
    /// the request has no input. Default: as set before, at first without limit.
    #[schema(value_type = Option<OllamaDuration>)]
    pub keep_alive: Option<Value>,
    /// Whether the model thinks before it answers, or how much: `low`, `medium` or `high`. A model
    /// that cannot think refuses all but false. Default: as its chat template decides.
    #[schema(value_type = Option<OllamaThink>)]
    pub think: Option<Value>,
    /// Of a conversation that exceeds the context, whether its oldest turns are dropped, except
    /// system messages and the last turn. Otherwise, it is refused. Default: true.
    #[schema(default = true)]
    pub truncate: Option<bool>,
    /// Whether to report the log probability of each output token. Default: false.
    #[schema(default = false)]
    pub logprobs: Option<bool>,
    /// Number of most likely tokens to report at each position, 0 to 20; above 0 requires
    /// `logprobs: true`. Default: 0.
    #[schema(minimum = 0, maximum = 20, default = 0)]
    #[serde(default, deserialize_with = "integer")]
    pub top_logprobs: Option<i64>,
}

/// Body of `POST /api/chat`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaChatRequest {
    #[serde(flatten)]
    pub common: OllamaCommonFields,
    #[serde(flatten)]
    pub chat: OllamaChatFields,
}

/// Fields of chat only.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaChatFields {
    /// Conversation, oldest message first. Absent or empty: the model is loaded, and nothing is
    /// generated. The output continues the last message if it is of the assistant and has no
    /// tool calls.
    pub messages: Option<Vec<OllamaChatMessage>>,
    /// Functions that the model may call.
    pub tools: Option<Vec<OllamaTool>>,
}

/// Message of a conversation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct OllamaChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Text of the message. Default: empty.
    #[serde(default, deserialize_with = "text")]
    pub content: Option<String>,
    /// Images in Base64; they require a worker with the capability `vision`.
    pub images: Option<Vec<Value>>,
    /// Thoughts of an `assistant` message, which only some chat templates pass to the model.
    pub thinking: Option<String>,
    /// Tool calls of an `assistant` message.
    pub tool_calls: Option<Vec<OllamaToolCall>>,
    /// Of a `tool` message, the name of the function.
    pub tool_name: Option<String>,
    /// Of a `tool` message, the id of the call that produced the result.
    pub tool_call_id: Option<String>,
}

impl_schema! {
    OllamaChatMessage, uses [OllamaToolCall],
    "Message of a conversation.",
    message(reference::<OllamaToolCall>())
}

/// Tool call of an earlier `assistant` message.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaToolCall {
    /// Id of the call, to which `tool_call_id` of the result refers. Default: generated.
    pub id: Option<String>,
    pub function: OllamaFunctionCall,
}

/// Function and arguments of an earlier tool call.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaFunctionCall {
    pub name: String,
    /// Arguments by name. Default: none.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub arguments: Map<String, Value>,
}

/// Tool that the model may call.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaTool {
    pub function: ToolDefinition,
}

/// Body of `POST /api/generate`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaGenerateRequest {
    #[serde(flatten)]
    pub common: OllamaCommonFields,
    #[serde(flatten)]
    pub generate: OllamaGenerateFields,
}

/// Fields of generate only.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaGenerateFields {
    /// Text of the user's message. Absent or empty: the model is loaded, and nothing is
    /// generated.
    pub prompt: Option<String>,
    /// Text of a system message before it; ignored if `raw` is true.
    pub system: Option<String>,
    /// Whether the model reads `prompt` without the chat template. Default: false.
    #[schema(default = false)]
    pub raw: Option<bool>,
    /// Not supported.
    #[schema(value_type = Option<UnsupportedString>)]
    pub suffix: Option<String>,
    /// Not supported.
    #[schema(value_type = Option<UnsupportedString>)]
    pub template: Option<String>,
    /// `context` of an earlier response, after which the conversation continues.
    pub context: Option<Vec<u32>>,
    /// Images in Base64; they require a worker with the capability `vision`.
    #[schema(value_type = Option<Vec<Base64Image>>)]
    pub images: Option<Vec<Value>>,
}

/// Parses the JSON body of `endpoint`.
///
/// A request without input only loads the model: a worker generates one token, and the response
/// contains no text.
pub fn parse(
    endpoint: OllamaEndpoint,
    body: &Value,
    context: &RequestContext,
) -> Result<ParsedRequest, Diagnostic> {
    let common: OllamaCommonFields = read(body)?;
    let mut preceding_tokens = Vec::new();
    let (input, tools) = match endpoint {
        OllamaEndpoint::Chat => chat(read(body)?)?,
        OllamaEndpoint::Generate => {
            let mut fields: OllamaGenerateFields = read(body)?;
            preceding_tokens = fields.context.take().unwrap_or_default();
            (generate(fields)?, Vec::new())
        }
    };
    let reasoning = think::options(common.think.as_ref())?;
    keep_alive(body)?;
    let options = common.options.unwrap_or_default();
    let mut request = InferRequest {
        max_tokens: options.max_tokens(),
        end_with_context: true,
        sampling: options.sampling()?,
        sampling_defaults: options::defaults(),
        expected_context: options.expected_context(),
        drop_oldest_messages: endpoint == OllamaEndpoint::Chat && common.truncate.unwrap_or(true),
        // As in Ollama, a raw prompt has no context to continue from.
        report_prompt: endpoint == OllamaEndpoint::Generate
            && matches!(input, Some(InferInput::Messages(_))),
        preceding_tokens,
        stop: options.stop()?,
        constraint: constraint(common.format.as_ref())?,
        continue_final_message: input.as_ref().is_some_and(continues),
        // Unlike OpenAI, Ollama allows 0 alternatives without log probabilities.
        logprobs: logprobs(common.logprobs, common.top_logprobs.filter(|n| *n != 0))?,
        tools,
        reasoning,
        ..InferRequest::new(
            context.request_id.clone(),
            InferInput::Prompt(" ".to_owned()),
        )
    };
    let only_load = input.is_none();
    match input {
        Some(input) => request.input = input,
        None => {
            request = InferRequest {
                max_tokens: Some(1),
                ..InferRequest::new(request.request_id, request.input)
            };
        }
    }
    let stream = common.stream.unwrap_or(true);
    let writer = OllamaWriter::new(endpoint, &common.model, context.received_at)
        .streamed(stream)
        .only_load(only_load)
        .with_context(request.report_prompt)
        .with_logprobs(request.logprobs.is_some());
    Ok(ParsedRequest {
        model: common.model,
        request,
        choices: 1,
        further_inputs: Vec::new(),
        priority: None,
        format: if stream {
            ResponseFormat::JsonLines
        } else {
            ResponseFormat::Document
        },
        field_names: FieldNames {
            input: match endpoint {
                OllamaEndpoint::Chat => "messages",
                OllamaEndpoint::Generate => "prompt",
            },
            constraint: "format",
            others: field_names::OLLAMA,
        },
        notes: options.notes(),
        writer: Box::new(writer),
    })
}

fn constraint(format: Option<&Value>) -> Result<Option<Constraint>, Diagnostic> {
    match format {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => Ok(Some(Constraint::JsonObject)),
        Some(schema @ Value::Object(_)) => Ok(Some(Constraint::JsonSchema(schema.clone()))),
        Some(_) => Err(must_be("format", "`json` or a JSON schema")),
    }
}

fn chat(fields: OllamaChatFields) -> Result<(Option<InferInput>, Vec<ToolDefinition>), Diagnostic> {
    let messages = fields.messages.unwrap_or_default();
    let tools = fields.tools.into_iter().flatten();
    let tools = tools.map(|tool| tool.function).collect();
    if messages.is_empty() {
        return Ok((None, tools));
    }
    let messages = messages
        .into_iter()
        .enumerate()
        .map(|(i, message)| convert(i, message))
        .collect::<Result<_, _>>()?;
    Ok((Some(InferInput::Messages(messages)), tools))
}

/// Whether the output continues the last message, as Ollama does if it is of the assistant.
fn continues(input: &InferInput) -> bool {
    let InferInput::Messages(messages) = input else {
        return false;
    };
    messages
        .last()
        .is_some_and(|last| last.role == Role::Assistant && last.tool_calls.is_empty())
}

fn convert(i: usize, message: OllamaChatMessage) -> Result<Message, Diagnostic> {
    let param = |field: &str| format!("messages[{i}].{field}");
    let images = images::of_base64s(&param("images"), &message.images.unwrap_or_default())?;
    let role = match message.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let roles = "`system`, `user`, `assistant` or `tool`";
            return Err(unknown_role(&param("role"), other, roles));
        }
    };
    let calls = message.tool_calls.unwrap_or_default();
    if role != Role::Assistant && !calls.is_empty() {
        return Err(only_assistant_calls(&param("tool_calls")));
    }
    let calls = calls.into_iter().enumerate().map(|(nth, call)| ToolCall {
        // Older clients of Ollama send no ids.
        id: call.id.unwrap_or_else(|| format!("call_{i}_{nth}")),
        name: call.function.name,
        arguments: Value::Object(call.function.arguments).to_string(),
    });
    Ok(Message {
        images,
        tool_calls: calls.collect(),
        tool_call_id: message.tool_call_id,
        name: message.tool_name,
        reasoning: message
            .thinking
            .filter(|text| role == Role::Assistant && !text.is_empty()),
        ..Message::new(role, message.content.unwrap_or_default())
    })
}

fn generate(fields: OllamaGenerateFields) -> Result<Option<InferInput>, Diagnostic> {
    for (name, value) in [("suffix", fields.suffix), ("template", fields.template)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return Err(unsupported(name, &Value::String(value)));
        }
    }
    let Some(prompt) = fields.prompt.filter(|prompt| !prompt.is_empty()) else {
        return Ok(None);
    };
    let images = images::of_base64s("images", &fields.images.unwrap_or_default())?;
    if fields.raw.unwrap_or(false) {
        if !images.is_empty() {
            return Err(requires("images", "raw: false"));
        }
        return Ok(Some(InferInput::Prompt(prompt)));
    }
    let system = fields.system.filter(|system| !system.is_empty());
    let messages = system
        .map(|system| Message::new(Role::System, system))
        .into_iter()
        .chain([Message {
            images,
            ..Message::new(Role::User, prompt)
        }]);
    Ok(Some(InferInput::Messages(messages.collect())))
}
