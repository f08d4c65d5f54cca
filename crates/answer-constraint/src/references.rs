//! Resolves the references of a schema, and writes them as llguidance reads them:
//! `#/$defs/name` without escapes.

use std::collections::BTreeMap;

use diagnostics::Diagnostic;
use serde_json::{Map, Value};

use crate::{
    errors,
    subschemas::{MAX_DEPTH, each_subschema},
};

/// Maximum size of all schemas that are copied because of references to them.
const MAX_COPIED_BYTES: usize = 1 << 20;

/// Rewrites all references. They may be JSON pointers (RFC 6901) in a URI fragment, with percent
/// escapes (RFC 3986), or names of `$anchor`. The URI before the fragment may be the schema's own
/// `$id`, or that of a schema in it.
///
/// Errors: `INVALID_REQUEST` naming the reference that does not resolve.
pub(crate) fn resolve(schema: &mut Value) -> Result<(), Diagnostic> {
    let mut anchors = BTreeMap::new();
    collect_anchors(schema, "", "", &mut anchors, 0);
    let mut references = References {
        original: schema.clone(),
        anchors,
        names: BTreeMap::new(),
        pending: Vec::new(),
        copied: 0,
    };
    references.rewrite(schema, 0)?;
    let mut copies = Map::new();
    while let Some((pointer, name)) = references.pending.pop() {
        let Some(target) = references.original.pointer(&pointer) else {
            continue;
        };
        let mut target = target.clone();
        references.copied += target.to_string().len();
        if references.copied > MAX_COPIED_BYTES {
            return Err(errors::too_large(references.copied, MAX_COPIED_BYTES));
        }
        references.rewrite(&mut target, 0)?;
        copies.insert(name, target);
    }
    if let Value::Object(root) = schema
        && !copies.is_empty()
    {
        match root.get_mut("$defs") {
            Some(Value::Object(definitions)) => definitions.extend(copies),
            _ => {
                root.insert("$defs".to_owned(), Value::Object(copies));
            }
        }
    }
    Ok(())
}

struct References {
    original: Value,
    /// Pointers by URI: `#name`, `base`, `base#name`.
    anchors: BTreeMap<String, String>,
    /// Names in `$defs` by pointer.
    names: BTreeMap<String, String>,
    /// Pointers of schemas that are still to be copied to `$defs`, and their names.
    pending: Vec<(String, String)>,
    copied: usize,
}

impl References {
    fn rewrite(&mut self, schema: &mut Value, depth: usize) -> Result<(), Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(errors::nested_too_deeply(MAX_DEPTH));
        }
        if let Value::Object(fields) = schema
            && let Some(Value::String(reference)) = fields.get_mut("$ref")
        {
            *reference = self.canonical(reference)?;
        }
        each_subschema(schema, &mut |_, inner| self.rewrite(inner, depth + 1))
    }

    fn canonical(&mut self, reference: &str) -> Result<String, Diagnostic> {
        let unresolved = || errors::unresolved_reference(reference);
        let pointer = self.pointer(reference).ok_or_else(unresolved)?;
        if pointer.is_empty() {
            return Ok("#".to_owned());
        }
        if self.original.pointer(&pointer).is_none() {
            return Err(unresolved());
        }
        let plain = |name: &str| !name.is_empty() && !name.contains(['~', '/', '%']);
        for definitions in ["/$defs/", "/definitions/"] {
            if pointer.strip_prefix(definitions).is_some_and(plain) {
                return Ok(format!("#{pointer}"));
            }
        }
        if let Some(name) = self.names.get(&pointer) {
            return Ok(format!("#/$defs/{name}"));
        }
        let name = self.unused_name();
        let canonical = format!("#/$defs/{name}");
        self.names.insert(pointer.clone(), name.clone());
        self.pending.push((pointer, name));
        Ok(canonical)
    }

    /// Returns the JSON pointer that a reference resolves to.
    fn pointer(&self, reference: &str) -> Option<String> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = match base {
            "" => String::new(),
            base => self.anchors.get(base)?.clone(),
        };
        let fragment = percent_decoded(fragment)?;
        if fragment.is_empty() || fragment.starts_with('/') {
            return Some(base + &fragment);
        }
        let uri = reference.split('#').next().unwrap_or_default();
        self.anchors.get(&format!("{uri}#{fragment}")).cloned()
    }

    fn unused_name(&self) -> String {
        let mut nth = self.names.len();
        loop {
            let name = format!("ref-{nth}");
            if self.original.pointer(&format!("/$defs/{name}")).is_none() {
                return name;
            }
            nth += 1_000_000;
        }
    }
}

/// Collects the anchors and ids of a schema, `base` being the `$id` that applies to it.
fn collect_anchors(
    schema: &mut Value,
    pointer: &str,
    base: &str,
    anchors: &mut BTreeMap<String, String>,
    depth: usize,
) {
    if depth > MAX_DEPTH {
        return;
    }
    let mut base = base.to_owned();
    if let Value::Object(fields) = schema {
        if let Some(Value::String(id)) = fields.get("$id").or_else(|| fields.get("id"))
            && let Some(id) = id
                .strip_suffix('#')
                .or(Some(id))
                .filter(|id| !id.is_empty())
        {
            id.clone_into(&mut base);
            anchors
                .entry(base.clone())
                .or_insert_with(|| pointer.to_owned());
        }
        if let Some(Value::String(name)) = fields.get("$anchor") {
            for uri in [String::new(), base.clone()] {
                let uri = format!("{uri}#{name}");
                anchors.entry(uri).or_insert_with(|| pointer.to_owned());
            }
        }
    }
    let _ = each_subschema(schema, &mut |at, inner| {
        collect_anchors(inner, &format!("{pointer}{at}"), &base, anchors, depth + 1);
        Ok(())
    });
}

/// Decodes the percent escapes of a URI fragment.
fn percent_decoded(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut parts = fragment.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolved(mut schema: Value) -> Value {
        resolve(&mut schema).unwrap();
        schema
    }

    #[test]
    fn references_resolve_as_pointers_anchors_and_ids() {
        let schema = resolved(json!({
            "$id": "https://example.org/root",
            "properties": {
                "plain": {"$ref": "#/$defs/a"},
                "root": {"$ref": "#"},
                "percent": {"$ref": "#/%24defs/a"},
                "escaped": {"$ref": "#/$defs/b~1c~0d"},
                "space": {"$ref": "#/$defs/e%20f"},
                "inner": {"$ref": "#/properties/plain"},
                "anchor": {"$ref": "#here"},
                "own": {"$ref": "https://example.org/root#/$defs/a"},
                "nested": {"$ref": "urn:nested"},
                "elsewhere": {"$ref": "#/components/schemas/x"}
            },
            "$defs": {
                "a": {"const": 1}, "b/c~d": {"const": 2}, "e f": {"$anchor": "here", "const": 3},
                "n": {"$id": "urn:nested", "const": 4}
            },
            "components": {"schemas": {"x": {"$ref": "#/components/schemas/y"}, "y": {"const": 5}}}
        }));
        let target = |name: &str| {
            let mut reference = schema["properties"][name]["$ref"].as_str().unwrap();
            while let Some(next) = schema.pointer(&reference[1..]).and_then(|s| s.get("$ref")) {
                reference = next.as_str().unwrap();
            }
            assert!(!reference.contains(['%', '~']), "{reference}");
            schema.pointer(&reference[1..]).unwrap()["const"].clone()
        };
        for (name, value) in [
            ("plain", 1),
            ("percent", 1),
            ("escaped", 2),
            ("space", 3),
            ("inner", 1),
            ("anchor", 3),
            ("own", 1),
            ("nested", 4),
            ("elsewhere", 5),
        ] {
            assert_eq!(target(name), json!(value), "{name}");
        }
        assert_eq!(schema["properties"]["root"]["$ref"], "#");
    }

    #[test]
    fn references_may_be_recursive() {
        let schema = resolved(json!({
            "properties": {"next": {"items": {"$ref": "#/properties/next"}}}
        }));
        let copy = &schema["$defs"]["ref-0"];
        assert_eq!(copy["items"]["$ref"], "#/$defs/ref-0");
    }

    #[test]
    fn unresolved_references_are_named() {
        for reference in [
            "#/$defs/none",
            "http://x/y.json",
            "other.json#/a",
            "#nowhere",
            "#/%zz",
            "#/$defs/a/b",
        ] {
            let mut schema = json!({"$defs": {"a": {}}, "items": {"$ref": reference}});
            let error = resolve(&mut schema).unwrap_err();
            assert!(error.message.contains(reference), "{error}");
        }
        // Names of properties and constants are no references.
        let mut schema = json!({"properties": {"$ref": {"const": {"$ref": "#/none"}}}});
        resolve(&mut schema).unwrap();
    }
}
