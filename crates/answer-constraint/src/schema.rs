//! Checks a JSON schema before compilation: unsupported keywords, nesting, and multiples that
//! would take too long.

use diagnostics::{Diagnostic, excerpt};
use serde_json::{Map, Value, json};

use crate::errors;

/// Unsupported keywords that would affect the output.
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
    // Options of llguidance, which clients must not set.
    "x-guidance",
    "$dynamicAnchor",
    "$recursiveAnchor",
];
/// Enforced values of `format`. Any other value is an annotation (JSON Schema 2020-12, 7.2.1) and
/// is ignored.
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
/// Keywords whose value maps names to schemas.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords whose value is a schema or a list of schemas.
const DIRECT: [&str; 7] = [
    "items",
    "prefixItems",
    "additionalItems",
    "additionalProperties",
    "anyOf",
    "allOf",
    "oneOf",
];
/// Maximum nesting of schemas; the JSON parser has the same limit.
const MAX_DEPTH: usize = 128;
/// Maximum common multiple of all `multipleOf`: the automaton has as many states.
const MAX_MULTIPLE: u64 = 100_000;
/// Separators of entries and of a name and its value, with at most one space. No other white
/// space is allowed, because small models tend to continue with it until the token limit.
const SEPARATORS: [&str; 2] = [r",\x20?", r":\x20?"];

/// Validates a schema and returns it with llguidance's options.
pub(crate) fn prepare(schema: &Value) -> Result<Value, Diagnostic> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        other => other.clone(),
    };
    let mut multiple = 1;
    check(&mut schema, "", 0, &mut multiple)?;
    match &mut schema {
        Value::Object(root) => {
            let [item, key] = SEPARATORS;
            let options = json!({
                "whitespace_flexible": false, "item_separator": item, "key_separator": key
            });
            root.insert("x-guidance".into(), options);
            Ok(schema)
        }
        Value::Bool(_) => Err(errors::schema_false()),
        other => Err(errors::not_a_schema(other)),
    }
}

/// Checks the schema at `path` and all schemas in it, and removes keywords without effect.
/// `multiple` accumulates the common multiple of all `multipleOf`.
pub(crate) fn check(
    schema: &mut Value,
    path: &str,
    depth: usize,
    multiple: &mut u64,
) -> Result<(), Diagnostic> {
    if depth > MAX_DEPTH {
        return Err(errors::nested_too_deeply(MAX_DEPTH));
    }
    match schema {
        Value::Object(fields) => {
            check_keywords(fields, path)?;
            let step = fields.get("multipleOf").and_then(significant);
            if let Some(step) = step {
                *multiple = common_multiple(*multiple, step)
                    .filter(|all| *all <= MAX_MULTIPLE)
                    .ok_or_else(|| errors::multiple_too_large(shown(path), MAX_MULTIPLE))?;
            }
            for (name, value) in fields {
                let location = || format!("{path}/{}", excerpt(name, 60));
                if DIRECT.contains(&name.as_str()) {
                    check(value, &location(), depth + 1, multiple)?;
                } else if NAMED.contains(&name.as_str())
                    && let Value::Object(schemas) = value
                {
                    let location = location();
                    for (key, schema) in schemas {
                        let location = format!("{location}/{}", excerpt(key, 60));
                        check(schema, &location, depth + 1, multiple)?;
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

fn check_keywords(fields: &mut Map<String, Value>, path: &str) -> Result<(), Diagnostic> {
    // Has no effect, but many schema generators emit it.
    if fields.get("uniqueItems") == Some(&Value::Bool(false)) {
        fields.remove("uniqueItems");
    }
    if let Some(Value::String(format)) = fields.get("format")
        && !FORMATS.contains(&format.as_str())
    {
        fields.remove("format");
    }
    match UNSUPPORTED.iter().find(|name| fields.contains_key(**name)) {
        Some(name) => Err(errors::unsupported_keyword(name, shown(path))),
        None => Ok(()),
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// Returns the significant digits of a number as an integer: 25 for 0.25.
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
    // Digits that do not fit exceed every limit.
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
    use diagnostics::Code;

    use super::*;

    #[test]
    fn names_unsupported_keyword_and_its_path() {
        let error = prepare(&json!({"type": "object", "properties": {
            "a": {"anyOf": [{"type": "null"}, {"items": {"not": {}}}]}
        }}))
        .unwrap_err();
        assert_eq!(error.code, Code::UnsupportedParameter);
        assert_eq!(
            error.message,
            "`constraint`: `not` at `/properties/a/anyOf/1/items` is not supported"
        );
        // Names of properties and constant values are not keywords.
        prepare(&json!({"properties": {"not": {"const": {"if": 1}}}, "uniqueItems": false}))
            .unwrap();
        assert_eq!(
            prepare(&json!({"x-guidance": {}})).unwrap_err().message,
            "`constraint`: `x-guidance` at `/` is not supported"
        );
    }

    #[test]
    fn removes_formats_that_are_annotations() {
        let kept = |format: &str| {
            let schema = prepare(&json!({"type": "string", "format": format})).unwrap();
            schema.get("format").is_some()
        };
        assert!(FORMATS.iter().all(|format| kept(format)));
        assert!(!kept("password") && !kept("unknown"));
        let named = json!({"properties": {"format": {"type": "string"}}});
        assert_eq!(prepare(&named).unwrap()["properties"], named["properties"]);
    }

    #[test]
    fn limits_the_common_multiple() {
        assert_eq!(significant(&json!(0.25)), Some(25));
        assert_eq!(significant(&json!(10.0)), Some(1));
        assert_eq!(significant(&json!(1e-7)), Some(1));
        assert_eq!(significant(&json!(u64::MAX)), Some(u64::MAX));
        prepare(&json!({"multipleOf": 99991})).unwrap();
        let both = json!({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]});
        for (schema, path) in [(json!({"multipleOf": 1_000_003}), "/"), (both, "/allOf/1")] {
            assert_eq!(
                prepare(&schema).unwrap_err().message,
                format!(
                    "`constraint`: too complex: with the `multipleOf` at `{path}`, the common \
                     multiple exceeds 100000"
                )
            );
        }
    }

    #[test]
    fn rejects_values_that_are_not_schemas() {
        for (wrong, reason) in [
            (json!(false), "no text satisfies the schema `false`"),
            (json!(7), "a schema is a JSON object, not `7`"),
            (json!([]), "a schema is a JSON object, not `[]`"),
            (json!("x"), "a schema is a JSON object, not `\"x\"`"),
            (Value::Null, "a schema is a JSON object, not `null`"),
        ] {
            let error = prepare(&wrong).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest);
            assert_eq!(error.message, format!("`constraint`: {reason}"));
        }
        prepare(&json!(true)).unwrap();
        let mut deep = json!({});
        for _ in 0..200 {
            deep = json!({ "items": deep });
        }
        assert_eq!(
            prepare(&deep).unwrap_err().message,
            "`constraint`: too complex: its schemas are nested deeper than 128 levels"
        );
    }
}
