use std::io;

use diagnostics::Diagnostic;
use minijinja::{
    Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde,
};
use serde::Serialize;
use worker_contract::{Message, Role, ToolCall, ToolDefinition};

use crate::{chat::Chat, errors, python_json::tojson};

/// Maximum number of template instructions for one conversation; stops endless loops.
const FUEL: u64 = 5_000_000;
/// Maximum size of a rendered prompt, larger than any context.
const MAX_PROMPT_BYTES: usize = 32 << 20;
const NAME: &str = "chat";
/// Prefix of errors that a template raises by `raise_exception`.
const RAISED: &str = "raised by the template: ";

/// Compiled chat template in the Jinja dialect of Hugging Face models.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    supports_tools: bool,
}

impl ChatTemplate {
    /// Compiles a template; the token texts are available to it as variables.
    pub(crate) fn new(
        source: &str,
        bos_token: String,
        eos_token: String,
    ) -> Result<Self, Diagnostic> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(Diagnostic::internal)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|e| diagnostic(&e))?;
        let template = environment.get_template(NAME).map_err(|e| diagnostic(&e))?;
        let supports_tools = template.undeclared_variables(false).contains("tools");
        Ok(Self {
            environment,
            bos_token,
            eos_token,
            supports_tools,
        })
    }

    /// Whether the template reads the variable `tools`.
    pub(crate) fn supports_tools(&self) -> bool {
        self.supports_tools
    }

    /// Renders a conversation to the prompt of the assistant's next message.
    pub(crate) fn render(&self, chat: &Chat<'_>) -> Result<String, Diagnostic> {
        let Chat {
            messages,
            tools,
            variables,
        } = *chat;
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| Value::from(Serde(TemplateMessage::of(message))))
            .collect();
        let tools: Option<Vec<Value>> = (!tools.is_empty()).then(|| {
            let tools = tools.iter().map(TemplateTool::of);
            tools.map(|tool| Value::from(Serde(tool))).collect()
        });
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|e| diagnostic(&e))?;
        let context = context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
            tools,
            documents => Value::from(()),
        };
        let context = context! { ..context, ..Value::from(Serde(variables)) };
        let mut prompt = Prompt::default();
        template
            .render_captured_to(context, &mut prompt)
            .map_err(|e| diagnostic(&e))?;
        String::from_utf8(prompt.0).map_err(Diagnostic::internal)
    }
}

/// Output of a template, limited in size.
#[derive(Default)]
struct Prompt(Vec<u8>);

impl io::Write for Prompt {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.0.len() + piece.len() > MAX_PROMPT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Message as passed to templates by Hugging Face's `apply_chat_template`. Empty fields are left
/// out, because templates test whether a field is defined.
#[derive(Serialize)]
struct TemplateMessage<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<TemplateCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// Reasoning, under the name that most templates read.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
}

#[derive(Serialize)]
struct TemplateCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: TemplateFunction<'a>,
}

#[derive(Serialize)]
struct TemplateFunction<'a> {
    name: &'a str,
    /// Parsed arguments, which templates format by `tojson`; a string if they are not JSON.
    arguments: Value,
}

#[derive(Serialize)]
struct TemplateTool<'a> {
    r#type: &'static str,
    function: &'a ToolDefinition,
}

impl<'a> TemplateMessage<'a> {
    fn of(message: &'a Message) -> Self {
        Self {
            role: role_name(message.role),
            content: &message.content,
            tool_calls: message.tool_calls.iter().map(TemplateCall::of).collect(),
            tool_call_id: message.tool_call_id.as_deref(),
            name: message.name.as_deref(),
            reasoning_content: message.reasoning.as_deref(),
        }
    }
}

impl<'a> TemplateCall<'a> {
    fn of(call: &'a ToolCall) -> Self {
        let text = match call.arguments.trim() {
            "" => "{}",
            text => text,
        };
        Self {
            id: &call.id,
            r#type: "function",
            function: TemplateFunction {
                name: &call.name,
                arguments: serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
            },
        }
    }
}

impl<'a> TemplateTool<'a> {
    fn of(function: &'a ToolDefinition) -> Self {
        Self {
            r#type: "function",
            function,
        }
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn raise_exception(message: &str) -> Result<String, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("{RAISED}{message}"),
    ))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
}

fn diagnostic(error: &Error) -> Diagnostic {
    let detail = error.detail().unwrap_or_default();
    if let Some(reason) = detail.strip_prefix(RAISED) {
        return errors::messages_rejected(reason);
    }
    match error.kind() {
        ErrorKind::OutOfFuel => {
            errors::template_failed(format!("it did not finish within {FUEL} instructions"))
        }
        ErrorKind::WriteFailure => {
            errors::template_failed(format!("its output exceeds {MAX_PROMPT_BYTES} bytes"))
        }
        _ => errors::template_failed(error),
    }
}
