use std::collections::HashSet;

use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{ToolCall, ToolChoice, ToolDefinition};

use crate::errors::{
    duplicate_tool, missing, must_be, must_be_string, not_a_function, requires, too_many,
    tool_name, unknown_tool, unsupported,
};

/// Maximum number of tools in a request.
pub(crate) const MAX_TOOLS: usize = 128;
/// Maximum length of a function's name, in bytes.
const MAX_NAME: usize = 64;

/// Tool that the model may call.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatTool {
    /// Must be `function`.
    #[schema(pattern = "^function$")]
    pub r#type: String,
    /// The function.
    #[schema(required, nullable = false)]
    pub function: Option<ChatFunctionDefinition>,
}

/// Definition of a function that the model may call.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatFunctionDefinition {
    /// Name of the function, 1 to 64 letters, digits, `_` and `-`; unique in `tools`.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub name: String,
    /// Description of the function, which the model reads.
    pub description: Option<String>,
    /// JSON schema of the arguments, an object. Absent: no arguments.
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// Whether calls always match `parameters`, even where the model decides whether to call;
    /// `parameters` that cannot be enforced are refused. Default: false; arguments are then
    /// constrained as far as possible if the output must be a call, or if the request also has a
    /// `response_format`.
    pub strict: Option<bool>,
}

/// Tool call of an earlier `assistant` message.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatToolCall {
    /// Id of the call, to which `tool_call_id` of the result refers.
    pub id: String,
    /// Must be `function`.
    #[schema(pattern = "^function$")]
    pub r#type: String,
    /// The function and its arguments.
    #[schema(required, nullable = false)]
    pub function: Option<ChatFunctionCall>,
}

/// Function and arguments of an earlier tool call.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ChatFunctionCall {
    pub name: String,
    /// Arguments as the text of a JSON object.
    pub arguments: String,
}

/// Validates and converts the tools of a request.
pub(super) fn definitions(tools: &[ChatTool]) -> Result<Vec<ToolDefinition>, Diagnostic> {
    if tools.len() > MAX_TOOLS {
        return Err(too_many("tools", "tools", tools.len(), MAX_TOOLS));
    }
    let mut names = HashSet::new();
    let mut definitions = Vec::with_capacity(tools.len());
    for (i, tool) in tools.iter().enumerate() {
        let definition = definition(&format!("tools[{i}]"), tool)?;
        if !names.insert(definition.name.clone()) {
            let param = format!("tools[{i}].function.name");
            return Err(duplicate_tool(&param, &definition.name));
        }
        definitions.push(definition);
    }
    Ok(definitions)
}

fn definition(param: &str, tool: &ChatTool) -> Result<ToolDefinition, Diagnostic> {
    let function = function(param, &tool.r#type, tool.function.as_ref())?;
    function_definition(
        &format!("{param}.function"),
        ToolDefinition {
            name: function.name.clone(),
            description: function.description.clone(),
            parameters: function.parameters.clone(),
            strict: function.strict.unwrap_or_default(),
        },
    )
}

/// Checks the name and the parameters of a function, which are fields of `param`.
pub(crate) fn function_definition(
    param: &str,
    function: ToolDefinition,
) -> Result<ToolDefinition, Diagnostic> {
    let name = &function.name;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(tool_name(&format!("{param}.name"), name, MAX_NAME));
    }
    if function.parameters.as_ref().is_some_and(|p| !p.is_object()) {
        let param = format!("{param}.parameters");
        return Err(must_be(&param, "a JSON schema that is an object"));
    }
    Ok(function)
}

/// Returns the function of a tool or a call. Other kinds of tools are refused.
fn function<'a, T>(param: &str, kind: &str, function: Option<&'a T>) -> Result<&'a T, Diagnostic> {
    if kind != "function" {
        return Err(not_a_function(param, kind));
    }
    function.ok_or_else(|| missing(&format!("{param}.function")))
}

/// Converts the `tool_choice` of a request with these tools.
pub(super) fn choice(
    value: Option<&Value>,
    tools: &[ToolDefinition],
) -> Result<ToolChoice, Diagnostic> {
    const PARAM: &str = "tool_choice";
    let form = || must_be(PARAM, "`none`, `auto`, `required` or a function");
    let choice = match value {
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(text)) => match text.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => return Err(form()),
        },
        Some(choice @ Value::Object(fields)) => match fields.get("type").and_then(Value::as_str) {
            Some("function") => {
                let name = fields.get("function").and_then(|f| f.get("name"));
                let name = name
                    .and_then(Value::as_str)
                    .ok_or_else(|| must_be_string("tool_choice.function.name"))?;
                ToolChoice::Named(name.to_owned())
            }
            _ => return Err(unsupported(PARAM, choice)),
        },
        Some(_) => return Err(form()),
    };
    match &choice {
        ToolChoice::Required if tools.is_empty() => Err(requires(PARAM, "tools")),
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            Err(unknown_tool(PARAM, name))
        }
        _ => Ok(choice),
    }
}

/// Converts the tool calls of an earlier message of the assistant.
pub(super) fn calls(param: &str, calls: &[ChatToolCall]) -> Result<Vec<ToolCall>, Diagnostic> {
    calls
        .iter()
        .enumerate()
        .map(|(i, call)| {
            let param = format!("{param}[{i}]");
            let function = function(&param, &call.r#type, call.function.as_ref())?;
            Ok(ToolCall {
                id: call.id.clone(),
                name: function.name.clone(),
                arguments: function.arguments.clone(),
            })
        })
        .collect()
}
