use std::fmt::Write as _;

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, ValueKind},
};

/// Maximum nesting depth.
const MAX_DEPTH: usize = 100;

/// Template filter `tojson`. Formats like Python's `json.dumps(value, ensure_ascii=False)`, which
/// models saw in training: a space after separators, no HTML escapes.
// Filters receive their arguments by value.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn tojson(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    // Accepted because templates pass it; the output is never escaped to ASCII.
    let _: Option<bool> = arguments.get("ensure_ascii")?;
    arguments.assert_all_used()?;
    let mut out = String::new();
    write(&mut out, value, indent, 0)?;
    Ok(out)
}

fn write(
    out: &mut String,
    value: &Value,
    indent: Option<usize>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("tojson: nesting exceeds {MAX_DEPTH} levels"),
        ));
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            // Writing to a String is infallible.
            let _ = write!(out, "{value}");
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_container(out, ['[', ']'], items, indent, depth, |out, item| {
                write(out, &item, indent, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter()?.collect();
            write_container(out, ['{', '}'], keys, indent, depth, |out, key| {
                write_string(out, &key.to_string());
                out.push_str(": ");
                write(out, &value.get_item(&key)?, indent, depth + 1)
            })?;
        }
        _ => write_string(out, &value.to_string()),
    }
    Ok(())
}

fn write_container(
    out: &mut String,
    [open, close]: [char; 2],
    items: Vec<Value>,
    indent: Option<usize>,
    depth: usize,
    mut write_item: impl FnMut(&mut String, Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |out: &mut String, depth: usize| {
        if let Some(width) = indent {
            out.push('\n');
            out.push_str(&" ".repeat(width.min(16) * depth));
        }
    };
    let empty = items.is_empty();
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        new_line(out, depth + 1);
        write_item(out, item)?;
    }
    if !empty {
        new_line(out, depth);
    }
    out.push(close);
    Ok(())
}

fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
