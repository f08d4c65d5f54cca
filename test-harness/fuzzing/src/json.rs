//! Changes values in JSON documents. They remain valid JSON, so that tests reach the code behind
//! the JSON parser.

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Map, Value, json};

use crate::corpus::Corpus;

/// A single change to a document.
#[derive(Debug, Clone)]
enum Change {
    /// Replaces a value by an unusual one.
    Replace { at: Index, value: Value },
    /// Replaces a value by one from any document of the corpus.
    Copy {
        at: Index,
        document: Index,
        from: Index,
    },
    /// Removes a field or an item.
    Remove { at: Index, nth: Index },
    /// Duplicates a field or an item; a field under a different name.
    Duplicate { at: Index, nth: Index },
}

impl Corpus {
    /// Generates a document with one to five changed values. A file that is not JSON counts as
    /// `null`.
    pub fn changed_json(&self) -> impl Strategy<Value = Value> + use<> {
        let documents: Vec<Value> = self
            .files()
            .iter()
            .map(|file| serde_json::from_slice(file).unwrap_or_default())
            .collect();
        (any::<Index>(), vec(change(), 1..6)).prop_map(move |(document, changes)| {
            let mut value = document.get(&documents).clone();
            for change in changes {
                change.apply(&mut value, &documents);
            }
            value
        })
    }
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    let value = any::<Index>().prop_map(|index| index.get(&unusual_values()).clone());
    prop_oneof![
        4 => (index(), value).prop_map(|(at, value)| Change::Replace { at, value }),
        2 => (index(), index(), index())
            .prop_map(|(at, document, from)| Change::Copy { at, document, from }),
        1 => (index(), index()).prop_map(|(at, nth)| Change::Remove { at, nth }),
        1 => (index(), index()).prop_map(|(at, nth)| Change::Duplicate { at, nth }),
    ]
}

fn unusual_values() -> Vec<Value> {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}\u{1b}[2J\u{202e}\r\n"),
        json!("🐝 {{ 7 * 7 }}"),
        json!("x".repeat(5000)),
        json!([]),
        json!({}),
        json!([null]),
        json!({"\u{1b}[31m": "\u{7}"}),
        deep,
    ]
}

impl Change {
    fn apply(self, value: &mut Value, documents: &[Value]) {
        let at = |index: Index, value: &Value| index.index(count(value));
        match self {
            Self::Replace {
                at: index,
                value: new,
            } => {
                let at = at(index, value);
                replace(value, at, new);
            }
            Self::Copy {
                at: index,
                document,
                from,
            } => {
                let mut other = document.get(documents).clone();
                let from = at(from, &other);
                let copy = nth(&mut other, &mut { from }).map(Value::take);
                let at = at(index, value);
                replace(value, at, copy.unwrap_or_default());
            }
            Self::Remove { at: index, nth } => {
                let at = at(index, value);
                members(value, at, |members| {
                    members.remove(nth.index(members.len()));
                });
            }
            Self::Duplicate { at: index, nth } => {
                let at = at(index, value);
                members(value, at, |members| {
                    let (name, value) = members[nth.index(members.len())].clone();
                    members.push((format!("{name}\u{1b}"), value));
                });
            }
        }
    }
}

/// Counts the values in a document, including the document.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Returns the value after `left` others in document order.
fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, left)),
        _ => None,
    }
}

fn replace(value: &mut Value, at: usize, new: Value) {
    if let Some(value) = nth(value, &mut { at }) {
        *value = new;
    }
}

/// Applies `change` to the members of a non-empty array or object.
fn members(value: &mut Value, at: usize, change: impl FnOnce(&mut Vec<(String, Value)>)) {
    match nth(value, &mut { at }) {
        Some(Value::Array(items)) if !items.is_empty() => {
            let unnamed = std::mem::take(items).into_iter();
            let mut members = unnamed.map(|item| (String::new(), item)).collect();
            change(&mut members);
            items.extend(members.into_iter().map(|(_, item)| item));
        }
        Some(Value::Object(fields)) if !fields.is_empty() => {
            let mut members: Vec<_> = std::mem::take(fields).into_iter().collect();
            change(&mut members);
            *fields = members.into_iter().collect::<Map<_, _>>();
        }
        _ => {}
    }
}
