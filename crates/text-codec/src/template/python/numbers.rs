//! Filters for numbers.

use minijinja::{
    Environment, Error, Value, filters,
    value::{Kwargs, ValueKind},
};

use super::error;

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("abs", |value: &Value| match value.kind() {
        ValueKind::Bool => Ok(Value::from(u8::from(value.is_true()))),
        _ => filters::abs(value.clone()),
    });
    environment.add_filter(
        "round",
        |value: &Value, precision: Option<i32>, method: Option<&str>, named: Kwargs| {
            let number = match value.kind() {
                ValueKind::Bool => Value::from(u8::from(value.is_true())),
                _ => value.clone(),
            };
            filters::round(number, precision, method, named)
        },
    );
}

fn int(
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    named: Kwargs,
) -> Result<Value, Error> {
    let default = match default {
        None => named
            .get::<Option<Value>>("default")?
            .unwrap_or_else(|| Value::from(0)),
        Some(default) => default,
    };
    let base = base.or(named.get("base")?).unwrap_or(10);
    named.assert_all_used()?;
    let truncated = |number: f64| {
        number
            .is_finite()
            .then(|| Value::from(number.trunc() as i128))
    };
    let parsed = match value.kind() {
        ValueKind::Undefined => return Err(error("int: the value is undefined")),
        ValueKind::Bool => Some(Value::from(u8::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => match truncated(f64::try_from(value.clone())?) {
            None => return Err(error("cannot convert float infinity to integer")),
            number => number,
        },
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            let digits = text.strip_prefix('+').unwrap_or(&text);
            match (2..=36)
                .contains(&base)
                .then(|| i128::from_str_radix(digits, base))
            {
                Some(Ok(number)) => Some(Value::from(number)),
                _ => text.parse::<f64>().ok().and_then(truncated),
            }
        }
        _ => None,
    };
    Ok(parsed.unwrap_or(default))
}

fn float(value: &Value, default: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let default = match default {
        None => named
            .get::<Option<Value>>("default")?
            .unwrap_or_else(|| Value::from(0.0)),
        Some(default) => default,
    };
    named.assert_all_used()?;
    let parsed = match value.kind() {
        ValueKind::Undefined => return Err(error("float: the value is undefined")),
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => value.to_string().parse().ok(),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => value.as_str().and_then(|text| text.trim().parse().ok()),
        _ => None,
    };
    Ok(parsed.map_or(default, Value::from))
}
