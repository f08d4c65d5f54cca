use std::{collections::BTreeSet, io};

use diagnostics::Diagnostic;
use minijinja::{
    Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde,
};
use serde::Serialize;
use worker_contract::{Message, Role, ToolCall, ToolDefinition};

use crate::{chat::Chat, control::ControlTokens, errors};

mod expression;
mod lexer;
mod parser;
mod postfix;
mod python;
mod rewrite;

/// Maximum number of template instructions for one conversation; stops endless loops.
const FUEL: u64 = 5_000_000;
/// Maximum size of a rendered prompt, larger than any context.
const MAX_PROMPT_BYTES: usize = 32 << 20;
const NAME: &str = "chat";
/// Variables that the codec itself sets.
const RESERVED: &[&str] = &[
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
];
/// Prefix of errors that a template raises by `raise_exception`.
const RAISED: &str = "raised by the template: ";

/// Compiled chat template in the Jinja dialect of Hugging Face models.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    /// Variables that the template does not define itself.
    reads: BTreeSet<String>,
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
        python::install(&mut environment);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        let rewritten = rewrite::rewrite(source).map_err(errors::template_failed)?;
        environment
            .add_template_owned(NAME, rewritten.source)
            .map_err(|e| diagnostic(&e))?;
        let template = environment.get_template(NAME).map_err(|e| diagnostic(&e))?;
        let mut reads: BTreeSet<String> =
            template.undeclared_variables(false).into_iter().collect();
        reads.extend(rewritten.read_by_own_assignment);
        Ok(Self {
            environment,
            bos_token,
            eos_token,
            reads,
        })
    }

    /// Whether the template reads a variable that the caller sets.
    pub(crate) fn reads(&self, name: &str) -> bool {
        self.reads.contains(name)
    }

    /// Renders a conversation to the prompt of the assistant's next message. Returns the mark that
    /// breaks spellings of control tokens in the text, if there are any.
    pub(crate) fn render(
        &self,
        chat: &Chat<'_>,
        control: &ControlTokens,
    ) -> Result<(String, Option<char>), Diagnostic> {
        let messages = chat.messages.iter().map(TemplateMessage::of);
        let mut messages: Value = messages
            .map(|message| Value::from(Serde(message)))
            .collect();
        let tools = chat.tools.iter().map(TemplateTool::of);
        let mut tools: Value = tools.map(|tool| Value::from(Serde(tool))).collect();
        let variables = chat.variables.iter().filter(|(name, _)| !is_reserved(name));
        let mut variables = Value::from_pairs(
            variables.map(|(name, value)| (name.as_str(), Value::from(Serde(value)))),
        );
        let mark = control.mark_for(&[&messages, &tools, &variables])?;
        if let Some(mark) = mark {
            for value in [&mut messages, &mut tools, &mut variables] {
                *value = control.break_spellings(value, mark);
            }
        }
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|e| diagnostic(&e))?;
        let context = context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
            tools => if chat.tools.is_empty() { Value::from(()) } else { tools },
            documents => Value::from(()),
        };
        let context = context! { ..context, ..variables };
        let mut prompt = Prompt::default();
        template
            .render_captured_to(context, &mut prompt)
            .map_err(|e| diagnostic(&e))?;
        let text = String::from_utf8(prompt.0).map_err(Diagnostic::internal)?;
        Ok((text, mark))
    }
}

/// Whether a variable has a value in every template, which the request cannot replace.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
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
                arguments: python::parse_json(text).unwrap_or_else(|| Value::from(text)),
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
