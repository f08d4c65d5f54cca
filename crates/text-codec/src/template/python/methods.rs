//! Methods of Python's strings, dicts and lists.

use std::{fmt, sync::Arc};

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    value::{Object, ObjectRepr, Rest, ValueKind, ValueOrKwargs, from_args},
};

use super::{error, items, operators::equal, range::Range, strings, text, views};

const DICT: &[&str] = &[
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];
const LIST: &[&str] = &[
    "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse",
    "sort",
];
const TUPLE: &[&str] = &["count", "index"];
/// Methods that change a value, which jinja2's sandbox refuses.
const CHANGING: &[&str] = &[
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
];

/// Whether any type has a method of this name.
pub(in super::super) fn is_known(name: &str) -> bool {
    [DICT, LIST, strings::METHODS]
        .iter()
        .any(|names| names.contains(&name))
}

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_function("__attribute", attribute);
    environment.add_function(
        "__method",
        |state: &mut State<'_, '_>, value: Value, name: String, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            if has(&value, &name) {
                call(state, &value, &name, &arguments)
            } else {
                value.call_method(state, &name, &arguments)
            }
        },
    );
}

fn has(value: &Value, name: &str) -> bool {
    let names = match value.kind() {
        ValueKind::String => strings::METHODS,
        ValueKind::Map if !views::is_namespace(value) => DICT,
        ValueKind::Seq if value.is_tuple() => TUPLE,
        ValueKind::Seq => LIST,
        ValueKind::Iterable if value.downcast_object_ref::<Range>().is_some() => TUPLE,
        _ => &[],
    };
    names.contains(&name)
}

/// Method of a value that is not called.
#[derive(Debug)]
struct Bound {
    value: Value,
    name: String,
}

impl Object for Bound {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        call(state, &self.value, &self.name, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = text::type_name(&self.value);
        write!(f, "<built-in method {} of {kind} object>", self.name)
    }
}

/// An attribute: a method first, as in jinja2.
fn attribute(value: Value, name: String) -> Result<Value, Error> {
    if has(&value, &name) {
        Ok(Value::from_object(Bound { value, name }))
    } else {
        value.get_attr(&name)
    }
}

/// Calls a method.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => strings::call(state, value, name, arguments),
        ValueKind::Map | ValueKind::Seq if CHANGING.contains(&name) && has(value, name) => {
            Err(error(format!("access to method '{name}' is unsafe")))
        }
        ValueKind::Map if !views::is_namespace(value) => dict(value, name, arguments),
        ValueKind::Seq | ValueKind::Iterable if has(value, name) => list(value, name, arguments),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn dict(value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if name == "get" {
        let (key, default): (&Value, Option<Value>) = from_args(arguments)?;
        let found = value.get_item(key)?;
        let missing = found.is_undefined();
        return Ok(if missing {
            default.unwrap_or(Value::from(()))
        } else {
            found
        });
    }
    let () = from_args(arguments)?;
    let keys: Vec<Value> = value.try_iter()?.collect();
    let item = |key: &Value| value.get_item(key);
    let (name, items) = match name {
        "keys" => ("keys", keys),
        "values" => ("values", keys.iter().map(item).collect::<Result<_, _>>()?),
        "items" => {
            let pair = |key: &Value| Ok::<_, Error>(super::tuple([key.clone(), item(key)?]));
            ("items", keys.iter().map(pair).collect::<Result<_, _>>()?)
        }
        "copy" => return Ok(value.clone()),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    Ok(Value::from_object(views::View { name, items }))
}

fn list(value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match name {
        "count" => {
            let (wanted,): (&Value,) = from_args(arguments)?;
            let items = items(value)?;
            Ok(Value::from(
                items.iter().filter(|item| equal(item, wanted)).count(),
            ))
        }
        "index" => {
            let (wanted,): (&Value,) = from_args(arguments)?;
            let position = items(value)?.iter().position(|item| equal(item, wanted));
            position
                .map(Value::from)
                .ok_or_else(|| error("the value is not in the list"))
        }
        "copy" => {
            let () = from_args(arguments)?;
            Ok(value.clone())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
