use std::{borrow::Cow, fmt::Write as _};

use minijinja::{Error, Value, value::ValueKind};

use super::{check_length, error, range::Range, views};

/// Maximum nesting of a value to format.
const MAX_DEPTH: usize = 100;

/// Formats a value as Python's `str`.
pub(super) fn str(value: &Value) -> Result<Cow<'_, str>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    if value.is_undefined() {
        return Ok(Cow::Borrowed(""));
    }
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    Ok(Cow::Owned(out))
}

/// Formats a value as Python's `repr`.
pub(super) fn repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    Ok(out)
}

/// Python's name of the type of a value.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Seq if value.is_tuple() => "tuple",
        ValueKind::Seq => "list",
        ValueKind::Map if views::is_namespace(value) => "Namespace",
        ValueKind::Map => "dict",
        _ => "object",
    }
}

/// Formats a float as Python's `repr`: the shortest digits that give the same number.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        return match (number.is_nan(), number > 0.0) {
            (true, _) => "nan",
            (_, true) => "inf",
            _ => "-inf",
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(error(format!(
            "a value is nested more than {MAX_DEPTH} levels"
        )));
    }
    check_length(out.len())?;
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&float(f64::try_from(value.clone()).unwrap_or_default()));
        }
        ValueKind::String => write_text(out, value.as_str().unwrap_or_default()),
        ValueKind::Iterable if value.downcast_object_ref::<Range>().is_some() => {
            out.push_str(&value.to_string());
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() {
                ("(", ")")
            } else {
                ("[", "]")
            };
            let (prefix, suffix) = views::frame(value);
            out.push_str(prefix);
            out.push_str(open);
            let mut count = 0;
            for item in value.try_iter()?.checked() {
                if count > 0 {
                    out.push_str(", ");
                }
                count += 1;
                write_repr(out, &item?, depth + 1)?;
            }
            if count == 1 && value.is_tuple() {
                out.push(',');
            }
            out.push_str(close);
            out.push_str(suffix);
        }
        ValueKind::Map => {
            let namespace = views::is_namespace(value);
            out.push_str(if namespace { "<Namespace {" } else { "{" });
            let mark = Value::from(views::NAMESPACE);
            let keys = value.try_iter()?.filter(|key| !namespace || *key != mark);
            for (index, key) in keys.enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push_str(if namespace { "}>" } else { "}" });
        }
        // Writing to a String is infallible.
        _ => drop(write!(out, "{value}")),
    }
    Ok(())
}

fn write_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        let code = u32::from(c);
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            _ if code < 0x100 => drop(write!(out, "\\x{code:02x}")),
            _ if code < 0x1_0000 => drop(write!(out, "\\u{code:04x}")),
            _ => drop(write!(out, "\\U{code:08x}")),
        }
    }
    out.push(quote);
}

/// Whether Python prints a character as it is: no control or format character, no separator other
/// than the space, not private or unassigned (of which the larger ranges are known here).
pub(super) fn is_printable(c: char) -> bool {
    !(c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{e000}'..='\u{f8ff}' | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{e0000}'..))
}

/// Escapes a text for HTML, as jinja2's `escape`.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
