//! Filters whose results or errors differ in jinja2.

use minijinja::{
    Environment, Error, State, Value, filters,
    value::{Kwargs, Rest, Tuple, ValueKind, ValueOrKwargs},
};

use super::{check_length, error, items, limited, operators, strings, text, views};

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_filter("string", |value: &Value| on_text(value, str::to_owned));
    environment.add_filter("safe", |value: &Value| {
        on_text(value, str::to_owned).map(safe)
    });
    environment.add_filter("upper", |value: &Value| on_text(value, str::to_uppercase));
    environment.add_filter("lower", |value: &Value| on_text(value, str::to_lowercase));
    environment.add_filter("title", |value: &Value| on_text(value, title));
    environment.add_filter("capitalize", |value: &Value| {
        on_text(value, strings::capitalize)
    });
    environment.add_filter("escape", |value: &Value| {
        on_text(value, text::escape).map(safe)
    });
    environment.add_filter("e", |value: &Value| on_text(value, text::escape).map(safe));
    environment.add_filter("forceescape", |value: &Value| {
        on_text(value, text::escape).map(safe)
    });
    environment.add_filter("wordcount", |value: &Value| -> Result<usize, Error> {
        let text = text::str(value)?;
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        Ok(words.filter(|word| !word.is_empty()).count())
    });
    environment.add_filter("trim", |value: &Value, chars: Option<String>| {
        on_text(value, |text| match &chars {
            Some(chars) => text.trim_matches(|c| chars.contains(c)).to_owned(),
            None => text.trim().to_owned(),
        })
    });
    environment.add_filter(
        "replace",
        |value: &Value, old: String, new: String, count: Option<i64>| {
            strings::replace(&text::str(value)?, &old, &new, count)
        },
    );
    environment.add_filter("center", |value: &Value, width: Option<usize>| {
        let width = width.unwrap_or(80);
        check_length(width)?;
        on_text(value, |text| {
            let missing = width.saturating_sub(text.chars().count());
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left))
        })
    });
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("list", |value: &Value| items(value).map(Value::from));
    environment.add_filter("first", |value: &Value| {
        items(value).map(|items| items.first().cloned().unwrap_or(Value::UNDEFINED))
    });
    environment.add_filter("last", |value: &Value| {
        items(value).map(|items| items.last().cloned().unwrap_or(Value::UNDEFINED))
    });
    environment.add_filter("reverse", |value: &Value| -> Result<Value, Error> {
        let mut items = items(value)?;
        items.reverse();
        Ok(match value.as_str() {
            Some(text) => Value::from(text.chars().rev().collect::<String>()),
            None => Value::from(items),
        })
    });
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter(
        "attr",
        |value: &Value, name: &str| match views::is_namespace(value) {
            true => value.get_attr(name),
            false if value.is_undefined() => Err(error("attr: the value is undefined")),
            // An attribute of a dict is not one of its keys.
            false => Ok(Value::UNDEFINED),
        },
    );
    environment.add_filter(
        "sort",
        |state: &State<'_, '_>,
         value: &Value,
         reverse: Option<bool>,
         case_sensitive: Option<bool>,
         named: Kwargs| {
            let items = items(value)?;
            check_order(&items, named.has("attribute"))?;
            let mut options: Vec<(String, Value)> = Vec::new();
            for name in named.args() {
                options.push((name.to_owned(), named.peek(name)?));
            }
            for (name, given) in [("reverse", reverse), ("case_sensitive", case_sensitive)] {
                options.extend(given.map(|given| (name.to_owned(), Value::from(given))));
            }
            filters::sort(state, Value::from(items), options.into_iter().collect())
        },
    );
    environment.add_filter(
        "min",
        |state: &State<'_, '_>, value: &Value, named: Kwargs| {
            let items = items(value)?;
            check_order(&items, named.has("attribute"))?;
            filters::min(state, Value::from(items), named)
        },
    );
    environment.add_filter(
        "max",
        |state: &State<'_, '_>, value: &Value, named: Kwargs| {
            let items = items(value)?;
            check_order(&items, named.has("attribute"))?;
            filters::max(state, Value::from(items), named)
        },
    );
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("format", |value: &Value, arguments: Rest<ValueOrKwargs>| {
        let mut arguments = arguments.into_values();
        let arguments = match arguments.pop() {
            Some(named) if named.is_kwargs() && arguments.is_empty() => named,
            last => {
                arguments.extend(last);
                Value::from(Tuple::from(arguments))
            }
        };
        operators::printf(&text::str(value)?, &arguments).and_then(limited)
    });
    environment.add_filter("truncate", truncate);
    environment.add_filter("striptags", |value: &Value| -> Result<String, Error> {
        let text = text::str(value)?.into_owned();
        Ok(minijinja_contrib::filters::striptags(text))
    });
    environment.add_filter("items", |value: &Value| -> Result<Value, Error> {
        match value.kind() {
            ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
            ValueKind::Map if !views::is_namespace(value) => filters::items(value),
            _ => Err(error("can only get item pairs from a mapping")),
        }
    });
}

fn on_text(value: &Value, change: impl FnOnce(&str) -> String) -> Result<Value, Error> {
    limited(change(&text::str(value)?))
}

/// Marks a text as markup: what is added to it is escaped.
fn safe(text: Value) -> Value {
    Value::from_safe_string(text.as_str().unwrap_or_default().to_owned())
}

/// Words start after white space, `-` and opening brackets.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        start = c.is_whitespace() || "-({[<".contains(c);
    }
    out
}

fn default(value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut position = 0;
    let (mut other, mut also_false) = (Value::from(""), false);
    for argument in arguments.into_values() {
        if let Ok(named) = Kwargs::try_from(argument.clone())
            && argument.is_kwargs()
        {
            other = named
                .get::<Option<Value>>("default_value")?
                .unwrap_or(other);
            also_false = named.get::<Option<bool>>("boolean")?.unwrap_or(also_false);
            named.assert_all_used()?;
            continue;
        }
        match position {
            0 => other = argument.clone(),
            1 => also_false = argument.is_true(),
            _ => return Err(error("default takes two arguments")),
        }
        position += 1;
    }
    let replaced = value.is_undefined() || (also_false && !value.is_true());
    Ok(if replaced { other } else { value.clone() })
}

fn length(value: &Value) -> Result<usize, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(0),
        ValueKind::Map if views::is_namespace(value) => Err(error("a namespace has no length")),
        _ => filters::length(value),
    }
}

fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    separator: Option<Value>,
    attribute: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let separator = match separator {
        None => named
            .get::<Option<Value>>("d")?
            .unwrap_or_else(|| Value::from("")),
        Some(separator) => separator,
    };
    let attribute = match attribute {
        None => named.get::<Option<Value>>("attribute")?,
        given => given,
    };
    named.assert_all_used()?;
    let mut items = items(value)?;
    if let Some(attribute) = attribute {
        let named: Kwargs = [("attribute", attribute)].into_iter().collect();
        let mapped = state.apply_filter("map", &[Value::from(items), Value::from(named)])?;
        items = super::items(&mapped)?;
    }
    let separator = text::str(&separator)?;
    let mut out = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(&separator);
        }
        out.push_str(&text::str(item)?);
        check_length(out.len())?;
    }
    Ok(Value::from(out))
}

fn indent(
    value: &Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return Err(error(format!(
            "indent: expected str, {} found",
            text::type_name(value)
        )));
    };
    let width = match width {
        None => named.get::<Option<Value>>("width")?,
        given => given,
    };
    let first = first.or(named.get("first")?).unwrap_or(false);
    let blank = blank.or(named.get("blank")?).unwrap_or(false);
    named.assert_all_used()?;
    let prefix = match width {
        None => "    ".to_owned(),
        Some(width) => match width.as_str() {
            Some(prefix) => prefix.to_owned(),
            None => " ".repeat(usize::try_from(width)?.min(1000)),
        },
    };
    let newlines = text.matches('\n').count() + 1;
    check_length(
        text.len()
            .saturating_add(newlines.saturating_mul(prefix.len())),
    )?;
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        // jinja2 indents the first line also if it is empty.
        if (index == 0 && first) || (index > 0 && (blank || !line.is_empty())) {
            out.push_str(&prefix);
        }
        out.push_str(line);
    }
    limited(out)
}

/// Checks that Python orders the items.
fn check_order(items: &[Value], by_attribute: bool) -> Result<(), Error> {
    for pair in items.windows(2) {
        if !by_attribute && operators::comparable(&pair[0], &pair[1]).is_err() {
            let kinds = [text::type_name(&pair[0]), text::type_name(&pair[1])];
            return Err(error(format!(
                "'{}' and '{}' have no order",
                kinds[0], kinds[1]
            )));
        }
    }
    Ok(())
}

fn dictsort(
    value: &Value,
    case_sensitive: Option<bool>,
    by: Option<String>,
    reverse: Option<bool>,
    named: Kwargs,
) -> Result<Value, Error> {
    let case_sensitive = case_sensitive
        .or(named.get("case_sensitive")?)
        .unwrap_or(false);
    let by = match by {
        None => named.get::<Option<String>>("by")?,
        given => given,
    };
    let reverse = reverse.or(named.get("reverse")?).unwrap_or(false);
    named.assert_all_used()?;
    if value.kind() != ValueKind::Map || views::is_namespace(value) {
        return Err(error(format!(
            "'{}' object has no items",
            text::type_name(value)
        )));
    }
    let position = match by.as_deref() {
        None | Some("key") => 0,
        Some("value") => 1,
        Some(_) => return Err(error("dictsort: `by` is `key` or `value`")),
    };
    let mut entries = Vec::new();
    for key in value.try_iter()? {
        let pair = [key.clone(), value.get_item(&key)?];
        let sorted_by = match pair[position].as_str() {
            Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
            _ => pair[position].clone(),
        };
        entries.push((sorted_by, super::tuple(pair)));
    }
    let keys: Vec<Value> = entries.iter().map(|(key, _)| key.clone()).collect();
    check_order(&keys, false)?;
    entries.sort_by(|a, b| {
        if reverse {
            b.0.cmp(&a.0)
        } else {
            a.0.cmp(&b.0)
        }
    });
    Ok(entries.into_iter().map(|(_, pair)| pair).collect())
}

/// Cuts a text that is longer than `length` characters, and more than `leeway` longer.
fn truncate(
    value: &Value,
    length: Option<usize>,
    killwords: Option<bool>,
    end: Option<String>,
    named: Kwargs,
) -> Result<Value, Error> {
    let length = length.or(named.get("length")?).unwrap_or(255);
    let kill = killwords.or(named.get("killwords")?).unwrap_or(false);
    let end = end.or(named.get("end")?).unwrap_or("...".to_owned());
    let leeway = named.get::<Option<usize>>("leeway")?.unwrap_or(5);
    named.assert_all_used()?;
    let kept = length.checked_sub(end.chars().count());
    let kept = kept.ok_or_else(|| error("truncate: the length is less than that of the end"))?;
    if self::length(value)? <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let text = value.as_str();
    let text = text.ok_or_else(|| error("truncate: a text is expected"))?;
    let text: String = text.chars().take(kept).collect();
    let whole = text.rsplit_once(' ').map(|(words, _)| words);
    let text = whole.filter(|_| !kill).unwrap_or(&text);
    limited(format!("{text}{end}"))
}
