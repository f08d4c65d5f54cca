//! Steps that check the output of a constrained completion in the last response.

use cucumber::{gherkin::Step, then};
use serde_json::Value;

use crate::{World, table};

pub(super) fn link() {}

fn text(world: &World) -> String {
    let response = world.last_response();
    assert_eq!(response.status, 200, "{}", response.text);
    let json = response.json();
    let choice = &json["choices"][0];
    let text = choice["message"]["content"]
        .as_str()
        .or(choice["text"].as_str());
    text.unwrap_or_else(|| panic!("no text in {json}"))
        .to_owned()
}

/// The table has the expected value of each field: `a to b` is an integer in this range,
/// `a, b, c` one of these texts, and `text of n` a text of at most n characters.
#[then("the response's text is JSON with exactly")]
fn json_with(world: &mut World, step: &Step) {
    check_json(&text(world), step);
}

#[then("the arguments of the response's tool call are JSON with exactly")]
fn arguments_with(world: &mut World, step: &Step) {
    let response = world.last_response().json();
    let call = &response["choices"][0]["message"]["tool_calls"][0];
    let arguments = call["function"]["arguments"].as_str();
    check_json(
        arguments.unwrap_or_else(|| panic!("no tool call in {response}")),
        step,
    );
}

fn check_json(text: &str, step: &Step) {
    let json: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let rows = table(step);
    for row in rows {
        let (field, expected) = (&row[0], &row[1]);
        let found = &json[field];
        let matches = if let Some((min, max)) = expected.split_once(" to ") {
            let range = min.parse::<i64>().unwrap()..=max.parse::<i64>().unwrap();
            found.as_i64().is_some_and(|n| range.contains(&n))
        } else if let Some(max) = expected.strip_prefix("text of ") {
            let max: usize = max.parse().unwrap();
            found.as_str().is_some_and(|t| t.chars().count() <= max)
        } else {
            expected.split(", ").any(|one| *found == one)
        };
        assert!(matches, "{field} is not {expected} in {text}");
    }
    assert_eq!(json.as_object().unwrap().len(), rows.len(), "{text}");
}

#[then(regex = r"^the response's text is one of (.*)$")]
fn one_of(world: &mut World, expected: String) {
    let text = text(world);
    assert!(expected.split(", ").any(|one| one == text), "{text}");
}

/// `9` matches any digit, and every other character itself.
#[then(regex = r"^the response's text has the form `(.*)`$")]
fn has_form(world: &mut World, form: String) {
    let text = text(world);
    let matches = |(found, expected): (char, char)| match expected {
        '9' => found.is_ascii_digit(),
        other => found == other,
    };
    let same_length = text.chars().count() == form.chars().count();
    assert!(
        same_length && text.chars().zip(form.chars()).all(matches),
        "{text}"
    );
}
