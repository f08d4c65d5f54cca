use serde_json::{Map, Value};
use worker_contract::{Message, ToolDefinition};

/// Conversation that a chat template renders to the prompt of the assistant's next message.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// Messages, oldest first.
    pub messages: &'a [Message],
    /// Functions that the model may call.
    pub tools: &'a [ToolDefinition],
    /// Further variables of the template. They cannot replace `messages`, `tools` and the others
    /// that every template has.
    pub variables: &'a Map<String, Value>,
}

/// Prompt that a chat template rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedChat {
    /// Text of the prompt.
    pub text: String,
    /// What was changed in the conversation or ignored, as sentences for the user.
    pub notes: Vec<String>,
}
