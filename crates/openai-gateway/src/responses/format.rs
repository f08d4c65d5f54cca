use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::Constraint;

use super::schemas::ResponsesTextFormat;
use crate::errors::{must_be, must_be_object, must_be_string, unknown_format};

/// Format of the output.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct ResponsesText {
    /// `{"type": "text"}` (the default), `{"type": "json_object"}`, or
    /// `{"type": "json_schema", "schema": …}`.
    #[schema(value_type = Option<ResponsesTextFormat>)]
    pub format: Option<Value>,
    /// Ignored.
    pub verbosity: Option<String>,
}

/// Returns the constraint that a `text.format` sets.
pub(super) fn constraint(format: Option<&Value>) -> Result<Option<Constraint>, Diagnostic> {
    const TYPE: &str = "text.format.type";
    let Some(format) = format else {
        return Ok(None);
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Constraint::JsonObject)),
        Some("json_schema") => json_schema(format).map(Some),
        Some(other) => Err(unknown_format(TYPE, other)),
        None => Err(must_be_string(TYPE)),
    }
}

fn json_schema(format: &Value) -> Result<Constraint, Diagnostic> {
    let strict = match format.get("strict") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(strict)) => *strict,
        Some(_) => return Err(must_be("text.format.strict", "true or false")),
    };
    match format.get("schema") {
        Some(schema) if schema.is_object() && strict => {
            Ok(Constraint::StrictJsonSchema(schema.clone()))
        }
        Some(schema) if schema.is_object() => Ok(Constraint::JsonSchema(schema.clone())),
        _ => Err(must_be_object("text.format.schema")),
    }
}
