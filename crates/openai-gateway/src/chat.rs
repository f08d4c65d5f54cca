use diagnostics::{Code, Diagnostic, excerpt};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{InferInput, Message, Role, ToolCall};

use crate::{
    Call, ClientFields, Edge, constraint,
    fields::{CommonFields, invalid, limit, read},
    tools::{self, ChatTool, ChatToolCall},
    unsupported::{refuse, unsupported},
};

/// Body of `POST /v1/chat/completions`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatRequest {
    /// The fields of both endpoints.
    #[serde(flatten)]
    pub common: CommonFields,
    /// The fields of this one.
    #[serde(flatten)]
    pub chat: ChatFields,
}

/// The fields of chat alone.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatFields {
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// As `max_tokens`.
    pub max_completion_tokens: Option<i64>,
    /// Report the log probability of each token.
    pub logprobs: Option<bool>,
    /// And of this many alternatives, 0 to 20; only with `logprobs`.
    pub top_logprobs: Option<i64>,
    /// Functions that the model may ask to have called, up to 128.
    pub tools: Option<Vec<ChatTool>>,
    /// `none`, `auto`, `required` (the answer is one call of any of them) or
    /// `{"type": "function", "function": {"name": …}}` (it is one call of this one).
    pub tool_choice: Option<Value>,
    /// Whether one answer may call several times; absent, it may.
    pub parallel_tool_calls: Option<bool>,
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// A text, or parts of type `text`; of an assistant that called tools, also null.
    pub content: Option<Value>,
    /// Of a tool, its name; of others, who speaks: models whose template has no place for it
    /// are not told.
    pub name: Option<String>,
    /// Of an assistant, the tools it called.
    pub tool_calls: Option<Vec<ChatToolCall>>,
    /// Of a tool, the call that this is the result of.
    pub tool_call_id: Option<String>,
    /// Not supported.
    pub function_call: Option<Value>,
    /// Not supported.
    pub audio: Option<Value>,
}

pub(crate) fn parse(body: &Value) -> Result<Call, Diagnostic> {
    let common: CommonFields = read(body)?;
    let chat: ChatFields = read(body)?;
    refuse(Edge::Chat, body)?;
    if chat.messages.is_empty() {
        return Err(invalid("messages", "must not be empty"));
    }
    let mut messages: Vec<Message> = Vec::with_capacity(chat.messages.len());
    for (nth, message) in chat.messages.iter().enumerate() {
        let message = convert(nth, message, &messages)?;
        messages.push(message);
    }
    let tools = tools::definitions(chat.tools.as_deref().unwrap_or_default())?;
    let tool_choice = tools::choice(chat.tool_choice.as_ref(), &tools)?;
    let asked = constraint::parse(body)?;
    let max_tokens = limit("max_tokens", common.max_tokens)?;
    let max_completion_tokens = limit("max_completion_tokens", chat.max_completion_tokens)?;
    if let (Some(old), Some(new)) = (max_tokens, max_completion_tokens)
        && old != new
    {
        return Err(invalid(
            "max_tokens",
            "and `max_completion_tokens` say different things; send one",
        ));
    }
    Ok(Call {
        edge: Edge::Chat,
        stream: common.stream(),
        include_usage: common.include_usage()?,
        input: InferInput::Messages(messages),
        max_tokens: max_completion_tokens.or(max_tokens),
        sampling: common.sampling()?,
        constraint: asked.constraint,
        fields: ClientFields {
            input: "messages",
            constraint: asked.field,
        },
        stop: common.stop()?,
        logprobs: logprobs(&chat)?,
        tool_choice,
        tools,
        parallel_tool_calls: chat.parallel_tool_calls.unwrap_or(true),
        choices: common.choices()?,
        model: common.model,
    })
}

fn logprobs(chat: &ChatFields) -> Result<Option<u8>, Diagnostic> {
    let wanted = chat.logprobs.unwrap_or(false);
    match chat.top_logprobs {
        None => Ok(wanted.then_some(0)),
        Some(_) if !wanted => Err(invalid("top_logprobs", "only goes with `logprobs: true`")),
        Some(n @ 0..=20) => Ok(Some(n as u8)),
        Some(n) => Err(invalid(
            "top_logprobs",
            &format!("must be 0 to 20, not {n}"),
        )),
    }
}

/// A message; those `before` it tell which tool a result is of.
fn convert(nth: usize, message: &ChatMessage, before: &[Message]) -> Result<Message, Diagnostic> {
    let param = |field: &str| format!("messages[{nth}].{field}");
    for (field, value) in [
        ("function_call", &message.function_call),
        ("audio", &message.audio),
    ] {
        if value.as_ref().is_some_and(|value| !value.is_null()) {
            return Err(unsupported(&param(field)));
        }
    }
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => return Err(unsupported(&param("role"))),
        other => {
            return Err(invalid(
                &param("role"),
                &format!("is \"{}\", which is no role", excerpt(other, 40)),
            )
            .hint("a role is `system`, `developer`, `user`, `assistant` or `tool`"));
        }
    };
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    if role != Role::Assistant && !calls.is_empty() {
        return Err(invalid(&param("tool_calls"), "is only for the assistant"));
    }
    let content = match &message.content {
        None | Some(Value::Null) if !calls.is_empty() => String::new(),
        given => content(nth, given.as_ref())?,
    };
    let mut converted = Message::new(role, content);
    converted.tool_calls = tools::calls(&param("tool_calls"), calls)?;
    converted.name.clone_from(&message.name);
    if role == Role::Tool {
        let Some(id) = &message.tool_call_id else {
            return Err(invalid(&param("tool_call_id"), "is missing"));
        };
        converted.tool_call_id = Some(id.clone());
        if converted.name.is_none() {
            converted.name = called(before, id).map(|call| call.name.clone());
        }
    }
    Ok(converted)
}

/// The call that a result names.
fn called<'a>(before: &'a [Message], id: &str) -> Option<&'a ToolCall> {
    let calls = before.iter().rev().flat_map(|message| &message.tool_calls);
    calls.into_iter().find(|call| call.id == id)
}

fn content(nth: usize, content: Option<&Value>) -> Result<String, Diagnostic> {
    let param = format!("messages[{nth}].content");
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .map(|(i, part)| text_part(&format!("{param}[{i}]"), part))
            .collect(),
        _ => Err(invalid(&param, "must be a text or a list of parts")),
    }
}

fn text_part<'a>(param: &str, part: &'a Value) -> Result<&'a str, Diagnostic> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") => part
            .get("text")
            .and_then(Value::as_str)
            .ok_or_else(|| invalid(&format!("{param}.text"), "must be a text")),
        Some(kind) => Err(Diagnostic::new(
            Code::UnsupportedParameter,
            format!(
                "`{param}` is of type \"{}\"; only text is supported",
                excerpt(kind, 40)
            ),
        )
        .param(param)),
        None => Err(invalid(&format!("{param}.type"), "must be `text`")),
    }
}
