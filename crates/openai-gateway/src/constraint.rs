use diagnostics::{Diagnostic, excerpt};
use serde_json::Value;
use worker_contract::Constraint;

use crate::fields::invalid;

/// OpenAI's field.
const FORMAT: &str = "response_format";
/// Extensions, as vLLM has them.
const GUIDED: [&str; 4] = [
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "guided_choice",
];
/// Most texts to choose from.
const MOST_CHOICES: usize = 1000;

/// What the answer must match.
#[derive(Debug, PartialEq)]
pub(crate) struct AskedForm {
    pub constraint: Option<Constraint>,
    /// The field that asks for it.
    pub field: &'static str,
}

/// What the answer must match, by whichever field asks for it.
pub(crate) fn parse(body: &Value) -> Result<AskedForm, Diagnostic> {
    let mut asked = Vec::new();
    if let Some(constraint) = given(body, FORMAT).map(format).transpose()?.flatten() {
        asked.push((FORMAT, constraint));
    }
    for name in GUIDED {
        if let Some(value) = given(body, name) {
            asked.push((name, guided(name, value)?));
        }
    }
    if let [(first, _), (second, _), ..] = asked.as_slice() {
        return Err(invalid(
            second,
            &format!("and `{first}` cannot go together; send one"),
        ));
    }
    let (field, constraint) = match asked.pop() {
        Some((field, constraint)) => (field, Some(constraint)),
        None => (FORMAT, None),
    };
    Ok(AskedForm { constraint, field })
}

/// What a client calls the fields of a worker's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientFields {
    /// What the model is given.
    pub input: &'static str,
    /// What the answer must match.
    pub constraint: &'static str,
}

/// A worker's error, with the names that the client knows its fields by.
pub fn in_clients_words(error: Diagnostic, fields: ClientFields) -> Diagnostic {
    let mut error = error
        .renamed("constraint", fields.constraint)
        .renamed("input", fields.input);
    // Every edge has these beside the others.
    if let Some(name) = error
        .param
        .as_deref()
        .and_then(|p| p.strip_prefix("sampling."))
    {
        error.param = Some(name.into());
    }
    error
}

fn given<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn format(format: &Value) -> Result<Option<Constraint>, Diagnostic> {
    let kind = format.get("type").and_then(Value::as_str);
    match kind {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Constraint::JsonObject)),
        Some("json_schema") => json_schema(format).map(Some),
        Some(other) => Err(invalid(
            "response_format.type",
            &format!("is \"{}\", which is no format", excerpt(other, 40)),
        )
        .hint("a format is `text`, `json_object` or `json_schema`")),
        None => Err(invalid("response_format.type", "must be a text")),
    }
}

fn json_schema(format: &Value) -> Result<Constraint, Diagnostic> {
    let Some(described) = format.get("json_schema").and_then(Value::as_object) else {
        return Err(invalid(
            "response_format.json_schema",
            "must be an object with a `schema`",
        ));
    };
    // Every schema is kept to exactly, strict or not.
    if !matches!(
        described.get("strict"),
        None | Some(Value::Null | Value::Bool(_))
    ) {
        return Err(invalid(
            "response_format.json_schema.strict",
            "must be true or false",
        ));
    }
    match described.get("schema") {
        Some(schema) if schema.is_object() => Ok(Constraint::JsonSchema(schema.clone())),
        _ => Err(invalid(
            "response_format.json_schema.schema",
            "must be an object",
        )),
    }
}

fn guided(name: &str, value: &Value) -> Result<Constraint, Diagnostic> {
    match (name, value) {
        ("guided_json", Value::Object(_)) => Ok(Constraint::JsonSchema(value.clone())),
        ("guided_json", Value::String(text)) => serde_json::from_str(text)
            .map(Constraint::JsonSchema)
            .map_err(|error| invalid(name, &format!("is no JSON: {error}"))),
        ("guided_regex", Value::String(text)) => Ok(Constraint::Regex(text.clone())),
        ("guided_grammar", Value::String(text)) => Ok(Constraint::Grammar(text.clone())),
        ("guided_choice", Value::Array(choices)) => choice(choices),
        ("guided_json", _) => Err(invalid(name, "must be a schema")),
        ("guided_choice", _) => Err(invalid(name, "must be a list of texts")),
        _ => Err(invalid(name, "must be a text")),
    }
}

/// One of some texts: a grammar, whose texts are written as in JSON.
fn choice(choices: &[Value]) -> Result<Constraint, Diagnostic> {
    let fits = !choices.is_empty()
        && choices.len() <= MOST_CHOICES
        && choices
            .iter()
            .all(|c| c.as_str().is_some_and(|c| !c.is_empty()));
    if !fits {
        return Err(invalid(
            "guided_choice",
            &format!("must be a list of 1 to {MOST_CHOICES} texts that are not empty"),
        ));
    }
    let written: Vec<String> = choices.iter().map(Value::to_string).collect();
    Ok(Constraint::Grammar(format!(
        "start: {}",
        written.join(" | ")
    )))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_becomes_its_constraint() {
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
                Some(Constraint::JsonSchema(schema.clone())),
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
    fn what_is_wrong_is_named() {
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
            assert_eq!(error.code, Code::InvalidRequest);
            assert_eq!(error.param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn a_workers_refusal_names_the_clients_field() {
        let refusal = || invalid("constraint", "is impossible");
        for (body, field) in [
            (
                json!({"response_format": {"type": "json_object"}}),
                "response_format",
            ),
            (json!({"guided_regex": "a"}), "guided_regex"),
        ] {
            let fields = ClientFields {
                input: "messages",
                constraint: parse(&body).unwrap().field,
            };
            let told = in_clients_words(refusal(), fields);
            assert_eq!(told.param.as_deref(), Some(field));
            assert_eq!(told.message, format!("`{field}` is impossible"));
            let told = in_clients_words(invalid("input", "is long"), fields);
            assert_eq!(told.param.as_deref(), Some("messages"));
            assert_eq!(told.message, "`messages` is long");
            let told = in_clients_words(invalid("sampling.logit_bias", "is odd"), fields);
            assert_eq!(told.param.as_deref(), Some("logit_bias"));
            let told = in_clients_words(invalid("max_tokens", "is large"), fields);
            assert_eq!(told.param.as_deref(), Some("max_tokens"));
        }
    }
}
