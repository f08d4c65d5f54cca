use diagnostics::Diagnostic;
use serde_json::Value;

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
pub(crate) const MAX_DEPTH: usize = 128;

/// Calls `visit` with every schema directly in `schema`, and its JSON pointer from there.
pub(crate) fn each_subschema(
    schema: &mut Value,
    visit: &mut impl FnMut(String, &mut Value) -> Result<(), Diagnostic>,
) -> Result<(), Diagnostic> {
    let Value::Object(fields) = schema else {
        return Ok(());
    };
    for (keyword, value) in fields {
        if NAMED.contains(&keyword.as_str()) {
            for (name, inner) in value.as_object_mut().into_iter().flatten() {
                visit(format!("/{keyword}/{}", escaped(name)), inner)?;
            }
        } else if DIRECT.contains(&keyword.as_str()) {
            match value {
                Value::Array(schemas) => {
                    for (nth, inner) in schemas.iter_mut().enumerate() {
                        visit(format!("/{keyword}/{nth}"), inner)?;
                    }
                }
                inner => visit(format!("/{keyword}"), inner)?,
            }
        }
    }
    Ok(())
}

/// Escapes a name in a JSON pointer (RFC 6901, 3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
