//! Objects of jinja2 and Python that minijinja has no equal of.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use minijinja::{
    Environment, Error, ErrorKind, State, Value, functions,
    value::{Enumerator, Object, ObjectRepr, Rest, ValueKind, ValueOrKwargs, from_args},
};

/// Keys, values or items of a mapping.
#[derive(Debug)]
pub(super) struct View {
    /// Python's name of the type.
    pub(super) name: &'static str,
    pub(super) items: Vec<Value>,
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
}

/// Text around the items of a value: `dict_keys(…)`.
pub(super) fn frame(value: &Value) -> (&'static str, &'static str) {
    match value.downcast_object_ref::<View>().map(|view| view.name) {
        Some("keys") => ("dict_keys(", ")"),
        Some("values") => ("dict_values(", ")"),
        Some(_) => ("dict_items(", ")"),
        None => ("", ""),
    }
}

/// Name of an attribute that marks a namespace, which minijinja represents like a dict.
pub(super) const NAMESPACE: &str = "__namespace";

/// Whether a value is the result of `namespace()`.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.kind() == ValueKind::Map && value.get_attr(NAMESPACE).is_ok_and(|mark| mark.is_true())
}

/// jinja2's `namespace`: takes mappings and named values.
fn namespace(values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut entries = vec![(Value::from(NAMESPACE), Value::from(true))];
    entries.extend(super::pairs(&values.into_values())?);
    let entries = Value::from_pairs(entries);
    functions::namespace(Some(entries.into()))
}

/// jinja2's `cycler`: returns its items in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    position: AtomicUsize,
}

impl Cycler {
    fn current(&self) -> Value {
        let position = self.position.load(Ordering::Relaxed);
        self.items.get(position).cloned().unwrap_or_default()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.current())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let () = from_args(args)?;
        match method {
            "next" => {
                let current = self.current();
                let next = (self.position.load(Ordering::Relaxed) + 1) % self.items.len().max(1);
                self.position.store(next, Ordering::Relaxed);
                Ok(current)
            }
            "reset" => {
                self.position.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Cycler>")
    }
}

/// jinja2's `joiner`: returns its text except at the first call.
#[derive(Debug)]
struct Joiner {
    separator: Value,
    used: AtomicBool,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        Ok(if self.used.swap(true, Ordering::Relaxed) {
            self.separator.clone()
        } else {
            Value::from("")
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Joiner>")
    }
}

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_function("namespace", namespace);
    environment.add_function(
        "dict",
        |values: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            Ok(Value::from_pairs(super::pairs(&values.into_values())?))
        },
    );
    environment.add_function("cycler", |items: Rest<Value>| -> Result<Value, Error> {
        if items.is_empty() {
            return Err(super::error("at least one item has to be provided"));
        }
        Ok(Value::from_object(Cycler {
            items: items.to_vec(),
            position: AtomicUsize::new(0),
        }))
    });
    environment.add_function("joiner", |separator: Option<Value>| {
        Value::from_object(Joiner {
            separator: separator.unwrap_or_else(|| Value::from(", ")),
            used: AtomicBool::new(false),
        })
    });
}
