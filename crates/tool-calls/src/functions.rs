use serde_json::{Map, Value};

/// Maximum number of references and combinations that are followed to the types of a value.
const MAX_DEPTH: u32 = 16;

/// The functions that a model may call.
#[derive(Debug, Default)]
pub struct Functions(Vec<(String, FunctionTypes)>);

/// The types of a function's arguments, by the JSON schema of its parameters.
#[derive(Debug, Default, Clone)]
pub struct FunctionTypes(Option<Value>);

impl Functions {
    /// Takes the names of functions and the JSON schemas of their parameters.
    pub fn new(functions: impl IntoIterator<Item = (String, Option<Value>)>) -> Self {
        let typed = functions
            .into_iter()
            .map(|(name, schema)| (name, FunctionTypes(schema)));
        Self(typed.collect())
    }

    /// Returns whether there is a function of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Returns whether the name of a function starts with `text`.
    pub(crate) fn may_begin(&self, text: &str) -> bool {
        self.0.iter().any(|(name, _)| name.starts_with(text))
    }

    /// Returns the names of the functions that `text` starts with, the longest first.
    pub(crate) fn longest_at(&self, text: &str) -> Option<&str> {
        let names = self.0.iter().map(|(name, _)| name.as_str());
        names
            .filter(|name| !name.is_empty() && text.starts_with(name))
            .max_by_key(|name| name.len())
    }

    pub(crate) fn types(&self, name: &str) -> FunctionTypes {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map(|(_, types)| types.clone()).unwrap_or_default()
    }
}

/// A set of JSON types, one bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Types(u8);

impl Types {
    const ANY: Self = Self(0b11_1111);
    const STRING: Self = Self(1);

    fn named(name: &str) -> Self {
        Self(match name {
            "string" => 1,
            "number" | "integer" => 2,
            "boolean" => 4,
            "null" => 8,
            "array" => 16,
            "object" => 32,
            _ => Self::ANY.0,
        })
    }

    fn of(value: &Value) -> Self {
        Self::named(match value {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
            Value::Null => "null",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        })
    }

    fn union(all: impl Iterator<Item = Self>) -> Self {
        Self(all.fold(0, |bits, types| bits | types.0))
    }

    fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl FunctionTypes {
    /// Takes the JSON schema of the parameters.
    pub fn new(schema: Option<Value>) -> Self {
        Self(schema)
    }

    /// Returns whether an argument is always a string.
    pub fn is_string(&self, argument: &str) -> bool {
        self.argument(argument) == Types::STRING
    }

    /// Converts the plain text of an argument to JSON. It stays a string where only a string is
    /// allowed; otherwise it is taken as a literal if its type is allowed.
    pub(crate) fn convert(&self, argument: &str, text: &str) -> String {
        let types = self.argument(argument);
        let string = || Value::from(text).to_string();
        if types == Types::STRING {
            return string();
        }
        let literal = text.trim();
        let literal = match serde_json::from_str::<Value>(literal) {
            Ok(value) => Some((literal.to_owned(), value)),
            Err(_) => crate::literal::value(literal).and_then(|json| {
                let value = serde_json::from_str(&json).ok()?;
                Some((json, value))
            }),
        };
        match literal {
            Some((json, value)) if types.contains(Types::of(&value)) => json,
            Some((json, _)) if !types.contains(Types::STRING) => json,
            _ => string(),
        }
    }

    /// Returns whether an argument that begins with this text is a string, whatever follows.
    pub(crate) fn begins_string(&self, argument: &str, text: &str) -> bool {
        let types = self.argument(argument);
        let may_be_literal = |c: char| c.is_ascii_digit() || "{[('\"+-.tfnTFN".contains(c);
        let first = text.trim_start().chars().next();
        types == Types::STRING
            || types.contains(Types::STRING) && first.is_some_and(|c| !may_be_literal(c))
    }

    fn argument(&self, name: &str) -> Types {
        let Some(Value::Object(root)) = &self.0 else {
            return Types::ANY;
        };
        let properties = root.get("properties").and_then(Value::as_object);
        match properties.and_then(|properties| properties.get(name)) {
            Some(schema) => types(schema, root, 0),
            None => Types::ANY,
        }
    }
}

fn types(schema: &Value, root: &Map<String, Value>, depth: u32) -> Types {
    let Value::Object(fields) = schema else {
        return Types::ANY;
    };
    if depth > MAX_DEPTH {
        return Types::ANY;
    }
    let list = |key: &str| fields.get(key).and_then(Value::as_array);
    let of_all = |schemas: &Vec<Value>| {
        Types::union(schemas.iter().map(|schema| types(schema, root, depth + 1)))
    };
    let found = if let Some(value) = fields.get("const") {
        Types::of(value)
    } else if let Some(values) = list("enum") {
        Types::union(values.iter().map(Types::of))
    } else if let Some(Value::String(name)) = fields.get("type") {
        Types::named(name)
    } else if let Some(names) = list("type") {
        Types::union(names.iter().filter_map(Value::as_str).map(Types::named))
    } else if let Some(Value::String(reference)) = fields.get("$ref") {
        match resolve(reference, root) {
            Some(schema) => types(schema, root, depth + 1),
            None => Types::ANY,
        }
    } else if let Some(schemas) = list("anyOf").or_else(|| list("oneOf")) {
        of_all(schemas)
    } else if let Some(schemas) = list("allOf") {
        let each = schemas.iter().map(|schema| types(schema, root, depth + 1));
        Types(each.fold(Types::ANY.0, |bits, types| bits & types.0))
    } else {
        Types::ANY
    };
    if fields.get("nullable") == Some(&Value::Bool(true)) {
        return Types(found.0 | Types::named("null").0);
    }
    found
}

/// Resolves a local reference, `#/$defs/name`. References elsewhere have any type.
fn resolve<'a>(reference: &str, root: &'a Map<String, Value>) -> Option<&'a Value> {
    let (first, rest) = match reference.strip_prefix("#/")?.split_once('/') {
        Some((first, rest)) => (first, format!("/{rest}")),
        None => (reference.strip_prefix("#/")?, String::new()),
    };
    root.get(first)?.pointer(&rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_converted_by_the_type_of_its_argument() {
        let types = FunctionTypes::new(Some(json!({
            "$defs": {"text": {"type": "string"}},
            "properties": {
                "s": {"type": "string"}, "n": {"type": "integer"}, "b": {"type": "boolean"},
                "o": {"type": "object"}, "l": {"type": "array"}, "r": {"$ref": "#/$defs/text"},
                "e": {"enum": ["1", "2"]}, "m": {"type": ["string", "null"]},
                "u": {"anyOf": [{"type": "string"}, {"type": "number"}]},
                "p": {"type": "string", "nullable": true}, "any": {}
            }
        })));
        for (argument, text, expected) in [
            ("s", "123", json!("123")),
            ("s", " a\"b\n", json!(" a\"b\n")),
            ("n", " 123\n", json!(123)),
            (
                "n",
                "12345678901234567890",
                json!(12_345_678_901_234_567_890_u64),
            ),
            ("n", "many", json!("many")),
            ("b", "true", json!(true)),
            ("b", "True", json!(true)),
            ("o", "{\"a\": [1]}", json!({"a": [1]})),
            ("o", "{'a': [1, None]}", json!({"a": [1, null]})),
            ("l", "[]", json!([])),
            ("r", "1", json!("1")),
            ("e", "1", json!("1")),
            ("m", "null", json!(null)),
            ("m", "5", json!("5")),
            ("u", "5", json!(5)),
            ("u", "five", json!("five")),
            ("p", "null", json!(null)),
            ("any", "5", json!(5)),
            ("any", "five", json!("five")),
            ("unknown", "{}", json!({})),
        ] {
            let converted = types.convert(argument, text);
            assert_eq!(
                serde_json::from_str::<Value>(&converted).unwrap(),
                expected,
                "{argument}: {text}"
            );
        }
        assert!(types.is_string("s") && types.is_string("r") && !types.is_string("m"));
    }
}
