use utoipa::openapi::{
    RefOr,
    schema::{ObjectBuilder, Schema, Type},
};

use crate::schemas::{SchemaRef, any_of, object, optional, required, strings, text};

/// Items of an event stream: each is valid under at least one of these schemas.
pub fn events(of: impl IntoIterator<Item = SchemaRef>) -> SchemaRef {
    any_of(of)
}

/// Server-sent event whose data is JSON. `name` is its type; `None` if the stream does not name
/// types.
pub fn event_of_json(name: Option<&'static str>, data: SchemaRef) -> SchemaRef {
    let data: RefOr<Schema> = ObjectBuilder::new()
        .schema_type(Type::String)
        .content_media_type("application/json")
        .content_schema(Some(data))
        .into();
    event(name, data)
}

/// Server-sent event whose data is a string.
pub fn event(name: Option<&'static str>, data: SchemaRef) -> SchemaRef {
    object([
        match name {
            Some(name) => required("event", strings([name])),
            None => optional("event", text()),
        },
        required("data", data),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schemas::any;

    #[test]
    fn an_event_has_a_type_and_data() {
        let stream = events([event_of_json(Some("end"), any()), event(None, text())]);
        assert_eq!(
            serde_json::to_value(&stream).unwrap(),
            json!({"anyOf": [
                {"type": "object", "required": ["event", "data"], "properties": {
                    "event": {"type": "string", "enum": ["end"]},
                    "data": {"type": "string", "contentMediaType": "application/json",
                             "contentSchema": {}},
                }},
                {"type": "object", "required": ["data"], "properties": {
                    "event": {"type": "string"}, "data": {"type": "string"},
                }},
            ]})
        );
    }
}
