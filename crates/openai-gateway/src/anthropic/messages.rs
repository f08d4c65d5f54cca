use std::collections::HashMap;

use diagnostics::Diagnostic;
use openapi_schema::impl_schema;
use serde::Deserialize;
use serde_json::Value;
use worker_contract::{InferInput, Message, Role, ToolCall};

use super::schemas::message;
use crate::{
    errors::{
        empty, missing, must_be, must_be_object, must_be_string, trailing_whitespace, unknown_role,
        unsupported_block,
    },
    images,
};

/// Separator of text blocks.
const SEPARATOR: &str = "\n";

/// Message of a conversation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AnthropicInputMessage {
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// May be null or absent in an `assistant` message.
    pub content: Option<AnthropicContent>,
}

impl_schema! {
    AnthropicInputMessage, uses [],
    "Message of a conversation. Thoughts of the assistant reach models whose chat template passes \
     them on; redacted ones are ignored.",
    message()
}

/// String or blocks. Blocks are of type `text`; in an `assistant` message also `tool_use`,
/// `thinking` and `redacted_thinking`, the latter ignored; in a `user` message also
/// `tool_result` and `image`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum AnthropicContent {
    Text(String),
    Blocks(Vec<Value>),
}

/// Converts a conversation, and returns whether the output continues its last message, which is
/// then of the assistant. Consecutive messages of one role become one message, as in
/// Anthropic's API: chat templates expect alternating roles.
pub(super) fn conversation(
    system: Option<AnthropicContent>,
    messages: Vec<AnthropicInputMessage>,
) -> Result<(InferInput, bool), Diagnostic> {
    if messages.is_empty() {
        return Err(empty("messages"));
    }
    let mut conversation = Conversation::default();
    if let Some(system) = system {
        let text = text_only("system", system)?;
        if !text.is_empty() {
            conversation.push(Message::new(Role::System, text));
        }
    }
    let mut last = Role::User;
    let count = messages.len();
    for (i, message) in messages.into_iter().enumerate() {
        last = conversation.add(i, message)?;
    }
    let continues = last == Role::Assistant;
    let ends_in_space = |message: &Message| message.content.ends_with(char::is_whitespace);
    if continues && conversation.messages.last().is_some_and(ends_in_space) {
        // As Anthropic does: tokens of words begin with their space, so the model could not
        // continue after one.
        let param = format!("messages[{}].content", count - 1);
        return Err(trailing_whitespace(&param));
    }
    Ok((InferInput::Messages(conversation.messages), continues))
}

#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    /// Names of the functions called so far, by id of the call.
    called: HashMap<String, String>,
}

impl Conversation {
    /// Adds message `i` and returns its role.
    fn add(&mut self, i: usize, message: AnthropicInputMessage) -> Result<Role, Diagnostic> {
        let param = format!("messages[{i}].content");
        let content = match message.content {
            Some(content) => content,
            None if message.role == "assistant" => AnthropicContent::Blocks(Vec::new()),
            None => return Err(missing(&param)),
        };
        match message.role.as_str() {
            "user" => {
                self.user(&param, content)?;
                Ok(Role::User)
            }
            "assistant" => {
                self.assistant(&param, content)?;
                Ok(Role::Assistant)
            }
            "system" => {
                let text = text_only(&param, content)?;
                self.push(Message::new(Role::System, text));
                Ok(Role::System)
            }
            other => {
                let param = format!("messages[{i}].role");
                Err(unknown_role(
                    &param,
                    other,
                    "`user`, `assistant` or `system`",
                ))
            }
        }
    }

    /// Adds a message of the user. Results of tools precede its text.
    fn user(&mut self, param: &str, content: AnthropicContent) -> Result<(), Diagnostic> {
        let mut texts = Vec::new();
        let mut images = Vec::new();
        for (param, block) in blocks(param, content) {
            match type_of(&block) {
                Some("image") => images.push(images::of_block(&param, &block)?),
                Some("tool_result") => {
                    let result = self.tool_result(&param, &block)?;
                    self.messages.push(result);
                }
                _ => texts.push(text_block(&param, &block)?),
            }
        }
        let has_content = !texts.is_empty() || !images.is_empty();
        if has_content || self.messages.last().is_none_or(|m| m.role != Role::Tool) {
            self.push(Message {
                images,
                ..Message::new(Role::User, texts.join(SEPARATOR))
            });
        }
        Ok(())
    }

    fn tool_result(&self, param: &str, block: &Value) -> Result<Message, Diagnostic> {
        let id = string_field(param, block, "tool_use_id")?;
        let content = match block.get("content") {
            None | Some(Value::Null) => String::new(),
            Some(content) => {
                let param = format!("{param}.content");
                let content = serde_json::from_value(content.clone())
                    .map_err(|_| must_be(&param, "a string or an array of blocks"))?;
                text_only(&param, content)?
            }
        };
        Ok(Message {
            name: self.called.get(&id).cloned(),
            tool_call_id: Some(id),
            ..Message::new(Role::Tool, content)
        })
    }

    fn assistant(&mut self, param: &str, content: AnthropicContent) -> Result<(), Diagnostic> {
        let (mut texts, mut thoughts) = (Vec::new(), Vec::new());
        let mut tool_calls = Vec::new();
        for (param, block) in blocks(param, content) {
            match type_of(&block) {
                Some("tool_use") => {
                    let id = string_field(&param, &block, "id")?;
                    let name = string_field(&param, &block, "name")?;
                    let arguments = match block.get("input") {
                        Some(input @ Value::Object(_)) => input.to_string(),
                        _ => return Err(must_be_object(&format!("{param}.input"))),
                    };
                    self.called.insert(id.clone(), name.clone());
                    tool_calls.push(ToolCall {
                        id,
                        name,
                        arguments,
                    });
                }
                Some("thinking") => thoughts.push(string_field(&param, &block, "thinking")?),
                // Thoughts of another model, encrypted.
                Some("redacted_thinking") => {}
                _ => texts.push(text_block(&param, &block)?),
            }
        }
        thoughts.retain(|thought| !thought.is_empty());
        self.push(Message {
            tool_calls,
            reasoning: (!thoughts.is_empty()).then(|| thoughts.join(SEPARATOR)),
            ..Message::new(Role::Assistant, texts.join(SEPARATOR))
        });
        Ok(())
    }

    /// Adds a message, or its content to the last message if the roles are the same.
    fn push(&mut self, message: Message) {
        match self.messages.last_mut() {
            Some(last) if last.role == message.role => {
                if !last.content.is_empty() && !message.content.is_empty() {
                    last.content.push_str(SEPARATOR);
                }
                last.content.push_str(&message.content);
                last.tool_calls.extend(message.tool_calls);
                last.reasoning = match (last.reasoning.take(), message.reasoning) {
                    (Some(first), Some(second)) => Some(first + SEPARATOR + &second),
                    (first, second) => first.or(second),
                };
                last.images.extend(message.images);
            }
            _ => self.messages.push(message),
        }
    }
}

/// Returns the blocks of a content, each with its path for errors.
fn blocks(param: &str, content: AnthropicContent) -> Vec<(String, Value)> {
    match content {
        AnthropicContent::Text(text) => {
            let block = serde_json::json!({"type": "text", "text": text});
            vec![(param.to_owned(), block)]
        }
        AnthropicContent::Blocks(blocks) => blocks
            .into_iter()
            .enumerate()
            .map(|(i, block)| (format!("{param}[{i}]"), block))
            .collect(),
    }
}

/// Returns the `type` of a block or an edit.
pub(super) fn type_of(object: &Value) -> Option<&str> {
    object.get("type").and_then(Value::as_str)
}

fn text_only(param: &str, content: AnthropicContent) -> Result<String, Diagnostic> {
    let texts = blocks(param, content)
        .iter()
        .map(|(param, block)| text_block(param, block))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join(SEPARATOR))
}

fn text_block(param: &str, block: &Value) -> Result<String, Diagnostic> {
    match type_of(block) {
        Some("text") => string_field(param, block, "text"),
        Some(kind) => Err(unsupported_block(param, kind)),
        None => Err(missing(&format!("{param}.type"))),
    }
}

fn string_field(param: &str, block: &Value, name: &str) -> Result<String, Diagnostic> {
    block
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| must_be_string(&format!("{param}.{name}")))
}
