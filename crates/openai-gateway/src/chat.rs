use diagnostics::{Code, Diagnostic, excerpt};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{InferInput, Message, Role};

use crate::{
    Call, Edge,
    fields::{CommonFields, invalid, limit, read},
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
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// `system`, `developer`, `user` or `assistant`.
    pub role: String,
    /// A text, or parts of type `text`.
    pub content: Option<Value>,
    /// Not supported.
    pub name: Option<Value>,
    /// Not supported.
    pub tool_calls: Option<Value>,
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
    let messages = chat
        .messages
        .iter()
        .enumerate()
        .map(|(nth, message)| convert(nth, message))
        .collect::<Result<_, _>>()?;
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
        stop: common.stop()?,
        logprobs: logprobs(&chat)?,
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

fn convert(nth: usize, message: &ChatMessage) -> Result<Message, Diagnostic> {
    for (name, value) in [
        ("name", &message.name),
        ("tool_calls", &message.tool_calls),
        ("function_call", &message.function_call),
        ("audio", &message.audio),
    ] {
        let asks = match value {
            None | Some(Value::Null) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        if asks {
            return Err(unsupported(&format!("messages[{nth}].{name}")));
        }
    }
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => return Err(unsupported(&format!("messages[{nth}].role"))),
        other => {
            return Err(invalid(
                &format!("messages[{nth}].role"),
                &format!("is \"{}\", which is no role", excerpt(other, 40)),
            )
            .hint("a role is `system`, `developer`, `user` or `assistant`"));
        }
    };
    Ok(Message::new(role, content(nth, message.content.as_ref())?))
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
