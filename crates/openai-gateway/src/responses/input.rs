use diagnostics::Diagnostic;
use serde_json::Value;
use worker_contract::{Message, Role, ToolCall};

use crate::{
    errors::{
        empty, must_be, must_be_string, not_stored, unknown_role, unsupported_item,
        unsupported_part,
    },
    images,
};

/// Separator of the texts of one reasoning.
const SEPARATOR: &str = "\n";

/// Converts the input of a request to a conversation.
///
/// The items of one turn of the assistant become one message: its reasoning, its text and its
/// calls.
pub(super) fn messages(
    instructions: Option<&str>,
    input: &Value,
) -> Result<Vec<Message>, Diagnostic> {
    let mut conversation = Conversation::default();
    if let Some(text) = instructions {
        conversation.messages.push(Message::new(Role::System, text));
    }
    match input {
        Value::String(text) => conversation.messages.push(Message::new(Role::User, text)),
        Value::Array(items) if items.is_empty() => return Err(empty("input")),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                conversation.add(&format!("input[{i}]"), item)?;
            }
        }
        _ => return Err(must_be("input", "a string or an array of items")),
    }
    Ok(conversation.messages)
}

#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    /// Reasoning that belongs to the assistant's next message.
    reasoning: Option<String>,
}

impl Conversation {
    fn add(&mut self, param: &str, item: &Value) -> Result<(), Diagnostic> {
        let kind = match item.get("type") {
            None | Some(Value::Null) if item.get("role").is_some() => "message",
            None | Some(Value::Null) if item.get("id").is_some() => "item_reference",
            Some(Value::String(kind)) => kind,
            _ => return Err(must_be(param, "an item with a `type` or a `role`")),
        };
        match kind {
            "message" => self.message(param, item),
            "function_call" => self.call(param, item),
            "function_call_output" => self.output(param, item),
            "reasoning" => self.reasoning(param, item),
            "item_reference" => Err(not_stored(param)),
            other => Err(unsupported_item(param, other)),
        }
    }

    fn message(&mut self, param: &str, item: &Value) -> Result<(), Diagnostic> {
        let role = match string(param, item, "role")? {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let roles = "`system`, `developer`, `user` or `assistant`";
                return Err(unknown_role(&format!("{param}.role"), other, roles));
            }
        };
        let content_param = format!("{param}.content");
        let images = images::of_input_images(&content_param, item.get("content"))?;
        let content = content(&content_param, item.get("content"))?;
        let reasoning = self.reasoning.take().filter(|_| role == Role::Assistant);
        self.messages.push(Message {
            reasoning,
            images,
            ..Message::new(role, content)
        });
        Ok(())
    }

    fn call(&mut self, param: &str, item: &Value) -> Result<(), Diagnostic> {
        let call = ToolCall {
            id: string(param, item, "call_id")?.to_owned(),
            name: string(param, item, "name")?.to_owned(),
            arguments: string(param, item, "arguments")?.to_owned(),
        };
        let reasoning = self.reasoning.take();
        match self.messages.last_mut() {
            Some(last) if last.role == Role::Assistant && reasoning.is_none() => {
                last.tool_calls.push(call);
            }
            _ => self.messages.push(Message {
                tool_calls: vec![call],
                reasoning,
                ..Message::new(Role::Assistant, "")
            }),
        }
        Ok(())
    }

    fn output(&mut self, param: &str, item: &Value) -> Result<(), Diagnostic> {
        let id = string(param, item, "call_id")?;
        let output_param = format!("{param}.output");
        let images = images::of_input_images(&output_param, item.get("output"))?;
        let content = content(&output_param, item.get("output"))?;
        let mut calls = self.messages.iter().rev().flat_map(|m| &m.tool_calls);
        let name = calls
            .find(|call| call.id == id)
            .map(|call| call.name.clone());
        self.reasoning = None;
        self.messages.push(Message {
            tool_call_id: Some(id.to_owned()),
            name,
            images,
            ..Message::new(Role::Tool, content)
        });
        Ok(())
    }

    /// Keeps the text of a reasoning for the next message. A reasoning without text is that of
    /// another server, encrypted.
    fn reasoning(&mut self, param: &str, item: &Value) -> Result<(), Diagnostic> {
        let mut texts = Vec::new();
        for (field, kind) in [("content", "reasoning_text"), ("summary", "summary_text")] {
            let param = format!("{param}.{field}");
            let parts = match item.get(field) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(parts)) => parts,
                Some(_) => return Err(must_be(&param, "an array of parts")),
            };
            // The summary of a reasoning with content repeats it.
            let repeated = !texts.is_empty();
            for (i, part) in parts.iter().enumerate() {
                let param = format!("{param}[{i}]");
                match part.get("type").and_then(Value::as_str) {
                    Some(found) if found == kind => {
                        let text = string(&param, part, "text")?;
                        if !repeated {
                            texts.push(text);
                        }
                    }
                    Some(other) => return Err(unsupported_part(&param, other, kind)),
                    None => return Err(must_be_string(&format!("{param}.type"))),
                }
            }
        }
        if !texts.is_empty() {
            let mut all = self.reasoning.take().unwrap_or_default();
            for text in texts {
                if !all.is_empty() {
                    all.push_str(SEPARATOR);
                }
                all.push_str(text);
            }
            self.reasoning = Some(all);
        }
        Ok(())
    }
}

fn content(param: &str, content: Option<&Value>) -> Result<String, Diagnostic> {
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .map(|(i, part)| text_part(&format!("{param}[{i}]"), part))
            .collect(),
        _ => Err(must_be(param, "a string or an array of parts")),
    }
}

fn text_part<'a>(param: &str, part: &'a Value) -> Result<&'a str, Diagnostic> {
    match part.get("type").and_then(Value::as_str) {
        Some("input_text" | "output_text") => string(param, part, "text"),
        // Images are read on their own.
        Some("input_image") => Ok(""),
        Some("refusal") => string(param, part, "refusal"),
        Some(kind) => Err(unsupported_part(param, kind, "input_text")),
        None => Err(must_be_string(&format!("{param}.type"))),
    }
}

fn string<'a>(param: &str, object: &'a Value, field: &str) -> Result<&'a str, Diagnostic> {
    object
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| must_be_string(&format!("{param}.{field}")))
}
