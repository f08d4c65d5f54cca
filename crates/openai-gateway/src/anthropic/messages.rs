use std::collections::HashMap;

use diagnostics::{Code, Diagnostic, excerpt};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{InferInput, Message, Role, ToolCall};

use crate::{fields::invalid, unsupported::unsupported};

/// What is put between two blocks of text.
const BETWEEN_BLOCKS: &str = "\n";

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct AnthropicInputMessage {
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// What is said.
    pub content: AnthropicContent,
}

/// A text, or blocks: `text`, of an assistant `tool_use` and `thinking` (which no model is
/// shown), of a user `tool_result`.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AnthropicContent {
    /// A text.
    Text(String),
    /// Blocks.
    Blocks(Vec<Value>),
}

/// The conversation as the model is given it. Consecutive messages of one role become one,
/// as Anthropic has it: chat templates want turns.
pub(super) fn conversation(
    system: Option<AnthropicContent>,
    messages: Vec<AnthropicInputMessage>,
) -> Result<InferInput, Diagnostic> {
    if messages.is_empty() {
        return Err(invalid("messages", "must not be empty"));
    }
    let mut conversation = Conversation::default();
    if let Some(system) = system {
        let text = only_text("system", system)?;
        if !text.is_empty() {
            conversation.say(Message::new(Role::System, text));
        }
    }
    let mut last = "";
    for (nth, message) in messages.into_iter().enumerate() {
        last = conversation.add(nth, message)?;
    }
    if last == "assistant" {
        return Err(unsupported("messages").hint(
            "end the conversation with a message of the user; an answer cannot be begun for the model",
        ));
    }
    Ok(InferInput::Messages(conversation.messages))
}

#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    /// Names of the tools called so far, by the call's id.
    called: HashMap<String, String>,
}

impl Conversation {
    fn add(
        &mut self,
        nth: usize,
        message: AnthropicInputMessage,
    ) -> Result<&'static str, Diagnostic> {
        let param = format!("messages[{nth}].content");
        match message.role.as_str() {
            "user" => {
                self.user(&param, message.content)?;
                Ok("user")
            }
            "assistant" => {
                self.assistant(&param, message.content)?;
                Ok("assistant")
            }
            "system" => {
                let text = only_text(&param, message.content)?;
                self.say(Message::new(Role::System, text));
                Ok("system")
            }
            other => Err(invalid(
                &format!("messages[{nth}].role"),
                &format!("is \"{}\", which is no role", excerpt(other, 40)),
            )
            .hint("a role is `user` or `assistant`")),
        }
    }

    /// Results of tools come before what the user says to them.
    fn user(&mut self, param: &str, content: AnthropicContent) -> Result<(), Diagnostic> {
        let mut said = Vec::new();
        for (param, block) in blocks(param, content) {
            match kind(&block) {
                Some("tool_result") => {
                    let id = text_field(&param, &block, "tool_use_id")?;
                    let content = match block.get("content") {
                        None | Some(Value::Null) => String::new(),
                        Some(content) => {
                            let param = format!("{param}.content");
                            let content =
                                serde_json::from_value(content.clone()).map_err(|_| {
                                    invalid(&param, "must be a text or a list of blocks")
                                })?;
                            only_text(&param, content)?
                        }
                    };
                    self.messages.push(Message {
                        name: self.called.get(&id).cloned(),
                        tool_call_id: Some(id),
                        ..Message::new(Role::Tool, content)
                    });
                }
                _ => said.push(text_block(&param, &block)?),
            }
        }
        if !said.is_empty() || self.messages.last().is_none_or(|m| m.role != Role::Tool) {
            self.say(Message::new(Role::User, said.join(BETWEEN_BLOCKS)));
        }
        Ok(())
    }

    fn assistant(&mut self, param: &str, content: AnthropicContent) -> Result<(), Diagnostic> {
        let mut said = Vec::new();
        let mut tool_calls = Vec::new();
        for (param, block) in blocks(param, content) {
            match kind(&block) {
                Some("tool_use") => {
                    let id = text_field(&param, &block, "id")?;
                    let name = text_field(&param, &block, "name")?;
                    let input = match block.get("input") {
                        Some(input @ Value::Object(_)) => input.to_string(),
                        _ => return Err(invalid(&format!("{param}.input"), "must be an object")),
                    };
                    self.called.insert(id.clone(), name.clone());
                    tool_calls.push(ToolCall {
                        id,
                        name,
                        arguments: input,
                    });
                }
                // Another model's thoughts, often encrypted.
                Some("thinking" | "redacted_thinking") => {}
                _ => said.push(text_block(&param, &block)?),
            }
        }
        self.say(Message {
            tool_calls,
            ..Message::new(Role::Assistant, said.join(BETWEEN_BLOCKS))
        });
        Ok(())
    }

    /// Adds a message; to one of the same role before it, what it says.
    fn say(&mut self, message: Message) {
        match self.messages.last_mut() {
            Some(last) if last.role == message.role => {
                if !last.content.is_empty() && !message.content.is_empty() {
                    last.content.push_str(BETWEEN_BLOCKS);
                }
                last.content.push_str(&message.content);
                last.tool_calls.extend(message.tool_calls);
            }
            _ => self.messages.push(message),
        }
    }
}

/// The blocks of a content, each with its name in errors.
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

/// What kind of block or edit it is.
pub(super) fn kind(block: &Value) -> Option<&str> {
    block.get("type").and_then(Value::as_str)
}

fn only_text(param: &str, content: AnthropicContent) -> Result<String, Diagnostic> {
    let texts = blocks(param, content)
        .iter()
        .map(|(param, block)| text_block(param, block))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join(BETWEEN_BLOCKS))
}

fn text_block(param: &str, block: &Value) -> Result<String, Diagnostic> {
    match kind(block) {
        Some("text") => text_field(param, block, "text"),
        Some(kind) => Err(Diagnostic::new(
            Code::UnsupportedParameter,
            format!(
                "`{param}` is of type \"{}\", which is not supported here",
                excerpt(kind, 40)
            ),
        )
        .param(param)
        .hint("send text, `tool_use` of an assistant, or `tool_result` of a user")),
        None => Err(invalid(&format!("{param}.type"), "is missing")),
    }
}

fn text_field(param: &str, block: &Value, name: &str) -> Result<String, Diagnostic> {
    block
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| invalid(&format!("{param}.{name}"), "must be a text"))
}
