use diagnostics::{Code, Diagnostic, excerpt};
use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig};
use worker_contract::{Message, Role};

use crate::python_json::tojson;

/// Instructions that rendering one conversation may take; a loop that does not end is cut.
const FUEL: u64 = 5_000_000;
const NAME: &str = "chat";
/// Marks an error that a template raised on purpose.
const RAISED: &str = "raised by the template: ";

/// A model's chat template, in the dialect that Hugging Face models use.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    begin_token: String,
    end_token: String,
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
        Ok(Self {
            environment,
            begin_token,
            end_token,
        })
    }

    /// The conversation as the prompt of the assistant's next message.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, Diagnostic> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|m| context! { role => role_name(m.role), content => m.content.as_str() })
            .collect();
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|e| broken(&e))?;
        template
            .render(context! {
                messages,
                add_generation_prompt => true,
                bos_token => self.begin_token.as_str(),
                eos_token => self.end_token.as_str(),
                tools => Value::from(()),
                documents => Value::from(()),
            })
            .map_err(|e| broken(&e))
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
        _ => excerpt(&error.to_string(), 300),
    };
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("the model's chat template fails: {why}"),
    )
    .hint("send a plain prompt instead of messages, or use a model with a working template")
}
