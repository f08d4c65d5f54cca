use std::collections::HashSet;

use diagnostics::{Code, Diagnostic, excerpt};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{ToolCall, ToolChoice, ToolDefinition};

use crate::{fields::invalid, unsupported::unsupported};

/// Most tools of a request.
const MOST_TOOLS: usize = 128;
/// Longest name of a function, in bytes.
const LONGEST_NAME: usize = 64;

/// A tool that the model may ask to have called.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatTool {
    /// `function`.
    pub r#type: String,
    /// The function.
    pub function: Option<ChatFunction>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatFunction {
    /// 1 to 64 letters, digits, `_` and `-`.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments.
    pub parameters: Option<Value>,
    /// Whether arguments keep to `parameters` exactly. They do, asked or not, where a call must
    /// come and beside a form of the answer; elsewhere as well as the model can.
    pub strict: Option<bool>,
}

/// A call of a tool that the assistant asked for earlier.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatToolCall {
    /// Names the call, so that its result can.
    pub id: String,
    /// `function`.
    pub r#type: String,
    /// What is called.
    pub function: Option<CalledFunction>,
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct CalledFunction {
    /// The function.
    pub name: String,
    /// Its arguments, as the text of a JSON object.
    pub arguments: String,
}

/// The tools of a request, checked.
pub(crate) fn definitions(tools: &[ChatTool]) -> Result<Vec<ToolDefinition>, Diagnostic> {
    if tools.len() > MOST_TOOLS {
        let what = format!("has {} tools; {MOST_TOOLS} are possible", tools.len());
        return Err(invalid("tools", &what));
    }
    let mut names = HashSet::new();
    let mut definitions = Vec::with_capacity(tools.len());
    for (nth, tool) in tools.iter().enumerate() {
        let definition = definition(&format!("tools[{nth}]"), tool)?;
        if !names.insert(definition.name.clone()) {
            let what = format!("names \"{}\" a second time", definition.name);
            return Err(invalid(&format!("tools[{nth}].function.name"), &what));
        }
        definitions.push(definition);
    }
    Ok(definitions)
}

fn definition(param: &str, tool: &ChatTool) -> Result<ToolDefinition, Diagnostic> {
    let function = function(param, &tool.r#type, tool.function.as_ref())?;
    let name = &function.name;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(allowed) {
        let what = format!(
            "is \"{}\"; a name has 1 to {LONGEST_NAME} of `A-Z a-z 0-9 _ -`",
            excerpt(name, 80)
        );
        return Err(invalid(&format!("{param}.function.name"), &what));
    }
    if function.parameters.as_ref().is_some_and(|p| !p.is_object()) {
        let param = format!("{param}.function.parameters");
        return Err(invalid(&param, "must be a JSON schema, which is an object"));
    }
    Ok(ToolDefinition {
        name: name.clone(),
        description: function.description.clone(),
        parameters: function.parameters.clone(),
    })
}

/// What a tool or a call has as its function; other kinds of tools are refused.
fn function<'a, T>(param: &str, kind: &str, function: Option<&'a T>) -> Result<&'a T, Diagnostic> {
    if kind != "function" {
        return Err(Diagnostic::new(
            Code::UnsupportedParameter,
            format!(
                "`{param}` is of type \"{}\"; only functions are supported",
                excerpt(kind, 40)
            ),
        )
        .param(format!("{param}.type")));
    }
    function.ok_or_else(|| invalid(&format!("{param}.function"), "is missing"))
}

/// Whether tools are called.
pub(crate) fn choice(
    value: Option<&Value>,
    tools: &[ToolDefinition],
) -> Result<ToolChoice, Diagnostic> {
    let param = "tool_choice";
    let choice = match value {
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(text)) => match text.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => {
                let what = "must be `none`, `auto`, `required` or a function";
                return Err(invalid(param, what));
            }
        },
        Some(Value::Object(fields)) => match fields.get("type").and_then(Value::as_str) {
            Some("function") => {
                let name = fields.get("function").and_then(|f| f.get("name"));
                let name = name
                    .and_then(Value::as_str)
                    .ok_or_else(|| invalid("tool_choice.function.name", "must name a function"))?;
                ToolChoice::Named(name.to_owned())
            }
            _ => return Err(unsupported(param)),
        },
        Some(_) => return Err(invalid(param, "must be a text or a function")),
    };
    match &choice {
        ToolChoice::Required if tools.is_empty() => Err(invalid(param, "only goes with `tools`")),
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            let what = format!("names \"{}\", which is not in `tools`", excerpt(name, 80));
            Err(invalid(param, &what))
        }
        _ => Ok(choice),
    }
}

/// The calls of an earlier message of the assistant.
pub(crate) fn calls(param: &str, calls: &[ChatToolCall]) -> Result<Vec<ToolCall>, Diagnostic> {
    calls
        .iter()
        .enumerate()
        .map(|(nth, call)| {
            let param = format!("{param}[{nth}]");
            let function = function(&param, &call.r#type, call.function.as_ref())?;
            Ok(ToolCall {
                id: call.id.clone(),
                name: function.name.clone(),
                arguments: function.arguments.clone(),
            })
        })
        .collect()
}
