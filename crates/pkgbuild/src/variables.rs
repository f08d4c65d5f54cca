use std::collections::BTreeMap;

/// Value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A scalar.
    Text(String),
    /// An indexed array.
    List(Vec<String>),
}

impl Value {
    /// All elements; a scalar is one.
    pub fn elements(&self) -> &[String] {
        match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::List(list) => list,
        }
    }

    /// What `$name` expands to: an array stands for its first element.
    pub fn first(&self) -> &str {
        self.elements().first().map_or("", String::as_str)
    }
}

/// The variables of a PKGBUILD after it was evaluated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, Value>);

impl Variables {
    /// Returns a variable, if it is set.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The elements of a variable; none if it is not set.
    pub fn list(&self, name: &str) -> &[String] {
        self.get(name).map_or(&[], Value::elements)
    }

    /// The first element of a variable; empty if it is not set.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).map_or("", Value::first)
    }

    /// Names of all variables, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Appends to a variable as `+=` does.
    pub(crate) fn append(&mut self, name: &str, value: Value) {
        let new = match (self.0.remove(name), value) {
            (None, value) => value,
            (Some(Value::Text(old)), Value::Text(new)) => Value::Text(old + &new),
            (Some(Value::List(mut old)), Value::Text(new)) => {
                match old.first_mut() {
                    Some(first) => first.push_str(&new),
                    None => old.push(new),
                }
                Value::List(old)
            }
            (Some(old), Value::List(new)) => {
                let mut list = old.elements().to_vec();
                list.extend(new);
                Value::List(list)
            }
        };
        self.0.insert(name.to_owned(), new);
    }
}
