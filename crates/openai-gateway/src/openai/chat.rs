use diagnostics::Diagnostic;
use openapi_schema::{impl_schema, reference};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use worker_contract::{InferInput, InferRequest, Message, Role, ToolCall};

use super::{
    common::{OpenAiCommonFields, ResponseParts},
    constraint,
    endpoint::OpenAiEndpoint,
    reasoning::{self, ReasoningFields},
    schemas::{Modalities, OpenAiToolChoice, UnsupportedFunctionCall, message},
    tools::{self, ChatTool, ChatToolCall},
    unsupported::refuse_unsupported,
};
use crate::{
    errors::{
        cannot_be_combined, empty, have_different_values, missing, must_be, must_be_a,
        must_be_string, not_a_text_part, only_assistant_calls, only_in_last_message, unknown_role,
        unsupported,
    },
    field_names::{self, FieldNames},
    fields::{integer, logprobs, max_tokens, no_limit_note, read},
    images,
    parsed_request::{ParsedRequest, RequestContext},
    schemas::{Unsupported, UnsupportedArray},
};

/// Body of `POST /v1/chat/completions`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatRequest {
    #[serde(flatten)]
    pub common: OpenAiCommonFields,
    #[serde(flatten)]
    pub chat: ChatFields,
    #[serde(flatten)]
    pub reasoning: ReasoningFields,
}

/// Fields of chat completions only.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatFields {
    /// Conversation, oldest message first; at least one message.
    #[schema(min_items = 1)]
    pub messages: Vec<ChatMessage>,
    /// Same as `max_tokens`.
    #[schema(minimum = -1)]
    #[serde(default, deserialize_with = "integer")]
    pub max_completion_tokens: Option<i64>,
    /// Whether to report the log probability of each output token. Default: false.
    #[schema(default = false)]
    pub logprobs: Option<bool>,
    /// Number of most likely tokens to report at each position, 0 to 20; requires
    /// `logprobs: true`. Default: 0.
    #[schema(minimum = 0, maximum = 20, default = 0)]
    #[serde(default, deserialize_with = "integer")]
    pub top_logprobs: Option<i64>,
    /// Functions that the model may call, up to 128. Their names must differ.
    #[schema(max_items = 128)]
    pub tools: Option<Vec<ChatTool>>,
    /// `auto` (the default), `none`, `required` (the output is one call of any of the
    /// functions) or `{"type": "function", "function": {"name": …}}` (the output is one call of
    /// this function).
    #[schema(value_type = Option<OpenAiToolChoice>)]
    pub tool_choice: Option<Value>,
    /// Whether the output may contain several tool calls. Default: true.
    #[schema(default = true)]
    pub parallel_tool_calls: Option<bool>,
    /// Extension: whether the output continues the last message, which is of the assistant. It
    /// does not repeat the text. Default: false.
    #[schema(default = false)]
    pub continue_final_message: Option<bool>,
    /// Extension: false is only supported with `continue_final_message`, and true only without.
    pub add_generation_prompt: Option<bool>,
    /// Not supported: null or an empty array.
    #[schema(value_type = Option<UnsupportedArray>)]
    pub functions: Option<Value>,
    /// Not supported: null, `none` or `auto`.
    #[schema(value_type = Option<UnsupportedFunctionCall>)]
    pub function_call: Option<Value>,
    /// Only text is supported.
    #[schema(value_type = Option<Modalities>)]
    pub modalities: Option<Value>,
    /// Not supported.
    #[schema(value_type = Unsupported, required = false)]
    pub audio: Option<Value>,
    /// Not supported.
    #[schema(value_type = Unsupported, required = false)]
    pub web_search_options: Option<Value>,
}

/// Message of a conversation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ChatMessage {
    /// `system`, `developer` (same as `system`), `user`, `assistant` or `tool`.
    pub role: String,
    /// String, or array of parts of type `text`, of an `assistant` message also of type
    /// `refusal`, of other messages also `image_url`. May be null or absent in an `assistant`
    /// message.
    pub content: Option<Value>,
    /// Text of an `assistant` message in which a model refused to answer; used if there is no
    /// `content`.
    pub refusal: Option<String>,
    /// Of a `tool` message, the name of the function. Of other messages, the name of the
    /// speaker, which only some chat templates pass to the model.
    pub name: Option<String>,
    /// Tool calls of an `assistant` message.
    pub tool_calls: Option<Vec<ChatToolCall>>,
    /// Of a `tool` message, the id of the call that produced the result.
    pub tool_call_id: Option<String>,
    /// Extension: true in the last message, of the assistant, is the same as
    /// `continue_final_message`.
    pub prefix: Option<bool>,
    /// Reasoning of an `assistant` message, which only some chat templates pass to the model.
    pub reasoning_content: Option<Value>,
    /// Same as `reasoning_content`.
    pub reasoning: Option<Value>,
    /// Not supported.
    pub function_call: Option<Value>,
    /// Not supported.
    pub audio: Option<Value>,
}

impl_schema! {
    ChatMessage, uses [ChatToolCall],
    "Message of a conversation.",
    message(&reference::<ChatToolCall>())
}

pub(super) fn parse(body: &Value, context: &RequestContext) -> Result<ParsedRequest, Diagnostic> {
    let common: OpenAiCommonFields = read(body)?;
    let chat: ChatFields = read(body)?;
    refuse_unsupported(OpenAiEndpoint::ChatCompletions, body)?;
    if chat.messages.is_empty() {
        return Err(empty("messages"));
    }
    let mut messages: Vec<Message> = Vec::with_capacity(chat.messages.len());
    for (i, message) in chat.messages.iter().enumerate() {
        let message = convert(i, message, &messages)?;
        messages.push(message);
    }
    let continue_final_message = continues(&chat)?;
    let tools = tools::definitions(chat.tools.as_deref().unwrap_or_default())?;
    let tool_choice = tools::choice(chat.tool_choice.as_ref(), &tools)?;
    let constrained = constraint::parse(body)?;
    if let (Some(old), Some(new)) = (common.max_tokens, chat.max_completion_tokens)
        && old != new
    {
        return Err(have_different_values("max_tokens", "max_completion_tokens"));
    }
    let max_tokens = match (common.max_tokens, chat.max_completion_tokens) {
        (_, Some(n)) => max_tokens("max_completion_tokens", n)?,
        (Some(n), None) => max_tokens("max_tokens", n)?,
        (None, None) => None,
    };
    let limits = [
        ("max_completion_tokens", chat.max_completion_tokens),
        ("max_tokens", common.max_tokens),
    ];
    let note = limits
        .into_iter()
        .find_map(|(param, value)| no_limit_note(param, value));
    let include_usage = common.include_usage()?;
    let reasoning = reasoning::parse(body)?;
    let request = InferRequest {
        max_tokens,
        end_with_context: true,
        continue_final_message,
        sampling: common.sampling()?,
        constraint: constrained.constraint,
        stop: common.stop()?,
        logprobs: logprobs(chat.logprobs, chat.top_logprobs)?,
        tool_choice,
        tools,
        parallel_tool_calls: chat.parallel_tool_calls.unwrap_or(true),
        reasoning: reasoning.options,
        template_variables: reasoning.template_variables,
        ..InferRequest::new(context.request_id.clone(), InferInput::Messages(messages))
    };
    let field_names = FieldNames {
        input: "messages",
        constraint: constrained.field,
        others: field_names::OPENAI,
    };
    let parsed = common.into_parsed(
        OpenAiEndpoint::ChatCompletions,
        request,
        field_names,
        ResponseParts {
            include_usage,
            reasoning: reasoning.is_shown,
        },
        context,
    )?;
    Ok(ParsedRequest {
        notes: note.into_iter().collect(),
        ..parsed
    })
}

/// Whether the output continues the last message: vLLM's fields, or that of DeepSeek and Mistral.
fn continues(chat: &ChatFields) -> Result<bool, Diagnostic> {
    const PROMPT: &str = "add_generation_prompt";
    const CONTINUE: &str = "continue_final_message";
    let is_prefix = |message: &ChatMessage| message.prefix == Some(true);
    let (last, before) = match chat.messages.split_last() {
        Some((last, before)) => (is_prefix(last), before),
        None => (false, &[][..]),
    };
    if let Some(i) = before.iter().position(is_prefix) {
        return Err(only_in_last_message(&format!("messages[{i}].prefix")));
    }
    let continues = last || chat.continue_final_message == Some(true);
    match chat.add_generation_prompt {
        Some(true) if continues => Err(cannot_be_combined(PROMPT, CONTINUE)),
        Some(false) if !continues => Err(unsupported(PROMPT, &json!(false))),
        _ => Ok(continues),
    }
}

/// Converts message `i`. `before` are the messages before it, which contain the call that a
/// tool's result belongs to.
fn convert(i: usize, message: &ChatMessage, before: &[Message]) -> Result<Message, Diagnostic> {
    let param = |field: &str| format!("messages[{i}].{field}");
    for (field, value) in [
        ("function_call", &message.function_call),
        ("audio", &message.audio),
    ] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_null()) {
            return Err(unsupported(&param(field), value));
        }
    }
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => return Err(unsupported(&param("role"), &json!("function"))),
        other => {
            let roles = "`system`, `developer`, `user`, `assistant` or `tool`";
            return Err(unknown_role(&param("role"), other, roles));
        }
    };
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    if role != Role::Assistant && !calls.is_empty() {
        return Err(only_assistant_calls(&param("tool_calls")));
    }
    let content = match &message.content {
        None | Some(Value::Null) if role == Role::Assistant => {
            message.refusal.clone().unwrap_or_default()
        }
        value => content(&param("content"), value.as_ref())?,
    };
    let mut converted = Message::new(role, content);
    converted.images = images::of_image_urls(&param("content"), message.content.as_ref())?;
    converted.tool_calls = tools::calls(&param("tool_calls"), calls)?;
    converted.name.clone_from(&message.name);
    let reasoning = [&message.reasoning_content, &message.reasoning];
    converted.reasoning = reasoning
        .into_iter()
        .find_map(|value| value.as_ref()?.as_str())
        .filter(|text| role == Role::Assistant && !text.is_empty())
        .map(str::to_owned);
    if role == Role::Tool {
        let Some(id) = &message.tool_call_id else {
            return Err(missing(&param("tool_call_id")));
        };
        converted.tool_call_id = Some(id.clone());
        if converted.name.is_none() {
            converted.name = find_call(before, id).map(|call| call.name.clone());
        }
    }
    Ok(converted)
}

/// Returns the latest call with this id.
fn find_call<'a>(messages: &'a [Message], id: &str) -> Option<&'a ToolCall> {
    let calls = messages
        .iter()
        .rev()
        .flat_map(|message| &message.tool_calls);
    calls.into_iter().find(|call| call.id == id)
}

fn content(param: &str, content: Option<&Value>) -> Result<String, Diagnostic> {
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .map(|(i, part)| text_part(&format!("{param}[{i}]"), part))
            .collect(),
        None => Err(missing(param)),
        Some(_) => Err(must_be_a(param, "a string or an array of parts")),
    }
}

fn text_part<'a>(param: &str, part: &'a Value) -> Result<&'a str, Diagnostic> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") => part
            .get("text")
            .and_then(Value::as_str)
            .ok_or_else(|| must_be_string(&format!("{param}.text"))),
        // What a model answered in place of text.
        Some("refusal") => part
            .get("refusal")
            .and_then(Value::as_str)
            .ok_or_else(|| must_be_string(&format!("{param}.refusal"))),
        // Images are read on their own.
        Some("image_url") => Ok(""),
        Some(kind) => Err(not_a_text_part(param, kind)),
        None => Err(must_be(&format!("{param}.type"), "`text`")),
    }
}
