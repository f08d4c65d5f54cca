use std::io;

use diagnostics::{Code, Diagnostic, excerpt};
use minijinja::{
    Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde,
};
use serde::Serialize;
use worker_contract::{Message, Role, ToolCall, ToolDefinition};

use crate::python_json::tojson;

/// Instructions that rendering one conversation may take; a loop that does not end is cut.
const FUEL: u64 = 5_000_000;
/// Longest prompt that a template may make: more than any context holds.
const MOST_BYTES: usize = 32 << 20;
const NAME: &str = "chat";
/// Marks an error that a template raised on purpose.
const RAISED: &str = "raised by the template: ";

/// A model's chat template, in the dialect that Hugging Face models use.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    begin_token: String,
    end_token: String,
    shows_tools: bool,
}

impl ChatTemplate {
    /// Compiles a template; `begin_token` and `end_token` are the texts that it may name.
    pub(crate) fn new(
        source: &str,
        begin_token: String,
        end_token: String,
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
            .map_err(|e| broken(&e))?;
        let template = environment.get_template(NAME).map_err(|e| broken(&e))?;
        let shows_tools = template.undeclared_variables(false).contains("tools");
        Ok(Self {
            environment,
            begin_token,
            end_token,
            shows_tools,
        })
    }

    /// Whether the template has a place for tools.
    pub(crate) fn shows_tools(&self) -> bool {
        self.shows_tools
    }

    /// The conversation as the prompt of the assistant's next message.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
    ) -> Result<String, Diagnostic> {
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
            .map_err(|e| broken(&e))?;
        let context = context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.begin_token.as_str(),
            eos_token => self.end_token.as_str(),
            tools,
            documents => Value::from(()),
        };
        let mut prompt = Prompt::default();
        template
            .render_captured_to(context, &mut prompt)
            .map_err(|e| broken(&e))?;
        String::from_utf8(prompt.0).map_err(Diagnostic::internal)
    }
}

/// What a template has written so far.
#[derive(Default)]
struct Prompt(Vec<u8>);

impl io::Write for Prompt {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.0.len() + piece.len() > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message in the form that Hugging Face's `apply_chat_template` documents. What a message
/// does not have is absent, because templates ask whether it is there.
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
    /// An object, which templates write with `tojson`; a text only where the arguments are
    /// no JSON.
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

fn broken(error: &Error) -> Diagnostic {
    let detail = error.detail().unwrap_or_default();
    if let Some(raised) = detail.strip_prefix(RAISED) {
        return Diagnostic::new(
            Code::InvalidRequest,
            format!(
                "the model's chat template refuses these messages: {}",
                excerpt(raised, 300)
            ),
        )
        .hint("change the roles or their order as the model wants them")
        .param("messages");
    }
    let why = match error.kind() {
        ErrorKind::OutOfFuel => "it does not come to an end".to_owned(),
        ErrorKind::WriteFailure => format!("it writes more than {MOST_BYTES} bytes"),
        _ => excerpt(&error.to_string(), 300),
    };
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("the model's chat template fails: {why}"),
    )
    .hint("send a plain prompt instead of messages, or use a model with a working template")
}
