//! Prepares a JSON schema for compilation: resolves references, ignores or refuses what cannot be
//! enforced, and checks nesting and multiples that would take too long.

use diagnostics::{Diagnostic, excerpt};
use serde_json::{Map, Value, json};

use crate::{
    errors, references,
    subschemas::{MAX_DEPTH, each_subschema},
};

/// Keywords that cannot be enforced.
const UNENFORCED: [&str; 18] = [
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
    "contentSchema",
    // Options of llguidance, which clients must not set.
    "x-guidance",
];
/// Keywords that say nothing about a value. llguidance would read some of them.
const META: [&str; 6] = [
    "$schema",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
];
/// Enforced values of `format`.
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
/// Values of `format` that describe a type only, from OpenAPI.
const FORMATS_OF_TYPES: [&str; 9] = [
    "int32", "int64", "uint", "uint32", "uint64", "float", "double", "binary", "password",
];
/// Maximum common multiple of all `multipleOf`: the automaton has as many states.
const MAX_MULTIPLE: u64 = 100_000;
/// Separators of entries and of a name and its value, with at most one space. No other white
/// space is allowed, because small models tend to continue with it until the token limit.
const SEPARATORS: [&str; 2] = [r",\x20?", r":\x20?"];
/// Maximum number of keywords that a note names.
const MAX_NAMED: usize = 6;

/// How a schema is prepared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Refuse what cannot be enforced instead of ignoring it.
    pub strict: bool,
    /// Treat `oneOf` as `anyOf`.
    pub coerce_one_of: bool,
}

/// A schema that can be compiled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prepared {
    /// The schema with llguidance's options.
    pub schema: Value,
    /// What is ignored, as the end of a sentence; `None` if nothing is.
    pub ignored: Option<String>,
}

/// Validates a schema and returns it with llguidance's options.
pub(crate) fn prepare(schema: &Value, options: Options) -> Result<Prepared, Diagnostic> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        other => other.clone(),
    };
    let mut check = Check {
        multiple: 1,
        strict: options.strict,
        ignored: Vec::new(),
    };
    references::resolve(&mut schema)?;
    check.schema(&mut schema, "", 0)?;
    match &mut schema {
        Value::Object(root) => {
            let [item, key] = SEPARATORS;
            let mut guidance = json!({
                "whitespace_flexible": false, "item_separator": item, "key_separator": key
            });
            if options.coerce_one_of {
                guidance["coerce_one_of"] = Value::Bool(true);
            }
            root.insert("x-guidance".into(), guidance);
            Ok(Prepared {
                schema,
                ignored: check.ignored(),
            })
        }
        Value::Bool(_) => Err(errors::schema_false()),
        other => Err(errors::not_a_schema(other)),
    }
}

/// Checks a schema that is part of a grammar. Nothing in it is ignored.
pub(crate) fn check(schema: &mut Value, multiple: &mut u64) -> Result<(), Diagnostic> {
    let mut check = Check {
        multiple: *multiple,
        strict: true,
        ignored: Vec::new(),
    };
    check.schema(schema, "", 0)?;
    *multiple = check.multiple;
    Ok(())
}

struct Check {
    /// The common multiple of all `multipleOf`.
    multiple: u64,
    strict: bool,
    /// Keywords that are ignored, and where.
    ignored: Vec<String>,
}

impl Check {
    /// Checks the schema at `path` and all schemas in it, and removes keywords without effect.
    fn schema(&mut self, schema: &mut Value, path: &str, depth: usize) -> Result<(), Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(errors::nested_too_deeply(MAX_DEPTH));
        }
        if let Value::Object(fields) = schema {
            modernize(fields);
            self.keywords(fields, path)?;
            let step = fields.get("multipleOf").and_then(significant);
            if let Some(step) = step {
                self.multiple = common_multiple(self.multiple, step)
                    .filter(|all| *all <= MAX_MULTIPLE)
                    .ok_or_else(|| errors::multiple_too_large(&shown(path), MAX_MULTIPLE))?;
            }
        }
        each_subschema(schema, &mut |at, inner| {
            self.schema(inner, &format!("{path}{at}"), depth + 1)
        })?;
        if let Value::Object(fields) = schema {
            allow_null(fields);
        }
        Ok(())
    }

    fn keywords(&mut self, fields: &mut Map<String, Value>, path: &str) -> Result<(), Diagnostic> {
        // These have no effect, but many schema generators emit them.
        fields.retain(|name, value| !META.contains(&name.as_str()) && !is_void(name, value));
        let unenforced = |name: &str, value: &Value| match name {
            "format" => value.as_str().is_some_and(|f| !FORMATS.contains(&f)),
            "pattern" => value.as_str().is_some_and(cannot_match),
            _ => UNENFORCED.contains(&name),
        };
        let mut ignored = Vec::new();
        for (name, value) in &*fields {
            if unenforced(name, value) {
                ignored.push(name.clone());
            }
        }
        for name in ignored {
            fields.shift_remove(&name);
            self.ignore(&name, path)?;
        }
        if let Some(Value::Object(patterns)) = fields.get_mut("patternProperties") {
            let before = patterns.len();
            patterns.retain(|pattern, _| !cannot_match(pattern));
            if patterns.len() < before {
                self.ignore("patternProperties", path)?;
            }
        }
        Ok(())
    }

    fn ignore(&mut self, keyword: &str, path: &str) -> Result<(), Diagnostic> {
        if self.strict {
            return Err(errors::unsupported_keyword(keyword, &shown(path)));
        }
        self.ignored
            .push(format!("`{keyword}` at `{}`", shown(path)));
        Ok(())
    }

    fn ignored(self) -> Option<String> {
        let count = self.ignored.len();
        if count == 0 {
            return None;
        }
        let named: Vec<String> = self.ignored.into_iter().take(MAX_NAMED).collect();
        let more = match count.saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(named.join(", ") + &more)
    }
}

/// Whether a keyword allows every value, or only describes it.
fn is_void(name: &str, value: &Value) -> bool {
    match name {
        "uniqueItems" => *value == Value::Bool(false),
        "format" => value
            .as_str()
            .is_some_and(|f| FORMATS_OF_TYPES.contains(&f)),
        "propertyNames" => match value {
            Value::Bool(all) => *all,
            Value::Object(names) => names.iter().all(|(keyword, value)| {
                matches!(
                    keyword.as_str(),
                    "title" | "description" | "$comment" | "$schema"
                ) || (keyword == "type" && value == "string")
            }),
            _ => false,
        },
        // These concern the properties and items that no other keyword allows or forbids.
        "unevaluatedProperties" | "unevaluatedItems" => *value == Value::Bool(true),
        "minContains" => *value == 0,
        "dependentRequired" | "dependentSchemas" | "dependencies" => {
            value.as_object().is_some_and(Map::is_empty)
        }
        _ => false,
    }
}

/// Whether a regular expression has a meaning that no automaton has: it looks around or refers
/// back.
fn cannot_match(pattern: &str) -> bool {
    use regex_syntax::ast::ErrorKind;
    let parsed = regex_syntax::ast::parse::Parser::new().parse(pattern);
    parsed.is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::UnsupportedLookAround | ErrorKind::UnsupportedBackreference
        )
    })
}

/// Writes keywords of older drafts as those of draft 2020-12.
fn modernize(fields: &mut Map<String, Value>) {
    if fields.get("items").is_some_and(Value::is_array) {
        let items = fields.shift_remove("items").unwrap_or_default();
        let rest = fields.shift_remove("additionalItems");
        fields.insert("prefixItems".to_owned(), items);
        if let Some(rest) = rest {
            fields.insert("items".to_owned(), rest);
        }
    }
    for (bound, exclusive) in [
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
    ] {
        let Some(Value::Bool(excludes)) = fields.get(exclusive) else {
            continue;
        };
        let excludes = *excludes;
        fields.shift_remove(exclusive);
        if excludes && let Some(value) = fields.shift_remove(bound) {
            fields.insert(exclusive.to_owned(), value);
        }
    }
}

/// Writes OpenAPI's `nullable` as an alternative.
fn allow_null(fields: &mut Map<String, Value>) {
    if fields.shift_remove("nullable") != Some(Value::Bool(true)) {
        return;
    }
    let definitions: Map<String, Value> = ["$defs", "definitions"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), fields.shift_remove(name)?)))
        .collect();
    let inner = Value::Object(std::mem::take(fields));
    fields.insert("anyOf".to_owned(), json!([inner, {"type": "null"}]));
    fields.extend(definitions);
}

fn shown(path: &str) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    excerpt(path, 200)
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

    fn strict(schema: &Value) -> Result<Value, Diagnostic> {
        let options = Options {
            strict: true,
            ..Options::default()
        };
        prepare(schema, options).map(|prepared| prepared.schema)
    }

    fn prepare_any(schema: &Value) -> Result<Value, Diagnostic> {
        prepare(schema, Options::default()).map(|prepared| prepared.schema)
    }

    #[test]
    fn names_unsupported_keyword_and_its_path() {
        let schema = json!({"type": "object", "properties": {
            "a": {"anyOf": [{"type": "null"}, {"items": {"not": {}}}]}
        }});
        let error = strict(&schema).unwrap_err();
        assert_eq!(error.code, Code::UnsupportedParameter);
        assert_eq!(
            error.message,
            "`constraint`: `not` at `/properties/a/anyOf/1/items` is not supported"
        );
        // Names of properties and constant values are not keywords.
        strict(&json!({"properties": {"not": {"const": {"if": 1}}}, "uniqueItems": false}))
            .unwrap();
        assert_eq!(
            strict(&json!({"x-guidance": {}})).unwrap_err().message,
            "`constraint`: `x-guidance` at `/` is not supported"
        );
    }

    #[test]
    fn what_cannot_be_enforced_is_ignored_and_named() {
        let schema = json!({"type": "object", "properties": {
            "a/b": {"not": {"const": 1}, "type": "integer"},
            "s": {"type": "string", "pattern": "^(?=a)b", "format": "idn-email"},
            "l": {"type": "array", "uniqueItems": true, "contains": {}}
        }, "propertyNames": {"pattern": "^a"}, "patternProperties": {"(?!x)y": {}}});
        let prepared = prepare(&schema, Options::default()).unwrap();
        assert_eq!(
            prepared.ignored.as_deref(),
            Some(
                "`propertyNames` at `/`, `patternProperties` at `/`, `not` at \
                 `/properties/a~1b`, `pattern` at `/properties/s`, `format` at `/properties/s`, \
                 `uniqueItems` at `/properties/l` and 1 more"
            )
        );
        assert_eq!(
            prepared.schema["properties"],
            json!({"a/b": {"type": "integer"}, "s": {"type": "string"}, "l": {"type": "array"}})
        );
        assert!(strict(&schema).is_err());
        for void in [
            json!({"propertyNames": true, "uniqueItems": false, "minContains": 0}),
            json!({"propertyNames": {"type": "string", "title": "Key"}}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "$comment": "c"}),
            json!({"type": "integer", "format": "int64"}),
            json!({"unevaluatedProperties": true, "dependentRequired": {}}),
        ] {
            let options = Options {
                strict: true,
                ..Options::default()
            };
            assert_eq!(prepare(&void, options).unwrap().ignored, None, "{void}");
        }
    }

    #[test]
    fn older_drafts_are_modernized() {
        let prepared = prepare_any(&json!({
            "items": [{"type": "string"}], "additionalItems": false,
            "minimum": 1, "exclusiveMinimum": true, "maximum": 2, "exclusiveMaximum": false
        }))
        .unwrap();
        for (keyword, value) in [
            ("prefixItems", json!([{"type": "string"}])),
            ("items", json!(false)),
            ("exclusiveMinimum", json!(1)),
            ("maximum", json!(2)),
        ] {
            assert_eq!(prepared[keyword], value, "{keyword}");
        }
        assert!(prepared.get("minimum").is_none() && prepared.get("exclusiveMaximum").is_none());
        let nullable = prepare_any(&json!({"type": "string", "nullable": true})).unwrap();
        assert_eq!(
            nullable["anyOf"],
            json!([{"type": "string"}, {"type": "null"}])
        );
    }

    #[test]
    fn removes_formats_that_are_annotations() {
        let kept = |format: &str| {
            let schema = prepare_any(&json!({"type": "string", "format": format})).unwrap();
            schema.get("format").is_some()
        };
        assert!(FORMATS.iter().all(|format| kept(format)));
        assert!(!kept("password") && !kept("unknown"));
        let named = json!({"properties": {"format": {"type": "string"}}});
        assert_eq!(
            prepare_any(&named).unwrap()["properties"],
            named["properties"]
        );
    }

    #[test]
    fn limits_the_common_multiple() {
        assert_eq!(significant(&json!(0.25)), Some(25));
        assert_eq!(significant(&json!(10.0)), Some(1));
        assert_eq!(significant(&json!(1e-7)), Some(1));
        assert_eq!(significant(&json!(u64::MAX)), Some(u64::MAX));
        prepare_any(&json!({"multipleOf": 99991})).unwrap();
        let both = json!({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]});
        for (schema, path) in [(json!({"multipleOf": 1_000_003}), "/"), (both, "/allOf/1")] {
            assert_eq!(
                prepare_any(&schema).unwrap_err().message,
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
            let error = prepare_any(&wrong).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest);
            assert_eq!(error.message, format!("`constraint`: {reason}"));
        }
        prepare_any(&json!(true)).unwrap();
        let mut deep = json!({});
        for _ in 0..200 {
            deep = json!({ "items": deep });
        }
        assert_eq!(
            prepare_any(&deep).unwrap_err().message,
            "`constraint`: too complex: its schemas are nested deeper than 128 levels"
        );
    }
}
