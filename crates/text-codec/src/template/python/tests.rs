use minijinja::{Environment, Error, Value, value::ValueKind};

use super::{error, text, views};

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_test("iterable", |value: &Value| {
        value.kind() != ValueKind::None && !views::is_namespace(value) && value.try_iter().is_ok()
    });
    environment.add_test("sequence", |value: &Value| {
        let is_view = value.downcast_object_ref::<views::View>().is_some();
        match value.kind() {
            ValueKind::Undefined | ValueKind::String | ValueKind::Seq => true,
            ValueKind::Map => !views::is_namespace(value),
            ValueKind::Iterable => !is_view,
            _ => false,
        }
    });
    environment.add_test("mapping", |value: &Value| {
        value.kind() == ValueKind::Map && !views::is_namespace(value)
    });
    environment.add_test("callable", |value: &Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::Plain)
    });
    environment.add_test("lower", |value: &Value| -> Result<bool, Error> {
        let text = text::str(value)?;
        Ok(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))
    });
    environment.add_test("upper", |value: &Value| -> Result<bool, Error> {
        let text = text::str(value)?;
        Ok(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))
    });
    environment.add_test("odd", |value: &Value| {
        Ok::<_, Error>(remainder(value, 2)? == 1)
    });
    environment.add_test("even", |value: &Value| {
        Ok::<_, Error>(remainder(value, 2)? == 0)
    });
    environment.add_test("divisibleby", |value: &Value, by: i128| {
        Ok::<_, Error>(remainder(value, by)? == 0)
    });
}

fn remainder(value: &Value, by: i128) -> Result<i128, Error> {
    let number = match value.kind() {
        ValueKind::Bool => i128::from(value.is_true()),
        // The remainder of a float is an integer if the float is.
        ValueKind::Number => match i128::try_from(value.clone()) {
            Ok(number) => number,
            Err(_) if f64::try_from(value.clone())? % by as f64 == 0.0 => 0,
            Err(_) => return Ok(-1),
        },
        _ => {
            let kind = text::type_name(value);
            return Err(error(format!(
                "unsupported operand types for %: '{kind}' and 'int'"
            )));
        }
    };
    number
        .checked_rem_euclid(by)
        .ok_or_else(|| error("integer modulo by zero"))
}
