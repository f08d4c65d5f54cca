use utoipa::{
    Modify, Number,
    openapi::{
        KnownFormat, OpenApi, RefOr, Schema, SchemaFormat,
        path::PathItem,
        schema::{AdditionalProperties, ArrayItems, Object},
    },
};

/// Adds the bounds of Rust's integer types to all integers of a document, by their format. They
/// are enforced: numbers out of range are refused.
#[derive(Debug, Clone, Copy)]
pub struct IntegerBounds;

impl Modify for IntegerBounds {
    fn modify(&self, document: &mut OpenApi) {
        for item in document.paths.paths.values_mut() {
            path_item(item);
        }
        let components = document.components.iter_mut();
        for schema in components.flat_map(|components| components.schemas.values_mut()) {
            schema_ref(schema);
        }
    }
}

fn path_item(item: &mut PathItem) {
    let operations = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ];
    for operation in operations.into_iter().flatten() {
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(parameter) = parameter
                && let Some(schema) = &mut parameter.schema
            {
                schema_ref(schema);
            }
        }
    }
}

fn schema_ref(schema: &mut RefOr<Schema>) {
    if let RefOr::T(schema) = schema {
        bound(schema);
    }
}

fn bound(schema: &mut Schema) {
    match schema {
        Schema::Object(object) => {
            integer(object);
            object.properties.values_mut().for_each(schema_ref);
            if let Some(AdditionalProperties::RefOr(values)) =
                object.additional_properties.as_deref_mut()
            {
                schema_ref(values);
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                schema_ref(items);
            }
            array.prefix_items.iter_mut().for_each(bound);
        }
        Schema::OneOf(one_of) => one_of.items.iter_mut().for_each(schema_ref),
        Schema::AllOf(all_of) => all_of.items.iter_mut().for_each(schema_ref),
        Schema::AnyOf(any_of) => any_of.items.iter_mut().for_each(schema_ref),
        _ => {}
    }
}

fn integer(object: &mut Object) {
    let Some(SchemaFormat::KnownFormat(format)) = &object.format else {
        return;
    };
    let (name, min, max) = match format {
        KnownFormat::Int64 => ("int64", Number::Int(isize::MIN), Number::Int(isize::MAX)),
        KnownFormat::UInt8 => ("uint8", Number::Int(0), Number::UInt(u8::MAX.into())),
        KnownFormat::UInt16 => ("uint16", Number::Int(0), Number::UInt(u16::MAX.into())),
        KnownFormat::UInt32 => ("uint32", Number::Int(0), Number::UInt(u32::MAX as usize)),
        KnownFormat::UInt64 => ("uint64", Number::Int(0), Number::UInt(usize::MAX)),
        _ => return,
    };
    object.minimum.get_or_insert(min);
    object.maximum.get_or_insert(max);
    // utoipa writes `u-int32`, which is not in the registry of formats.
    object.format = Some(SchemaFormat::Custom(name.to_owned()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::{OpenApi as _, ToSchema};

    use super::*;

    #[derive(ToSchema)]
    #[allow(dead_code, reason = "only described")]
    struct Numbers {
        list: Vec<Option<u8>>,
        #[schema(minimum = 1)]
        count: u64,
        signed: i64,
    }

    #[derive(utoipa::OpenApi)]
    #[openapi(components(schemas(Numbers)), modifiers(&IntegerBounds))]
    struct Document;

    #[test]
    fn integers_have_the_bounds_of_their_types() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let fields = &document["components"]["schemas"]["Numbers"]["properties"];
        assert_eq!(
            fields["list"]["items"],
            json!({"type": ["integer", "null"], "format": "uint8", "minimum": 0, "maximum": 255})
        );
        assert_eq!(
            fields["count"],
            json!({"type": "integer", "format": "uint64", "minimum": 1, "maximum": u64::MAX})
        );
        assert_eq!(
            fields["signed"],
            json!({"type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX})
        );
    }
}
