//! The documents in the repository are up to date and complete.
#![allow(clippy::unwrap_used)]

mod schema_types;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use utoipa::openapi::OpenApi;

/// Status after which the connection has another protocol.
const SWITCHED: &str = "101";
/// Operations that exist for their errors.
const NEVER_SUCCESSFUL: [&str; 3] = [
    "get /v1/responses/{id}",
    "delete /v1/responses/{id}",
    "post /v1/responses/compact",
];

fn apis() -> [(&'static str, OpenApi); 3] {
    [
        ("worker", worker_service::openapi()),
        ("hive", rbee_hive::openapi()),
        ("queen", queen_api::openapi()),
    ]
}

fn json() -> impl Iterator<Item = (&'static str, Value)> {
    let apis = apis().into_iter();
    apis.map(|(name, api)| (name, serde_json::to_value(api).unwrap()))
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

#[test]
fn checked_in_documents_match_the_code() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi");
    for (name, text) in openapi_documents::documents().unwrap() {
        let kept = fs::read_to_string(directory.join(name)).unwrap();
        assert!(
            kept == text,
            "{name} is outdated: run `cargo xtask openapi`"
        );
    }
}

/// utoipa keeps one of several types with the same name in the components and drops the others,
/// so that references to them describe something else.
#[test]
fn every_schema_has_the_name_of_one_type() {
    let defined = schema_types::definitions();
    for (name, document) in json() {
        for schema in document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            let places = defined.get(schema).map_or(&[][..], Vec::as_slice);
            assert_eq!(
                places.len(),
                1,
                "{name}: types with the schema `{schema}`: {places:?}"
            );
        }
    }
}

#[test]
fn every_reference_has_a_target() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    for (name, document) in json() {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty(), "{name}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{name}: {reference}");
        }
    }
}

#[test]
fn every_operation_lists_its_statuses() {
    for (name, document) in json() {
        for (operation, described) in operations(&document) {
            let statuses = described["responses"].as_object().unwrap();
            let exact = statuses.keys().all(|status| status.parse::<u16>().is_ok());
            assert!(exact, "{name}: {operation}");
            assert!(
                statuses
                    .keys()
                    .any(|status| status.starts_with('2') || status == SWITCHED)
                    || NEVER_SUCCESSFUL.contains(&operation.as_str()),
                "{name}: {operation}"
            );
            let public = described["security"] == serde_json::json!([{}]);
            assert_eq!(
                public,
                !statuses.contains_key("401"),
                "{name}: {operation} requires a token if and only if it has a status without one"
            );
        }
    }
}
