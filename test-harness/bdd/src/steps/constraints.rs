//! What a constrained answer must be, told of the text in the last answer.

use cucumber::{gherkin::Step, then};
use serde_json::Value;

use crate::{World, table};

pub(super) fn link() {}

fn text(world: &mut World) -> String {
    let answer = world.last_answer().json();
    let choice = &answer["choices"][0];
    let text = choice["message"]["content"]
        .as_str()
        .or(choice["text"].as_str());
    text.unwrap_or_else(|| panic!("no text in {answer}"))
        .to_owned()
}

/// The table tells of each place what stands there: `a to b`, a whole number in this range;
/// `a, b, c`, one of these texts; `text of n`, at most n characters.
#[then("the answer's text is JSON with exactly")]
fn json_with(world: &mut World, step: &Step) {
    check_json(&text(world), step);
}

#[then("the arguments of the answer's call are JSON with exactly")]
fn arguments_with(world: &mut World, step: &Step) {
    let answer = world.last_answer().json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    let arguments = call["function"]["arguments"].as_str();
    check_json(
        arguments.unwrap_or_else(|| panic!("no call in {answer}")),
        step,
    );
}

fn check_json(text: &str, step: &Step) {
    let json: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let rows = table(step);
    for row in rows {
        let (field, expected) = (&row[0], &row[1]);
        let found = &json[field];
        let fits = if let Some((least, most)) = expected.split_once(" to ") {
            let range = least.parse::<i64>().unwrap()..=most.parse::<i64>().unwrap();
            found.as_i64().is_some_and(|n| range.contains(&n))
        } else if let Some(most) = expected.strip_prefix("text of ") {
            let most: usize = most.parse().unwrap();
            found.as_str().is_some_and(|t| t.chars().count() <= most)
        } else {
            expected.split(", ").any(|one| *found == one)
        };
        assert!(fits, "{field} is not {expected} in {text}");
    }
    assert_eq!(json.as_object().unwrap().len(), rows.len(), "{text}");
}

#[then(regex = r"^the answer's text is one of (.*)$")]
fn one_of(world: &mut World, expected: String) {
    let text = text(world);
    assert!(expected.split(", ").any(|one| one == text), "{text}");
}

/// `9` stands for any digit, everything else for itself.
#[then(regex = r"^the answer's text has the form `(.*)`$")]
fn has_form(world: &mut World, form: String) {
    let text = text(world);
    let fits = |(found, expected): (char, char)| match expected {
        '9' => found.is_ascii_digit(),
        other => found == other,
    };
    let same_length = text.chars().count() == form.chars().count();
    assert!(
        same_length && text.chars().zip(form.chars()).all(fits),
        "{text}"
    );
}
