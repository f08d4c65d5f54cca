//! Arguments of calls without properties that their schema does not name.

use serde_json::Value;

use crate::subschemas::each_subschema;

/// Keywords whose schemas apply to the same value as their parent.
const IN_PLACE: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// Forbids further properties in objects whose schema has `properties` but says nothing about
/// others. JSON Schema allows them, but a model that is forced to call invents them.
///
/// A schema that combines the properties of several schemas in one object remains as it is,
/// because each of them would forbid those of the others.
pub(crate) fn close_objects(schema: &mut Value) {
    if !combines(schema) {
        close(schema);
    }
}

fn close(schema: &mut Value) {
    if let Value::Object(fields) = schema
        && fields.contains_key("properties")
        && !fields.contains_key("additionalProperties")
    {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    visit(schema, &mut close);
}

/// Whether an object in the schema can have properties from several schemas.
fn combines(schema: &mut Value) -> bool {
    let Value::Object(fields) = &*schema else {
        return false;
    };
    let has_parts = IN_PLACE.iter().any(|name| fields.contains_key(*name));
    let all = fields.get("allOf").and_then(Value::as_array);
    if all.is_some_and(|all| all.len() > 1) || has_parts && fields.contains_key("properties") {
        return true;
    }
    let mut found = false;
    visit(schema, &mut |inner| found = found || combines(inner));
    found
}

fn visit(schema: &mut Value, call: &mut dyn FnMut(&mut Value)) {
    let visited = each_subschema(schema, &mut |_, inner| {
        call(inner);
        Ok(())
    });
    debug_assert!(visited.is_ok());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn closed(mut schema: Value) -> Value {
        close_objects(&mut schema);
        schema
    }

    #[test]
    fn objects_with_properties_are_closed() {
        assert_eq!(
            closed(json!({"properties": {}})),
            json!({"properties": {}, "additionalProperties": false})
        );
        let inner = json!({"properties": {"a": {}}, "additionalProperties": false});
        assert_eq!(
            closed(json!({
                "properties": {"list": {"items": {"properties": {"a": {}}}}},
                "$defs": {"d": {"anyOf": [{"properties": {"a": {}}}, {"type": "null"}]}}
            })),
            json!({
                "properties": {"list": {"items": inner}}, "additionalProperties": false,
                "$defs": {"d": {"anyOf": [inner, {"type": "null"}]}}
            })
        );
    }

    #[test]
    fn other_schemas_remain() {
        for schema in [
            json!({"type": "object"}),
            json!({"properties": {"a": {}}, "additionalProperties": true}),
            json!({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}),
            json!({"properties": {"a": {}}, "anyOf": [{"required": ["a"]}, {"properties": {"b": {}}}]}),
            json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
            json!({"properties": {"a": {}, "o": {"properties": {}, "$ref": "#/$defs/d"}}}),
        ] {
            assert_eq!(closed(schema.clone()), schema);
        }
    }
}
