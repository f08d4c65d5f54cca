use openapi_schema::{any_of, impl_schema, one_of_names, strings, text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::defaults::is_false;

/// Author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions to the model. Requests may use the word `developer` as well.
    #[serde(alias = "developer")]
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// Result of a tool call.
    Tool,
}

impl_schema! {
    Role, uses [],
    "Author of a message: `system` or `developer` (instructions to the model), `user`, \
     `assistant` (the model), or `tool` (the result of a tool call).",
    strings(["system", "developer", "user", "assistant", "tool"])
}

/// Message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Author of the message.
    pub role: Role,
    /// Text of the message; may be empty.
    pub content: String,
    /// Tool calls of an `assistant` message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Of a `tool` message, the id of the call that produced the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Of a `tool` message, the name of the function. Of other messages, the name of the
    /// speaker, which only some chat templates pass to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Images of the message. Only workers with the capability `vision` accept them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Reasoning of an `assistant` message, which only some chat templates pass to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

impl Message {
    /// Creates a message without tool calls.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            images: Vec::new(),
            reasoning: None,
        }
    }
}

/// Image of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Media type, such as `image/png`; absent if the client did not send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Bytes of the image in Base64.
    pub data: String,
}

/// Function that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolDefinition {
    /// Name of the function.
    pub name: String,
    /// Description of the function, which the model reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON schema of the arguments. Absent: no arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Value>,
    /// Whether calls of the function always match `parameters`, even if the model decides
    /// whether to call. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub strict: bool,
}

/// Call of a function by the model. The client runs the function and sends the result in a
/// message of role `tool`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCall {
    /// Id of the call, to which `tool_call_id` of the result refers.
    pub id: String,
    /// Name of the function.
    pub name: String,
    /// Arguments as the text of a JSON object. The text can be incomplete if the output was
    /// cut off.
    pub arguments: String,
}

/// Whether the model calls tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// The model does not receive the tools and calls none.
    None,
    /// The output is one call of any of the tools.
    Required,
    /// The output is one call of the tool with this name.
    Named(String),
}

impl_schema! {
    ToolChoice, uses [],
    "Whether the model calls tools: `auto` (the model decides), `none` (the model does not receive \
     the tools), `required` (the output is one call of any of the tools), or the `named` tool (the \
     output is one call of it). The last two require `tools`.",
    any_of([strings(["auto", "none", "required"]), one_of_names([("named", text())])])
}

impl ToolChoice {
    /// Whether the output must be a tool call.
    pub const fn must_call(&self) -> bool {
        matches!(self, Self::Required | Self::Named(_))
    }
}
