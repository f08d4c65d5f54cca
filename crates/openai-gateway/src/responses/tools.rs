use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{ToolChoice, ToolDefinition};

use crate::{
    errors::{
        duplicate_tool, missing, must_be, must_be_string, not_a_function, requires, too_many,
        unknown_tool, unsupported,
    },
    openai::{MAX_TOOLS, function_definition},
};

const CHOICE: &str = "tool_choice";

/// Tool that the model may call.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ResponsesTool {
    /// Must be `function`: no tool runs on the server.
    #[schema(pattern = "^function$")]
    pub r#type: String,
    /// Name of the function, 1 to 64 letters, digits, `_` and `-`; unique in `tools`.
    #[schema(required, nullable = false, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub name: Option<String>,
    /// Description of the function, which the model reads.
    pub description: Option<String>,
    /// JSON schema of the arguments, an object. Absent: no arguments.
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// Whether calls of the function always match `parameters`. Default: false.
    #[schema(default = false)]
    pub strict: Option<bool>,
}

/// The functions that the model receives, and whether it calls them.
#[derive(Debug, PartialEq)]
pub(super) struct ChosenTools {
    pub tools: Vec<ToolDefinition>,
    pub choice: ToolChoice,
}

/// Validates and converts the tools of a request.
pub(super) fn definitions(tools: &[ResponsesTool]) -> Result<Vec<ToolDefinition>, Diagnostic> {
    if tools.len() > MAX_TOOLS {
        return Err(too_many("tools", "tools", tools.len(), MAX_TOOLS));
    }
    let mut definitions: Vec<ToolDefinition> = Vec::with_capacity(tools.len());
    for (i, tool) in tools.iter().enumerate() {
        let param = format!("tools[{i}]");
        if tool.r#type != "function" {
            return Err(not_a_function(&param, &tool.r#type));
        }
        let name_param = format!("{param}.name");
        let name = tool.name.as_ref().ok_or_else(|| missing(&name_param))?;
        if definitions.iter().any(|other| other.name == *name) {
            return Err(duplicate_tool(&name_param, name));
        }
        definitions.push(function_definition(
            &param,
            ToolDefinition {
                name: name.clone(),
                description: tool.description.clone(),
                parameters: tool.parameters.clone(),
                strict: tool.strict.unwrap_or(false),
            },
        )?);
    }
    Ok(definitions)
}

/// Applies the `tool_choice` of a request with these tools.
pub(super) fn choose(
    value: Option<&Value>,
    mut tools: Vec<ToolDefinition>,
) -> Result<ChosenTools, Diagnostic> {
    let form = || must_be(CHOICE, "`none`, `auto`, `required` or an object");
    let choice = match value {
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(word)) => mode(word).ok_or_else(form)?,
        Some(choice @ Value::Object(_)) => match choice.get("type").and_then(Value::as_str) {
            Some("function") => ToolChoice::Named(name(choice, &tools)?),
            Some("allowed_tools") => {
                let (choice, allowed) = allowed(choice, &tools)?;
                tools.retain(|tool| allowed.contains(&tool.name));
                choice
            }
            _ => return Err(unsupported(CHOICE, choice)),
        },
        Some(_) => return Err(form()),
    };
    if choice == ToolChoice::Required && tools.is_empty() {
        return Err(requires(CHOICE, "tools"));
    }
    Ok(ChosenTools { tools, choice })
}

fn mode(word: &str) -> Option<ToolChoice> {
    match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" => Some(ToolChoice::Required),
        _ => None,
    }
}

/// Returns the name in `function`, which must be one of the tools.
fn name(function: &Value, tools: &[ToolDefinition]) -> Result<String, Diagnostic> {
    let name = function
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| must_be_string("tool_choice.name"))?;
    if !tools.iter().any(|tool| tool.name == name) {
        return Err(unknown_tool(CHOICE, name));
    }
    Ok(name.to_owned())
}

/// Returns the mode and the names of an `allowed_tools`.
fn allowed(
    choice: &Value,
    tools: &[ToolDefinition],
) -> Result<(ToolChoice, Vec<String>), Diagnostic> {
    let mode = match choice.get("mode").and_then(Value::as_str) {
        Some("auto") => ToolChoice::Auto,
        Some("required") => ToolChoice::Required,
        _ => return Err(must_be("tool_choice.mode", "`auto` or `required`")),
    };
    let listed = choice
        .get("tools")
        .and_then(Value::as_array)
        .filter(|listed| !listed.is_empty())
        .ok_or_else(|| must_be("tool_choice.tools", "a non-empty array of tools"))?;
    let mut names = Vec::with_capacity(listed.len());
    for (i, tool) in listed.iter().enumerate() {
        let param = format!("tool_choice.tools[{i}]");
        match tool.get("type").and_then(Value::as_str) {
            Some("function") => names.push(name(tool, tools)?),
            Some(kind) => return Err(not_a_function(&param, kind)),
            None => return Err(must_be_string(&format!("{param}.type"))),
        }
    }
    Ok((mode, names))
}
