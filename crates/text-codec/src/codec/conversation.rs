//! Renders and encodes conversations.

use diagnostics::{Code, Diagnostic, excerpt};
use serde_json::Map;
use worker_contract::{Message, Role, ToolDefinition};

use super::Codec;
use crate::{
    chat::{Chat, RenderedChat},
    control::{ControlTokens, Piece},
    errors,
    repair::{REPAIRS, Repair},
    template::{self, ChatTemplate},
};

impl Codec {
    /// Renders a conversation to the prompt of the assistant's next message.
    ///
    /// Errors: `INVALID_REQUEST` if the template rejects the messages or the model has no
    /// template, `UNSUPPORTED_PARAMETER` if the template would drop tools, tool calls or tool
    /// results, `INVALID_MODEL_FILE` if the template is faulty or does not terminate.
    pub fn render(&self, chat: &Chat<'_>) -> Result<RenderedChat, Diagnostic> {
        let (mut rendered, mark) = self.render_marked(chat)?;
        if let Some(mark) = mark {
            rendered.text = rendered.text.replace(mark, "");
        }
        Ok(rendered)
    }

    /// Renders a conversation to a text in which a mark breaks the spellings of control tokens
    /// that are not from the template.
    fn render_marked(&self, chat: &Chat<'_>) -> Result<(RenderedChat, Option<char>), Diagnostic> {
        let tools = chat.tools;
        let with_tools = !tools.is_empty() || chat.messages.iter().any(is_tool_message);
        let tool_template = self.tool_template.as_ref().filter(|_| with_tools);
        match tool_template.or(self.template.as_ref()) {
            Some(Ok(template)) if with_tools && !template.reads("tools") => {
                let param = if tools.is_empty() {
                    "messages"
                } else {
                    "tools"
                };
                Err(errors::no_tool_support(param))
            }
            Some(Ok(template)) => self.render_with(template, chat),
            Some(Err(error)) => Err(error.clone()),
            None => Err(errors::no_chat_template()),
        }
    }

    /// Renders a conversation. If the template rejects its form, tries it in another form, with a
    /// note that says so.
    fn render_with(
        &self,
        template: &ChatTemplate,
        chat: &Chat<'_>,
    ) -> Result<(RenderedChat, Option<char>), Diagnostic> {
        let control = self.control.as_ref().map_err(Clone::clone)?;
        let mut notes = variable_notes(template, chat);
        let render = |messages: &[Message], mut notes: Vec<String>, more: Vec<String>| {
            let (text, mark) = template.render(&Chat { messages, ..*chat }, control)?;
            notes.extend(more);
            Ok((RenderedChat { text, notes }, mark))
        };
        if self.drops_system(template, chat, control)
            && let Some((messages, more)) = SYSTEM_ONLY.apply(chat.messages)
        {
            return render(&messages, notes, more);
        }
        let error = match render(chat.messages, std::mem::take(&mut notes), Vec::new()) {
            Ok(rendered) => return Ok(rendered),
            Err(error) if error.code == Code::InvalidRequest => error,
            Err(error) => return Err(error),
        };
        for repair in REPAIRS {
            if let Some((messages, more)) = repair.apply(chat.messages)
                && let Ok(rendered) = render(&messages, variable_notes(template, chat), more)
            {
                return Ok(rendered);
            }
        }
        Err(error)
    }

    /// Whether the conversation has a system message that the template would leave out.
    fn drops_system(
        &self,
        template: &ChatTemplate,
        chat: &Chat<'_>,
        control: &ControlTokens,
    ) -> bool {
        const PROBE: &str = "probe-of-the-system-message";
        if chat
            .messages
            .iter()
            .all(|message| message.role != Role::System)
        {
            return false;
        }
        *self.drops_system.get_or_init(|| {
            let messages = [
                Message::new(Role::System, PROBE),
                Message::new(Role::User, "x"),
            ];
            let probe = Chat {
                messages: &messages,
                tools: &[],
                variables: &Map::new(),
            };
            let rendered = template.render(&probe, control);
            rendered.is_ok_and(|(text, _)| !text.contains(PROBE))
        })
    }

    /// Whether the chat template reads a variable that the request can set.
    pub fn template_reads(&self, name: &str) -> bool {
        let templates = [&self.template, &self.tool_template];
        let mut compiled = templates.into_iter().flatten().flatten();
        !template::is_reserved(name) && compiled.any(|template| template.reads(name))
    }

    /// Encodes a conversation and appends the notes about it to `notes`. The template itself
    /// writes the begin-of-sequence token. Only the template writes control tokens: a text of the
    /// conversation that spells one is encoded as text.
    pub fn encode_conversation(
        &self,
        chat: &Chat<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<u32>, Diagnostic> {
        let (rendered, mark) = self.render_marked(chat)?;
        notes.extend(rendered.notes);
        let Some(mark) = mark else {
            return self.encode_with(&rendered.text, false);
        };
        let control = self.control.as_ref().map_err(Clone::clone)?;
        let mut ids = Vec::new();
        for piece in control.pieces(&rendered.text, mark) {
            match piece {
                Piece::Template(text) => ids.extend(self.encode_with(text, false)?),
                Piece::Plain(text) => ids.extend(self.encode_plain(&text)?),
            }
        }
        Ok(ids)
    }

    /// Encodes the beginning of the assistant's message, which follows the encoded conversation.
    /// Control tokens spelled out in it are text.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, Diagnostic> {
        self.encode_plain(text)
    }

    /// Returns the text of [`Self::render`] for a conversation without further variables.
    pub fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
    ) -> Result<String, Diagnostic> {
        let variables = &Map::new();
        let chat = Chat {
            messages,
            tools,
            variables,
        };
        Ok(self.render(&chat)?.text)
    }

    /// Encodes a conversation without further variables.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
    ) -> Result<Vec<u32>, Diagnostic> {
        let variables = &Map::new();
        let chat = Chat {
            messages,
            tools,
            variables,
        };
        self.encode_conversation(&chat, &mut Vec::new())
    }
}

/// The repair for a template that leaves out system messages.
const SYSTEM_ONLY: Repair = Repair {
    system: true,
    joined: false,
};

/// A note for each variable that the template does not read or the request cannot set.
fn variable_notes(template: &ChatTemplate, chat: &Chat<'_>) -> Vec<String> {
    let name = |name: &str| excerpt(name, 80);
    let variables = chat.variables.keys();
    variables
        .filter_map(|variable| match template::is_reserved(variable) {
            true => Some(format!(
                "the chat template's variable {} cannot be set; it was ignored",
                name(variable)
            )),
            false if template.reads(variable) => None,
            false => Some(format!(
                "the chat template has no variable {}; it was ignored",
                name(variable)
            )),
        })
        .collect()
}

/// Whether a message contains tool calls or a tool result.
fn is_tool_message(message: &Message) -> bool {
    message.role == Role::Tool || !message.tool_calls.is_empty()
}
