use std::fmt::Write as _;

use minijinja::{
    Error, Value,
    value::{Kwargs, Rest, ValueKind, ValueOrKwargs},
};

use super::{check_length, error, text};
use crate::control::is_mark;

/// Maximum nesting of a value.
const MAX_DEPTH: usize = 100;

/// Start of a string that stands for an integer of many digits.
const INTEGER: &str = "\u{fdd0}integer:";
/// Number of digits that every integer of 64 bits can have.
const SHORT_DIGITS: usize = 18;

/// Parses JSON as Python's `json.loads`: the order of keys and the digits of integers up to 128
/// bits are kept. Returns `None` if it is not JSON.
pub(in super::super) fn parse(json: &str) -> Option<Value> {
    let value = serde_json::from_str(json).ok()?;
    let quoted = quote_long_integers(json);
    if quoted == json {
        return Some(value);
    }
    serde_json::from_str(&quoted)
        .ok()
        .map(|value| unquote(&value))
}

fn quote_long_integers(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let is_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
        let length = if in_string {
            in_string = c != '"';
            let escaped = rest.chars().nth(1).filter(|_| c == '\\');
            c.len_utf8() + escaped.map_or(0, char::len_utf8)
        } else if c == '-' || c.is_ascii_digit() {
            rest.find(|c| !is_number(c)).unwrap_or(rest.len())
        } else {
            in_string = c == '"';
            c.len_utf8()
        };
        let (part, after) = rest.split_at(length);
        let digits = part.strip_prefix('-').unwrap_or(part);
        if digits.len() > SHORT_DIGITS && digits.bytes().all(|b| b.is_ascii_digit()) {
            out.extend(["\"", INTEGER, part, "\""]);
        } else {
            out.push_str(part);
        }
        rest = after;
    }
    out
}

fn unquote(value: &Value) -> Value {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::String => {
            let digits = value.as_str().and_then(|text| text.strip_prefix(INTEGER));
            let Some(digits) = digits else {
                return value.clone();
            };
            let integer = digits.parse::<i128>().map(Value::from);
            let float = digits.parse::<f64>().map(Value::from);
            integer.ok().or(float.ok()).unwrap_or_default()
        }
        ValueKind::Seq => items().map(|item| unquote(&item)).collect(),
        ValueKind::Map => Value::from_pairs(items().map(|key| {
            let item = value.get_item(&key).unwrap_or_default();
            (key, unquote(&item))
        })),
        _ => value.clone(),
    }
}

/// How to write JSON, as the parameters of Python's `json.dumps` say.
struct Style {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// Template filter `tojson` of transformers: Python's `json.dumps` with `ensure_ascii=False`.
/// Models saw its format in training: a space after separators, no HTML escapes.
pub(super) fn tojson(value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let mut positional = arguments.into_values();
    let named = match positional.pop_if(|last| last.is_kwargs()) {
        Some(named) => Kwargs::try_from(named)?,
        None => std::iter::empty::<(String, Value)>().collect(),
    };
    let argument = |position: usize, name: &str| match positional.get(position) {
        Some(value) => Ok::<_, Error>(Some(value.clone())),
        None => named.get::<Option<Value>>(name),
    };
    let ascii = argument(0, "ensure_ascii")?;
    let indent = argument(1, "indent")?.filter(|indent| !indent.is_none());
    let separators = argument(2, "separators")?.filter(|s| !s.is_none());
    let sort_keys = argument(3, "sort_keys")?;
    named.assert_all_used()?;
    let indent = indent.map(|indent| match indent.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => i64::try_from(indent).map(|width| " ".repeat(width.clamp(0, 100) as usize)),
    });
    let indent = indent.transpose()?;
    let (item_separator, key_separator) = match separators {
        Some(pair) => {
            let part = |at: usize| -> Result<String, Error> {
                let part = pair.get_item_by_index(at)?;
                part.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| error("a separator is not a string"))
            };
            (part(0)?, part(1)?)
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let style = Style {
        ascii: ascii.is_some_and(|ascii| ascii.is_true()),
        indent,
        item_separator,
        key_separator,
        sort_keys: sort_keys.is_some_and(|sort| sort.is_true()),
    };
    let mut out = String::new();
    style.write(&mut out, value, 0)?;
    Ok(out)
}

impl Style {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(error(format!("tojson: nesting exceeds {MAX_DEPTH} levels")));
        }
        check_length(out.len())?;
        match value.kind() {
            ValueKind::None | ValueKind::Bool | ValueKind::Number => out.push_str(&scalar(value)),
            ValueKind::String => self.write_text(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_container(out, ['[', ']'], items, depth, |out, item| {
                    self.write(out, &item, depth + 1)
                })?;
            }
            ValueKind::Map if !super::views::is_namespace(value) => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    entries.push((key_text(&key)?, item));
                }
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.write_container(out, ['{', '}'], entries, depth, |out, (key, item)| {
                    self.write_text(out, &key);
                    out.push_str(&self.key_separator);
                    self.write(out, &item, depth + 1)
                })?;
            }
            _ => {
                return Err(error(format!(
                    "Object of type {} is not JSON serializable",
                    text::type_name(value)
                )));
            }
        }
        Ok(())
    }

    fn write_container<T>(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        items: Vec<T>,
        depth: usize,
        mut write_item: impl FnMut(&mut String, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new_line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(indent.as_str(), depth));
            }
        };
        let empty = items.is_empty();
        out.push(open);
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item_separator);
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

    fn write_text(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c) && !is_mark(c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a String is infallible.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// JSON of `None`, a boolean or a number.
fn scalar(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => value.is_true().to_string(),
        _ if value.is_integer() => value.to_string(),
        _ => match f64::try_from(value.clone()).unwrap_or_default() {
            number if number.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            number => text::float(number),
        },
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => Ok(scalar(key)),
        _ => Err(error("keys must be str, int, float, bool or None")),
    }
}
