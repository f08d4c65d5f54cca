//! What Python computes differently from minijinja: texts of values, operators, methods, filters.
#![allow(
    clippy::needless_pass_by_value,
    reason = "functions and filters receive their arguments by value"
)]

mod filters;
mod json;
mod marks;
pub(super) mod methods;
mod numbers;
mod operators;
mod range;
mod strings;
mod tests;
mod text;
mod views;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, Value,
    value::{Tuple, ValueKind},
};

use super::MAX_PROMPT_BYTES;
pub(super) use json::parse as parse_json;

/// Maximum number of items that an operator or filter returns.
const MAX_ITEMS: usize = 1 << 20;
/// Name of the counter of the bytes that a rendering wrote, those of captured blocks included.
const WRITTEN: &str = "written";
/// Maximum of that counter.
const MAX_WRITTEN: usize = 8 * MAX_PROMPT_BYTES;

/// Replaces what minijinja computes differently.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_formatter(write);
    environment.set_unknown_method_callback(methods::call);
    operators::install(environment);
    methods::install(environment);
    filters::install(environment);
    numbers::install(environment);
    tests::install(environment);
    views::install(environment);
    range::install(environment);
    environment.add_filter("tojson", json::tojson);
}

/// Writes a value to the output as Python's `str` formats it.
fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let mut text = text::str(value)?;
    if *state.auto_escape() == AutoEscape::Html && !value.is_safe() {
        text = text::escape(&text).into();
    }
    let written = state.get_temp(WRITTEN).and_then(|w| w.as_usize());
    let written = written.unwrap_or(0) + text.len();
    if written > MAX_WRITTEN {
        return Err(too_large());
    }
    state.set_temp(WRITTEN, Value::from(written));
    out.write_str(&text).map_err(Error::from)
}

fn error(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

fn too_large() -> Error {
    Error::from(ErrorKind::WriteFailure)
}

/// A text of limited length, so that no template exhausts the memory.
fn limited(text: String) -> Result<Value, Error> {
    check_length(text.len())?;
    Ok(Value::from(text))
}

fn check_length(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_PROMPT_BYTES {
        return Err(too_large());
    }
    Ok(())
}

/// The items of an iterable, as Python iterates it.
fn items(value: &Value) -> Result<Vec<Value>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.chars().map(Value::from).collect());
    }
    if value.is_none() || views::is_namespace(value) {
        return Err(error(format!(
            "'{}' object is not iterable",
            text::type_name(value)
        )));
    }
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        if items.len() >= MAX_ITEMS {
            return Err(too_large());
        }
        items.push(item?);
    }
    Ok(items)
}

/// Keys and values of the arguments of `dict()`: mappings, lists of pairs, named values.
fn pairs(arguments: &[Value]) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = Vec::new();
    for argument in arguments {
        if argument.kind() == ValueKind::Map {
            for key in argument.try_iter()? {
                let value = argument.get_item(&key)?;
                pairs.push((key, value));
            }
            continue;
        }
        for pair in items(argument)? {
            match &items(&pair)?[..] {
                [key, value] => pairs.push((key.clone(), value.clone())),
                _ => return Err(error("a pair of a key and a value is expected")),
            }
        }
    }
    Ok(pairs)
}

fn tuple<const N: usize>(items: [Value; N]) -> Value {
    Value::from(Tuple::from(items))
}
