use diagnostics::Diagnostic;
use serde_json::Value;
use worker_contract::Constraint;

use crate::errors::{
    cannot_be_combined, must_be, must_be_object, must_be_string, not_json, unknown_format,
};

/// OpenAI's own field.
const FORMAT: &str = "response_format";
/// vLLM's extensions.
const GUIDED: [&str; 4] = [
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "guided_choice",
];
/// Maximum number of strings in `guided_choice`.
pub(super) const MAX_GUIDED_CHOICES: usize = 1000;

/// Constraint of the output and the field that set it.
#[derive(Debug, PartialEq)]
pub(super) struct ParsedConstraint {
    pub constraint: Option<Constraint>,
    /// `response_format` if no field sets a constraint.
    pub field: &'static str,
}

/// Returns the constraint of a body, whichever field sets it.
pub(super) fn parse(body: &Value) -> Result<ParsedConstraint, Diagnostic> {
    let mut constraints = Vec::new();
    if let Some(constraint) = non_null(body, FORMAT).map(format).transpose()?.flatten() {
        constraints.push((FORMAT, constraint));
    }
    for field in GUIDED {
        if let Some(value) = non_null(body, field) {
            constraints.push((field, guided(field, value)?));
        }
    }
    if let [(first, _), (second, _), ..] = constraints.as_slice() {
        return Err(cannot_be_combined(second, first));
    }
    let (field, constraint) = match constraints.pop() {
        Some((field, constraint)) => (field, Some(constraint)),
        None => (FORMAT, None),
    };
    Ok(ParsedConstraint { constraint, field })
}

fn non_null<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn format(format: &Value) -> Result<Option<Constraint>, Diagnostic> {
    const TYPE: &str = "response_format.type";
    let kind = format.get("type").and_then(Value::as_str);
    match kind {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Constraint::JsonObject)),
        Some("json_schema") => json_schema(format).map(Some),
        Some(other) => Err(unknown_format(TYPE, other)),
        None => Err(must_be_string(TYPE)),
    }
}

fn json_schema(format: &Value) -> Result<Constraint, Diagnostic> {
    let Some(described) = format.get("json_schema").and_then(Value::as_object) else {
        return Err(must_be(
            "response_format.json_schema",
            "an object with a `schema`",
        ));
    };
    let strict = match described.get("strict") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(strict)) => *strict,
        Some(_) => {
            return Err(must_be(
                "response_format.json_schema.strict",
                "true or false",
            ));
        }
    };
    match described.get("schema") {
        Some(schema) if schema.is_object() && strict => {
            Ok(Constraint::StrictJsonSchema(schema.clone()))
        }
        Some(schema) if schema.is_object() => Ok(Constraint::JsonSchema(schema.clone())),
        _ => Err(must_be_object("response_format.json_schema.schema")),
    }
}

fn guided(field: &str, value: &Value) -> Result<Constraint, Diagnostic> {
    match (field, value) {
        ("guided_json", Value::Object(_)) => Ok(Constraint::JsonSchema(value.clone())),
        ("guided_json", Value::String(text)) => serde_json::from_str(text)
            .map(Constraint::JsonSchema)
            .map_err(|error| not_json(field, &error)),
        ("guided_regex", Value::String(text)) => Ok(Constraint::Regex(text.clone())),
        ("guided_grammar", Value::String(text)) => Ok(Constraint::Grammar(text.clone())),
        ("guided_choice", value) => choice(field, value),
        ("guided_json", _) => Err(must_be(field, "a JSON schema")),
        _ => Err(must_be_string(field)),
    }
}

/// Returns a grammar that matches one of the strings. Lark's literals are written as JSON's.
fn choice(field: &str, value: &Value) -> Result<Constraint, Diagnostic> {
    let choices = value.as_array().map_or(&[][..], Vec::as_slice);
    let valid = (1..=MAX_GUIDED_CHOICES).contains(&choices.len())
        && choices
            .iter()
            .all(|c| c.as_str().is_some_and(|c| !c.is_empty()));
    if !valid {
        return Err(must_be(
            field,
            format_args!("an array of 1 to {MAX_GUIDED_CHOICES} non-empty strings"),
        ));
    }
    let literals: Vec<String> = choices.iter().map(Value::to_string).collect();
    Ok(Constraint::Grammar(format!(
        "start: {}",
        literals.join(" | ")
    )))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_sets_its_constraint() {
        let schema = json!({"type": "object"});
        let named = json!({"name": "n", "strict": true, "schema": schema});
        for (body, expected) in [
            (json!({}), None),
            (json!({"response_format": null}), None),
            (json!({"response_format": {"type": "text"}}), None),
            (
                json!({"response_format": {"type": "json_object"}}),
                Some(Constraint::JsonObject),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": named}}),
                Some(Constraint::StrictJsonSchema(schema.clone())),
            ),
            (
                json!({"guided_json": schema, "response_format": {"type": "text"}}),
                Some(Constraint::JsonSchema(schema.clone())),
            ),
            (
                json!({"guided_json": schema.to_string()}),
                Some(Constraint::JsonSchema(schema.clone())),
            ),
            (
                json!({"guided_regex": "a+"}),
                Some(Constraint::Regex("a+".into())),
            ),
            (
                json!({"guided_grammar": "start: \"a\""}),
                Some(Constraint::Grammar("start: \"a\"".into())),
            ),
            (
                json!({"guided_choice": ["a\"b", "é\n"]}),
                Some(Constraint::Grammar("start: \"a\\\"b\" | \"é\\n\"".into())),
            ),
        ] {
            assert_eq!(parse(&body).unwrap().constraint, expected, "{body}");
        }
    }

    #[test]
    fn an_invalid_value_is_refused_with_its_field() {
        let format = |format: Value| json!({ "response_format": format });
        let schema = |fields: Value| format(json!({"type": "json_schema", "json_schema": fields}));
        for (body, param) in [
            (format(json!("json")), "response_format.type"),
            (format(json!({"type": "xml"})), "response_format.type"),
            (
                format(json!({"type": "json_schema"})),
                "response_format.json_schema",
            ),
            (
                schema(json!({"name": "n"})),
                "response_format.json_schema.schema",
            ),
            (
                schema(json!({"schema": "x"})),
                "response_format.json_schema.schema",
            ),
            (
                schema(json!({"schema": {}, "strict": 1})),
                "response_format.json_schema.strict",
            ),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"guided_json": 1}), "guided_json"),
            (json!({"guided_regex": {}}), "guided_regex"),
            (json!({"guided_grammar": []}), "guided_grammar"),
            (json!({"guided_choice": []}), "guided_choice"),
            (json!({"guided_choice": ["a", 1]}), "guided_choice"),
            (
                json!({"guided_regex": "a", "response_format": {"type": "json_object"}}),
                "guided_regex",
            ),
        ] {
            let error = parse(&body).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest, "{body}");
            assert_eq!(error.param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn the_field_that_sets_the_constraint_is_returned() {
        let json_object = json!({"type": "json_object"});
        for (body, field) in [
            (json!({}), "response_format"),
            (json!({"response_format": json_object}), "response_format"),
            (json!({"guided_regex": "a"}), "guided_regex"),
            (json!({"guided_choice": ["a"]}), "guided_choice"),
        ] {
            assert_eq!(parse(&body).unwrap().field, field, "{body}");
        }
    }
}
