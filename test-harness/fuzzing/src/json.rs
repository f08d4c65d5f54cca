//! Damage inside JSON documents: they stay JSON, so that what reads their fields is reached.

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Map, Value, json};

use crate::Corpus;

/// One thing that happens to a document.
#[derive(Debug, Clone)]
enum Change {
    /// A value becomes one that nobody expects there.
    Odd { at: Index, value: Value },
    /// A value becomes one of another place, perhaps of another document.
    Exchange {
        at: Index,
        document: Index,
        from: Index,
    },
    /// A field or an item is lost.
    Lose { at: Index, nth: Index },
    /// A field or an item occurs once more, under another name.
    Double { at: Index, nth: Index },
}

impl Corpus {
    /// A document of the corpus with up to five values changed. Files that are no JSON count
    /// as `null`.
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
    let odd = any::<Index>().prop_map(|index| index.get(&odd_values()).clone());
    prop_oneof![
        4 => (index(), odd).prop_map(|(at, value)| Change::Odd { at, value }),
        2 => (index(), index(), index())
            .prop_map(|(at, document, from)| Change::Exchange { at, document, from }),
        1 => (index(), index()).prop_map(|(at, nth)| Change::Lose { at, nth }),
        1 => (index(), index()).prop_map(|(at, nth)| Change::Double { at, nth }),
    ]
}

fn odd_values() -> Vec<Value> {
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
            Self::Odd {
                at: index,
                value: odd,
            } => {
                let at = at(index, value);
                replace(value, at, odd);
            }
            Self::Exchange {
                at: index,
                document,
                from,
            } => {
                let mut other = document.get(documents).clone();
                let from = at(from, &other);
                let found = nth(&mut other, &mut { from }).map(Value::take);
                let at = at(index, value);
                replace(value, at, found.unwrap_or_default());
            }
            Self::Lose { at: index, nth } => {
                let at = at(index, value);
                members(value, at, |members| {
                    members.remove(nth.index(members.len()));
                });
            }
            Self::Double { at: index, nth } => {
                let at = at(index, value);
                members(value, at, |members| {
                    let (name, value) = members[nth.index(members.len())].clone();
                    members.push((format!("{name}\u{1b}"), value));
                });
            }
        }
    }
}

/// Values in a document, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// The value that comes after `left` others.
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
    if let Some(place) = nth(value, &mut { at }) {
        *place = new;
    }
}

/// Lets `change` work on the members of a list or an object that has some.
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
