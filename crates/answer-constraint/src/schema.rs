//! What can be said of a JSON schema before it is compiled: where an unsupported keyword
//! stands, and numbers that would take too long.

use diagnostics::{Code, Diagnostic, excerpt};
use serde_json::{Map, Value, json};

use crate::fault::{invalid, too_complex};

/// Keywords that would change the answer and are not supported.
const UNSUPPORTED: [&str; 19] = [
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    // Settings of the grammar's compiler, which are not the client's.
    "x-guidance",
    "$dynamicAnchor",
    "$recursiveAnchor",
];
/// What texts can be kept to. Any other `format` tells what a text means (JSON Schema 2020-12,
/// 7.2.1), and nothing of what it looks like.
const FORMATS: [&str; 10] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "time",
    "uri",
    "uuid",
];
/// Keywords with a schema under every name.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords with a schema or a list of them.
const DIRECT: [&str; 7] = [
    "items",
    "prefixItems",
    "additionalItems",
    "additionalProperties",
    "anyOf",
    "allOf",
    "oneOf",
];
/// Deepest nesting of schemas; JSON itself is read to 128 levels.
const MOST_DEPTH: usize = 128;
/// Largest common multiple of every `multipleOf`: an expression for it has as many states.
const MOST_MULTIPLE: u64 = 100_000;
/// What divides entries, and a name from its value: models write one blank there or none.
/// There are no others, since a small model that does not know what to say goes on with blanks
/// and line ends until its answer is full.
const DIVIDERS: [&str; 2] = [r",\x20?", r":\x20?"];

/// The schema in the form that is compiled.
pub(crate) fn prepared(schema: &Value) -> Result<Value, Diagnostic> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        other => other.clone(),
    };
    let mut multiple = 1;
    check(&mut schema, "", 0, &mut multiple)?;
    match &mut schema {
        Value::Object(root) => {
            let [item, key] = DIVIDERS;
            let form = json!({
                "whitespace_flexible": false, "item_separator": item, "key_separator": key
            });
            root.insert("x-guidance".into(), form);
            Ok(schema)
        }
        Value::Bool(_) => Err(invalid("no text satisfies the schema `false`")),
        other => Err(invalid(format!(
            "a schema is a JSON object, not `{}`",
            excerpt(&other.to_string(), 40)
        ))),
    }
}

/// Checks one schema, which stands at `path`, and those in it.
pub(crate) fn check(
    schema: &mut Value,
    path: &str,
    depth: usize,
    multiple: &mut u64,
) -> Result<(), Diagnostic> {
    if depth > MOST_DEPTH {
        return Err(too_complex("its schemas are nested too deeply"));
    }
    match schema {
        Value::Object(fields) => {
            keywords(fields, path)?;
            let step = fields.get("multipleOf").and_then(significant);
            if let Some(step) = step {
                *multiple = common_multiple(*multiple, step)
                    .filter(|all| *all <= MOST_MULTIPLE)
                    .ok_or_else(|| {
                        too_complex(&format!("the `multipleOf` at `{}`", shown(path)))
                    })?;
            }
            for (name, value) in fields {
                let place = || format!("{path}/{}", excerpt(name, 60));
                if DIRECT.contains(&name.as_str()) {
                    check(value, &place(), depth + 1, multiple)?;
                } else if NAMED.contains(&name.as_str())
                    && let Value::Object(schemas) = value
                {
                    let place = place();
                    for (key, schema) in schemas {
                        let place = format!("{place}/{}", excerpt(key, 60));
                        check(schema, &place, depth + 1, multiple)?;
                    }
                }
            }
            Ok(())
        }
        Value::Array(schemas) => schemas
            .iter_mut()
            .enumerate()
            .try_for_each(|(nth, schema)| {
                check(schema, &format!("{path}/{nth}"), depth + 1, multiple)
            }),
        _ => Ok(()),
    }
}

fn keywords(fields: &mut Map<String, Value>, path: &str) -> Result<(), Diagnostic> {
    // Asks for nothing, and many generators write it.
    if fields.get("uniqueItems") == Some(&Value::Bool(false)) {
        fields.remove("uniqueItems");
    }
    if let Some(Value::String(format)) = fields.get("format")
        && !FORMATS.contains(&format.as_str())
    {
        fields.remove("format");
    }
    match UNSUPPORTED.iter().find(|name| fields.contains_key(**name)) {
        Some(name) => {
            let message = format!("`{name}` at `{}` is not supported", shown(path));
            let mut error = invalid(message).hint("leave the keyword out, or say it otherwise");
            error.code = Code::UnsupportedParameter;
            Err(error)
        }
        None => Ok(()),
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// The digits of a number without its decimal point: 25 of 0.25.
fn significant(number: &Value) -> Option<u64> {
    let text = number.as_number()?.to_string();
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = match digits.trim_start_matches('0') {
        "" => return None,
        // `5.0` is 5.
        digits if mantissa.contains('.') => digits.trim_end_matches('0'),
        digits => digits,
    };
    // What does not fit is too large.
    Some(digits.parse().unwrap_or(u64::MAX))
}

fn common_multiple(a: u64, b: u64) -> Option<u64> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).checked_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_keyword_is_named_with_its_place() {
        let error = prepared(&json!({"type": "object", "properties": {
            "a": {"anyOf": [{"type": "null"}, {"items": {"not": {}}}]}
        }}))
        .unwrap_err();
        assert_eq!(error.code, Code::UnsupportedParameter);
        assert_eq!(
            error.message,
            "`constraint`: `not` at `/properties/a/anyOf/1/items` is not supported"
        );
        // A property may have any name, and a value may be anything.
        prepared(&json!({"properties": {"not": {"const": {"if": 1}}}, "uniqueItems": false}))
            .unwrap();
        assert!(prepared(&json!({"x-guidance": {}})).is_err());
    }

    #[test]
    fn a_format_that_no_text_can_be_kept_to_is_a_remark() {
        let kept = |format: &str| {
            let schema = prepared(&json!({"type": "string", "format": format})).unwrap();
            schema.get("format").is_some()
        };
        assert!(FORMATS.iter().all(|format| kept(format)));
        assert!(!kept("password") && !kept("unknown"));
        let named = json!({"properties": {"format": {"type": "string"}}});
        assert_eq!(prepared(&named).unwrap()["properties"], named["properties"]);
    }

    #[test]
    fn multiples_are_bounded_together() {
        assert_eq!(significant(&json!(0.25)), Some(25));
        assert_eq!(significant(&json!(10.0)), Some(1));
        assert_eq!(significant(&json!(1e-7)), Some(1));
        assert_eq!(significant(&json!(u64::MAX)), Some(u64::MAX));
        prepared(&json!({"multipleOf": 99991})).unwrap();
        assert!(prepared(&json!({"multipleOf": 1_000_003})).is_err());
        let both = json!({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]});
        assert!(prepared(&both).unwrap_err().message.contains("/allOf/1"));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for wrong in [json!(false), json!(7), json!([]), json!("x"), Value::Null] {
            assert_eq!(prepared(&wrong).unwrap_err().code, Code::InvalidRequest);
        }
        prepared(&json!(true)).unwrap();
        let mut deep = json!({});
        for _ in 0..200 {
            deep = json!({ "items": deep });
        }
        assert!(prepared(&deep).unwrap_err().message.contains("deeply"));
    }
}
