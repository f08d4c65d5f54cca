use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{
        Ref, RefOr,
        schema::{
            AdditionalProperties, AllOfBuilder, AnyOfBuilder, ArrayBuilder, KnownFormat, Object,
            ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
        },
    },
};

/// A schema, or a reference to one.
pub type SchemaRef = RefOr<Schema>;

fn of_type(schema_type: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(schema_type)
}

fn values_of(schema_type: Type, values: impl IntoIterator<Item = Value>) -> SchemaRef {
    of_type(schema_type).enum_values(Some(values)).into()
}

/// Reference to the schema of a type.
pub fn reference<T: ToSchema>() -> SchemaRef {
    Ref::from_schema_name(T::name()).into()
}

/// Any JSON value.
pub fn any() -> SchemaRef {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .into()
}

/// Only `null`.
pub fn null() -> SchemaRef {
    of_type(Type::Null).into()
}

/// `value` or `null`.
pub fn nullable(value: SchemaRef) -> SchemaRef {
    any_of([null(), value])
}

/// Value that is valid under at least one of these schemas.
pub fn any_of(schemas: impl IntoIterator<Item = SchemaRef>) -> SchemaRef {
    schemas
        .into_iter()
        .fold(AnyOfBuilder::new(), AnyOfBuilder::item)
        .into()
}

/// Value that is valid under all of these schemas.
pub fn all_of(schemas: impl IntoIterator<Item = SchemaRef>) -> SchemaRef {
    schemas
        .into_iter()
        .fold(AllOfBuilder::new(), AllOfBuilder::item)
        .into()
}

/// True or false, or only one of them.
pub fn boolean(only: Option<bool>) -> SchemaRef {
    match only {
        None => of_type(Type::Boolean).into(),
        Some(value) => values_of(Type::Boolean, [Value::Bool(value)]),
    }
}

/// Integer in a range.
pub fn integer(range: RangeInclusive<i64>) -> SchemaRef {
    of_type(Type::Integer)
        .minimum(Some(*range.start()))
        .maximum(Some(*range.end()))
        .into()
}

/// Integer of an unsigned type with this maximum.
pub fn unsigned(max: usize) -> SchemaRef {
    of_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(max))
        .into()
}

/// Any number.
pub fn any_number() -> SchemaRef {
    of_type(Type::Number).into()
}

/// Number in a range.
pub fn number(range: &RangeInclusive<f64>) -> SchemaRef {
    of_type(Type::Number)
        .minimum(Some(*range.start()))
        .maximum(Some(*range.end()))
        .into()
}

/// Any string.
pub fn text() -> SchemaRef {
    of_type(Type::String).into()
}

/// String with a number of characters in a range; `usize::MAX` is no limit.
pub fn string(length: RangeInclusive<usize>) -> SchemaRef {
    let (min, max) = length.into_inner();
    of_type(Type::String)
        .min_length((min > 0).then_some(min))
        .max_length((max < usize::MAX).then_some(max))
        .into()
}

/// Time in RFC 3339.
pub fn date_time() -> SchemaRef {
    of_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .into()
}

/// One of these strings.
pub fn strings<'a>(values: impl IntoIterator<Item = &'a str>) -> SchemaRef {
    values_of(Type::String, values.into_iter().map(Value::from))
}

/// String that matches a regular expression.
pub fn pattern(pattern: &str) -> SchemaRef {
    of_type(Type::String).pattern(Some(pattern)).into()
}

/// Array with a number of items in a range; `usize::MAX` is no limit.
pub fn array(items: SchemaRef, count: RangeInclusive<usize>) -> SchemaRef {
    let (min, max) = count.into_inner();
    ArrayBuilder::new()
        .items(items)
        .min_items((min > 0).then_some(min))
        .max_items((max < usize::MAX).then_some(max))
        .into()
}

/// Object with any names that are valid under `names`, and values that are valid under
/// `values`.
pub fn map(names: SchemaRef, values: SchemaRef) -> SchemaRef {
    let names = match names {
        RefOr::T(schema) => Some(schema),
        RefOr::Ref(_) => None,
    };
    of_type(Type::Object)
        .property_names(names)
        .additional_properties(Some(AdditionalProperties::from(values)))
        .into()
}

/// Field of an object.
#[derive(Clone, PartialEq)]
pub struct Field {
    name: &'static str,
    schema: SchemaRef,
    required: bool,
}

/// Field that must be present.
pub fn required(name: &'static str, schema: SchemaRef) -> Field {
    Field {
        name,
        schema,
        required: true,
    }
}

/// Field that may be absent.
pub fn optional(name: &'static str, schema: SchemaRef) -> Field {
    Field {
        name,
        schema,
        required: false,
    }
}

fn fields(fields: impl IntoIterator<Item = Field>) -> ObjectBuilder {
    fields
        .into_iter()
        .fold(of_type(Type::Object), |object, field| {
            let object = if field.required {
                object.required(field.name)
            } else {
                object
            };
            object.property(field.name, field.schema)
        })
}

/// Object with these fields, and any others.
pub fn object(of: impl IntoIterator<Item = Field>) -> SchemaRef {
    fields(of).into()
}

/// Object with these fields and no others.
pub fn closed_object(of: impl IntoIterator<Item = Field>) -> SchemaRef {
    fields(of)
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        .into()
}

/// Object with exactly one field, whose name selects its schema: the form of serde's externally
/// tagged enums.
pub fn one_of_names(variants: impl IntoIterator<Item = (&'static str, SchemaRef)>) -> SchemaRef {
    any_of(
        variants
            .into_iter()
            .map(|(name, schema)| closed_object([required(name, schema)])),
    )
}

/// Adds a description, of which `lines` are the lines of a documentation comment.
pub fn described(schema: SchemaRef, lines: &[&str]) -> SchemaRef {
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let text = lines.join("\n");
    match schema {
        RefOr::T(mut schema) => {
            match &mut schema {
                Schema::Object(Object { description, .. }) => *description = Some(text),
                Schema::Array(array) => array.description = Some(text),
                Schema::OneOf(one_of) => one_of.description = Some(text),
                Schema::AllOf(all_of) => all_of.description = Some(text),
                Schema::AnyOf(any_of) => any_of.description = Some(text),
                _ => {}
            }
            RefOr::T(schema)
        }
        RefOr::Ref(mut reference) => {
            reference.description = text;
            RefOr::Ref(reference)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn builders_produce_json_schemas() {
        for (schema, expected) in [
            (any(), json!({})),
            (
                nullable(boolean(None)),
                json!({"anyOf": [{"type": "null"}, {"type": "boolean"}]}),
            ),
            (
                boolean(Some(false)),
                json!({"type": "boolean", "enum": [false]}),
            ),
            (
                integer(-1..=5),
                json!({"type": "integer", "minimum": -1, "maximum": 5}),
            ),
            (
                number(&(0.0..=0.5)),
                json!({"type": "number", "minimum": 0, "maximum": 0.5}),
            ),
            (
                string(1..=3),
                json!({"type": "string", "minLength": 1, "maxLength": 3}),
            ),
            (
                strings(["a", "b"]),
                json!({"type": "string", "enum": ["a", "b"]}),
            ),
            (
                array(pattern("^a$"), 1..=usize::MAX),
                json!({"type": "array", "minItems": 1,
                       "items": {"type": "string", "pattern": "^a$"}}),
            ),
            (
                map(pattern("^[0-9]$"), text()),
                json!({"type": "object", "propertyNames": {"type": "string", "pattern": "^[0-9]$"},
                       "additionalProperties": {"type": "string"}}),
            ),
            (
                object([required("a", null()), optional("b", any())]),
                json!({"type": "object", "required": ["a"],
                       "properties": {"a": {"type": "null"}, "b": {}}}),
            ),
            (
                one_of_names([("a", text())]),
                json!({"anyOf": [{"type": "object", "required": ["a"],
                       "properties": {"a": {"type": "string"}}, "additionalProperties": false}]}),
            ),
            (
                described(text(), &[" One.", "", " Two."]),
                json!({"type": "string", "description": "One.\n\nTwo."}),
            ),
        ] {
            assert_eq!(serde_json::to_value(&schema).unwrap(), expected);
        }
    }
}
