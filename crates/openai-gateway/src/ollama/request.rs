use diagnostics::{Diagnostic, excerpt};
use input_validation::RequestId;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{
    Constraint, InferInput, InferRequest, Message, Role, ToolCall, ToolDefinition,
};

use super::{OllamaEdge, OllamaOptions};
use crate::{
    Asked, ClientFields,
    fields::{invalid, read},
    unsupported::unsupported,
};

/// The fields of both endpoints.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaFields {
    /// As `/api/tags` lists it, or by its short name: `haiku`, `haiku:q8_0`.
    pub model: String,
    /// Lines (true, the default) or one document.
    pub stream: Option<bool>,
    /// `json`, or a JSON schema that the answer must match.
    pub format: Option<Value>,
    /// How tokens are chosen.
    pub options: Option<OllamaOptions>,
    /// Not used: the queen decides what is kept.
    pub keep_alive: Option<Value>,
    /// Only false.
    pub think: Option<Value>,
    /// Report the log probability of each token.
    pub logprobs: Option<bool>,
    /// And of this many alternatives, 0 to 20; only with `logprobs`.
    pub top_logprobs: Option<i64>,
}

/// Body of `POST /api/chat`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaChatRequest {
    /// The fields of both endpoints.
    #[serde(flatten)]
    pub common: OllamaFields,
    /// The fields of this one.
    #[serde(flatten)]
    pub chat: OllamaChatFields,
}

/// The fields of chat alone.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaChatFields {
    /// The conversation, oldest first; without any the model is only loaded.
    pub messages: Option<Vec<OllamaChatMessage>>,
    /// Functions that the model may ask to have called.
    pub tools: Option<Vec<OllamaTool>>,
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    pub content: Option<String>,
    /// Not supported.
    pub images: Option<Vec<Value>>,
    /// Of an assistant: the tools it called.
    pub tool_calls: Option<Vec<OllamaToolCall>>,
    /// Of a tool: its name.
    pub tool_name: Option<String>,
    /// Of a tool: the call that this is the result of.
    pub tool_call_id: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaToolCall {
    /// Names the call.
    pub id: Option<String>,
    /// What is called.
    pub function: OllamaCalledFunction,
}

/// What a call of a tool calls.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaCalledFunction {
    /// The function.
    pub name: String,
    /// Its arguments.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub arguments: serde_json::Map<String, Value>,
}

/// A function that the model may ask to have called.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaTool {
    /// The function.
    pub function: ToolDefinition,
}

/// Body of `POST /api/generate`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaGenerateRequest {
    /// The fields of both endpoints.
    #[serde(flatten)]
    pub common: OllamaFields,
    /// The fields of this one.
    #[serde(flatten)]
    pub generate: OllamaGenerateFields,
}

/// The fields of generate alone.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaGenerateFields {
    /// What is said; without it the model is only loaded.
    pub prompt: Option<String>,
    /// Instructions.
    pub system: Option<String>,
    /// The prompt as it is, without the chat template.
    pub raw: Option<bool>,
    /// Not supported.
    pub suffix: Option<String>,
    /// Not supported.
    pub template: Option<String>,
    /// Not supported.
    pub context: Option<Vec<Value>>,
    /// Not supported.
    pub images: Option<Vec<Value>>,
}

/// Body of `POST /api/show`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct OllamaShowRequest {
    /// As `/api/tags` lists it, or by its short name.
    pub model: Option<String>,
    /// The older word for it.
    pub name: Option<String>,
}

impl OllamaShowRequest {
    /// The model. Ollama's own client sends both words, one of them empty.
    pub fn model(&self) -> Result<&str, Diagnostic> {
        [&self.model, &self.name]
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty())
            .map(String::as_str)
            .ok_or_else(|| invalid("model", "is missing"))
    }
}

/// Reads the JSON body of an endpoint. The second value says that the model is only to be
/// loaded: then the request is the smallest there is, and its answer is thrown away.
pub fn parse(
    edge: OllamaEdge,
    body: &Value,
    request_id: RequestId,
) -> Result<(Asked, bool), Diagnostic> {
    let common: OllamaFields = read(body)?;
    let (input, tools) = match edge {
        OllamaEdge::Chat => chat(read(body)?)?,
        OllamaEdge::Generate => (generate(read(body)?)?, Vec::new()),
    };
    if !matches!(common.think, None | Some(Value::Null | Value::Bool(false))) {
        return Err(unsupported("think"));
    }
    let options = common.options.clone().unwrap_or_default();
    let mut request = InferRequest {
        max_tokens: options.max_tokens(),
        end_with_context: true,
        sampling: options.sampling()?,
        stop: options.stop()?,
        constraint: constraint(common.format.as_ref())?,
        logprobs: logprobs(&common)?,
        tools,
        ..InferRequest::new(request_id, InferInput::Prompt(" ".to_owned()))
    };
    let only_load = input.is_none();
    match input {
        Some(input) => request.input = input,
        None if unloads(common.keep_alive.as_ref()) => {
            return Err(unsupported("keep_alive")
                .hint("`rbee-keeper worker stop` frees the memory of a model"));
        }
        None => {
            request = InferRequest {
                max_tokens: Some(1),
                ..InferRequest::new(request.request_id, request.input)
            };
        }
    }
    let asked = Asked {
        model: common.model,
        stream: common.stream.unwrap_or(true),
        request,
        fields: ClientFields {
            input: match edge {
                OllamaEdge::Chat => "messages",
                OllamaEdge::Generate => "prompt",
            },
            constraint: "format",
        },
    };
    Ok((asked, only_load))
}

/// A time of 0, as a number or with a unit, asks that the model is unloaded at once.
fn unloads(keep_alive: Option<&Value>) -> bool {
    match keep_alive {
        Some(Value::Number(seconds)) => seconds.as_f64() == Some(0.0),
        Some(Value::String(text)) => {
            text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) == "0"
        }
        _ => false,
    }
}

fn constraint(format: Option<&Value>) -> Result<Option<Constraint>, Diagnostic> {
    match format {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => Ok(Some(Constraint::JsonObject)),
        Some(schema @ Value::Object(_)) => Ok(Some(Constraint::JsonSchema(schema.clone()))),
        Some(_) => Err(invalid("format", "must be `json` or a JSON schema")),
    }
}

fn logprobs(common: &OllamaFields) -> Result<Option<u8>, Diagnostic> {
    let wanted = common.logprobs.unwrap_or(false);
    match common.top_logprobs {
        None | Some(0) => Ok(wanted.then_some(0)),
        Some(_) if !wanted => Err(invalid("top_logprobs", "only goes with `logprobs: true`")),
        Some(n @ 1..=20) => Ok(Some(n as u8)),
        Some(n) => Err(invalid(
            "top_logprobs",
            &format!("must be 0 to 20, not {n}"),
        )),
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
        .map(|(nth, message)| convert(nth, message))
        .collect::<Result<_, _>>()?;
    Ok((Some(InferInput::Messages(messages)), tools))
}

fn convert(nth: usize, message: OllamaChatMessage) -> Result<Message, Diagnostic> {
    if message.images.is_some_and(|images| !images.is_empty()) {
        return Err(unsupported(&format!("messages[{nth}].images")));
    }
    let role = match message.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            return Err(invalid(
                &format!("messages[{nth}].role"),
                &format!("is \"{}\", which is no role", excerpt(other, 40)),
            )
            .hint("a role is `system`, `user`, `assistant` or `tool`"));
        }
    };
    let calls = message.tool_calls.unwrap_or_default();
    if role != Role::Assistant && !calls.is_empty() {
        return Err(invalid(
            &format!("messages[{nth}].tool_calls"),
            "only an assistant has",
        ));
    }
    let calls = calls.into_iter().enumerate().map(|(i, call)| ToolCall {
        // Ollama's older clients name no calls.
        id: call.id.unwrap_or_else(|| format!("call_{nth}_{i}")),
        name: call.function.name,
        arguments: Value::Object(call.function.arguments).to_string(),
    });
    Ok(Message {
        tool_calls: calls.collect(),
        tool_call_id: message.tool_call_id,
        name: message.tool_name,
        ..Message::new(role, message.content.unwrap_or_default())
    })
}

fn generate(fields: OllamaGenerateFields) -> Result<Option<InferInput>, Diagnostic> {
    for (name, asked) in [
        ("suffix", fields.suffix.is_some_and(|s| !s.is_empty())),
        ("template", fields.template.is_some_and(|t| !t.is_empty())),
        ("context", fields.context.is_some_and(|c| !c.is_empty())),
        ("images", fields.images.is_some_and(|i| !i.is_empty())),
    ] {
        if asked {
            return Err(unsupported(name));
        }
    }
    let Some(prompt) = fields.prompt.filter(|prompt| !prompt.is_empty()) else {
        return Ok(None);
    };
    if fields.raw.unwrap_or(false) {
        return Ok(Some(InferInput::Prompt(prompt)));
    }
    let system = fields.system.filter(|system| !system.is_empty());
    let messages = system
        .map(|system| Message::new(Role::System, system))
        .into_iter()
        .chain([Message::new(Role::User, prompt)]);
    Ok(Some(InferInput::Messages(messages.collect())))
}
