use minijinja::{
    Environment, Error, Value,
    formatting::{FormatStyle, format},
    value::{Rest, Tuple, ValueKind},
};

use super::{MAX_ITEMS, check_length, error, items, limited, range::Range, text, too_large, views};
use crate::control::is_mark;

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_function("__add", add);
    environment.add_function("__concat", concat);
    environment.add_function("__mul", multiply);
    environment.add_function("__mod", modulo);
    environment.add_function("__compare", compare);
    environment.add_function("__slice", slice);
    environment.add_function("__iterate", iterate);
    environment.add_function("__iterate_if_true", |value: Value| {
        if value.is_true() {
            iterate(value)
        } else {
            Ok(Value::from(Vec::<Value>::new()))
        }
    });
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> Error {
    error(format!(
        "unsupported operand types for {operator}: '{}' and '{}'",
        text::type_name(left),
        text::type_name(right)
    ))
}

fn is_list(value: &Value) -> bool {
    value.kind() == ValueKind::Seq
}

fn sequence(like: &Value, items: Vec<Value>) -> Value {
    if like.is_tuple() {
        Value::from(Tuple::from(items))
    } else {
        Value::from(items)
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

fn integer(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn number(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value), Value::from)
}

fn as_float(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        _ => f64::try_from(value.clone()).ok(),
    }
}

/// The sum of all values, from left to right.
fn add(values: Rest<Value>) -> Result<Value, Error> {
    let mut texts = String::new();
    if values
        .iter()
        .all(|value| value.as_str().is_some() && !value.is_safe())
    {
        for value in values.iter() {
            texts.push_str(value.as_str().unwrap_or_default());
            check_length(texts.len())?;
        }
        return Ok(Value::from(texts));
    }
    let mut values = values.0.into_iter();
    let first = values.next().unwrap_or_default();
    values.try_fold(first, |left, right| add_two(&left, &right))
}

fn add_two(left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        if left.is_safe() || right.is_safe() {
            let part = |value: &Value, text: &str| {
                if value.is_safe() {
                    text.to_owned()
                } else {
                    text::escape(text)
                }
            };
            let sum = part(left, a) + &part(right, b);
            check_length(sum.len())?;
            return Ok(Value::from_safe_string(sum));
        }
        return limited([a, b].concat());
    }
    if is_list(left) && is_list(right) && left.is_tuple() == right.is_tuple() {
        let mut all = items(left)?;
        all.extend(items(right)?);
        if all.len() > MAX_ITEMS {
            return Err(too_large());
        }
        return Ok(sequence(left, all));
    }
    if !is_number(left) || !is_number(right) {
        return Err(unsupported("+", left, right));
    }
    if let (Some(a), Some(b)) = (integer(left), integer(right)) {
        let sum = a.checked_add(b).ok_or_else(too_large)?;
        return Ok(number(sum));
    }
    match (as_float(left), as_float(right)) {
        (Some(a), Some(b)) => Ok(Value::from(a + b)),
        _ => Err(unsupported("+", left, right)),
    }
}

fn concat(values: Rest<Value>) -> Result<Value, Error> {
    let mut out = String::new();
    for value in values.iter() {
        out.push_str(&text::str(value)?);
        check_length(out.len())?;
    }
    Ok(Value::from(out))
}

fn multiply(left: Value, right: Value) -> Result<Value, Error> {
    for (value, count) in [(&left, &right), (&right, &left)] {
        let repeatable = value.as_str().is_some() || is_list(value);
        let Some(count) = integer(count).filter(|_| repeatable) else {
            continue;
        };
        let count = usize::try_from(count.max(0)).map_err(|_| too_large())?;
        if let Some(text) = value.as_str() {
            check_length(text.len().saturating_mul(count))?;
            return Ok(Value::from(text.repeat(count)));
        }
        let once = items(value)?;
        if once.len().saturating_mul(count) > MAX_ITEMS {
            return Err(too_large());
        }
        let repeated = std::iter::repeat_n(once, count).flatten().collect();
        return Ok(sequence(value, repeated));
    }
    if !is_number(&left) || !is_number(&right) {
        return Err(unsupported("*", &left, &right));
    }
    if let (Some(a), Some(b)) = (integer(&left), integer(&right)) {
        return Ok(number(a.checked_mul(b).ok_or_else(too_large)?));
    }
    match (as_float(&left), as_float(&right)) {
        (Some(a), Some(b)) => Ok(Value::from(a * b)),
        _ => Err(unsupported("*", &left, &right)),
    }
}

/// The remainder, or a text formatted as C's `printf`.
fn modulo(left: Value, right: Value) -> Result<Value, Error> {
    if let Some(template) = left.as_str() {
        return limited(printf(template, &right)?);
    }
    if !is_number(&left) || !is_number(&right) {
        return Err(unsupported("%", &left, &right));
    }
    if let (Some(a), Some(b)) = (integer(&left), integer(&right)) {
        let remainder = a
            .checked_rem(b)
            .ok_or_else(|| error("integer modulo by zero"))?;
        let differs = remainder != 0 && (remainder < 0) != (b < 0);
        return Ok(number(if differs { remainder + b } else { remainder }));
    }
    match (as_float(&left), as_float(&right)) {
        (Some(_), Some(0.0)) => Err(error("float modulo by zero")),
        (Some(a), Some(b)) => {
            let remainder = a % b;
            let differs = remainder != 0.0 && (remainder < 0.0) != (b < 0.0);
            Ok(Value::from(if differs { remainder + b } else { remainder }))
        }
        _ => Err(unsupported("%", &left, &right)),
    }
}

/// Formats values as Python's `%`.
pub(super) fn printf(template: &str, arguments: &Value) -> Result<String, Error> {
    let mut values = if arguments.is_tuple() {
        items(arguments)?
    } else {
        vec![arguments.clone()]
    };
    let conversions = template.replace("%%", "");
    let by_name = conversions.contains("%(");
    let wanted = conversions.matches('%').count();
    let unused = arguments.kind() != ValueKind::Map || arguments.is_tuple();
    if !by_name && unused && wanted < values.len() {
        return Err(error(
            "not all arguments converted during string formatting",
        ));
    }
    if !by_name && wanted == 0 {
        values.clear();
    }
    // minijinja formats floats by its own rule.
    let values: Result<Vec<Value>, Error> = values
        .into_iter()
        .map(|value| match value.kind() {
            ValueKind::Number if !value.is_integer() && conversions.contains("%s") => {
                Ok(Value::from(text::repr(&value)?))
            }
            _ => Ok(value),
        })
        .collect();
    format(FormatStyle::Printf, template, &values?)
}

/// A chain of comparisons: values with an operator between each two.
fn compare(parts: Rest<Value>) -> Result<bool, Error> {
    let mut parts = parts.0.into_iter();
    let mut left = parts.next().unwrap_or_default();
    while let (Some(operator), Some(right)) = (parts.next(), parts.next()) {
        let holds = match operator.as_str().unwrap_or_default() {
            "==" => equal(&left, &right),
            "!=" => !equal(&left, &right),
            "in" => contains(&right, &left)?,
            "not in" => !contains(&right, &left)?,
            operator => ordered(operator, &left, &right)?,
        };
        if !holds {
            return Ok(false);
        }
        left = right;
    }
    Ok(true)
}

pub(super) fn equal(left: &Value, right: &Value) -> bool {
    if is_list(left) && is_list(right) && left.is_tuple() != right.is_tuple() {
        return false;
    }
    match (left.kind(), right.kind()) {
        (ValueKind::Bool, ValueKind::Number) | (ValueKind::Number, ValueKind::Bool) => {
            as_float(left) == as_float(right)
        }
        (ValueKind::Iterable, ValueKind::Seq) | (ValueKind::Seq, ValueKind::Iterable) => false,
        _ => left == right,
    }
}

fn ordered(operator: &str, left: &Value, right: &Value) -> Result<bool, Error> {
    comparable(left, right).map_err(|()| unsupported(operator, left, right))?;
    if let (Some(a), Some(b)) = (as_float(left), as_float(right))
        && (integer(left).is_none() || integer(right).is_none())
    {
        return Ok(match operator {
            "<" => a < b,
            "<=" => a <= b,
            ">" => a > b,
            _ => a >= b,
        });
    }
    let ordering = match (integer(left), integer(right)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => left.cmp(right),
    };
    Ok(match operator {
        "<" => ordering.is_lt(),
        "<=" => ordering.is_le(),
        ">" => ordering.is_gt(),
        _ => ordering.is_ge(),
    })
}

/// Whether Python orders two values.
pub(super) fn comparable(left: &Value, right: &Value) -> Result<(), ()> {
    let both = |is: fn(&Value) -> bool| is(left) && is(right);
    let same_lists = is_list(left) && is_list(right) && left.is_tuple() == right.is_tuple();
    if both(is_number) || both(|v| v.as_str().is_some()) || same_lists {
        return Ok(());
    }
    Err(())
}

fn contains(container: &Value, value: &Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        let Some(part) = value.as_str() else {
            return Err(error("'in <string>' requires a string as left operand"));
        };
        // What a template looks for may be broken by marks.
        return Ok(text.contains(part)
            || (text.contains(is_mark) && text.replace(is_mark, "").contains(part)));
    }
    match container.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::Map if !views::is_namespace(container) => {
            let mut keys = container.try_iter()?;
            match value.as_str() {
                Some(_) => {
                    Ok(!container.get_item(value)?.is_undefined() || keys.any(|k| k == *value))
                }
                None => Ok(keys.any(|key| equal(&key, value))),
            }
        }
        ValueKind::Seq | ValueKind::Iterable => {
            for item in container.try_iter()?.checked() {
                if equal(&item?, value) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(error(format!(
            "argument of type '{}' is not iterable",
            text::type_name(container)
        ))),
    }
}

/// `value[start:stop:step]`.
fn slice(value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    let part = |part: &Value| -> Result<Option<i128>, Error> {
        if part.is_none() {
            return Ok(None);
        }
        let index = integer(part).filter(|i| i64::try_from(*i).is_ok());
        index
            .map(Some)
            .ok_or_else(|| error("slice indices must be integers or None"))
    };
    let chars: Vec<char>;
    let length = if let Some(text) = value.as_str() {
        chars = text.chars().collect();
        chars.len()
    } else {
        chars = Vec::new();
        match value.kind() {
            ValueKind::Seq => value.len().unwrap_or(0),
            ValueKind::Iterable if value.downcast_object_ref::<views::View>().is_none() => {
                value.len().unwrap_or(0)
            }
            ValueKind::Undefined => return Err(error("the value to slice is undefined")),
            _ => {
                let kind = text::type_name(&value);
                return Err(error(format!("'{kind}' object has no slices")));
            }
        }
    };
    let step = part(&step)?.unwrap_or(1);
    if step == 0 {
        return Err(error("slice step cannot be zero"));
    }
    let length = length as i128;
    let (low, high) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let bound = |index: Option<i128>, default: i128| match index {
        None => default,
        Some(index) if index < 0 => (index + length).clamp(low, high),
        Some(index) => index.clamp(low, high),
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let mut at = bound(part(&start)?, first);
    let stop = bound(part(&stop)?, last);
    if let Some(range) = value.downcast_object_ref::<Range>() {
        return Ok(Value::from_object(range.slice(at, stop, step)));
    }
    let mut indices = Vec::new();
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        indices.push(at as usize);
        at += step;
    }
    if value.as_str().is_some() {
        let picked = indices.iter().filter_map(|i| chars.get(*i));
        return Ok(Value::from(picked.collect::<String>()));
    }
    let all = items(&value)?;
    let picked = indices.iter().filter_map(|i| all.get(*i).cloned());
    Ok(sequence(&value, picked.collect()))
}

/// What a loop iterates: an error for values that Python does not iterate.
fn iterate(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined => Ok(value),
        ValueKind::Map if !views::is_namespace(&value) => Ok(value),
        _ => items(&value).map(Value::from),
    }
}
