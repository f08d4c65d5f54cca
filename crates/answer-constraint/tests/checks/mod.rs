//! What holds for whatever a constraint says.

#[path = "../saying/mod.rs"]
pub mod saying;

use answer_constraint::Constraint;
use diagnostics::{Code, Diagnostic, escape};
use saying::{begin, say};
use serde::de::IgnoredAny;

pub const WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "1e999",
    "0.1",
    "18446744073709551616",
    "{}",
    "[]",
    "true",
    "false",
    "\"type\":\"integer\",",
    "\"$ref\":\"#\"",
    "\"multipleOf\":0.3,",
    "\"minLength\":9,",
    "\"minItems\":9,",
    "\"patternProperties\":{\"^a\":false},",
    "\"allOf\":[{}],",
    "\"not\":{},",
    "\"format\":\"uuid\",",
    "{0,99}",
    "\\\\p{L}",
    "(?i)",
    "(?=a)",
    "[^",
    ".*",
    "start: ",
    "%json {}",
    "%regex {}",
    "[max_tokens=3]",
    "\\n",
    "é",
];

/// Longest answer that is tried, in tokens.
const MOST: usize = 48;

/// A constraint in JSON is refused or followed.
pub fn constraint(document: &[u8]) {
    let Ok(constraint) = serde_json::from_slice::<Constraint>(document) else {
        return;
    };
    let refused = |error: Diagnostic| {
        let of_client = [Code::InvalidRequest, Code::UnsupportedParameter];
        assert!(of_client.contains(&error.code), "{error:?}");
        let safe = |line: &str| line == escape(line);
        assert!(error.message.lines().all(safe), "{error:?}");
    };
    let answer = match begin(&constraint) {
        Ok(begun) => say(begun, 7, MOST),
        Err(error) => return refused(error),
    };
    match (answer, constraint) {
        (Err(error), _) => refused(error),
        (Ok(answer), Constraint::JsonSchema(_) | Constraint::JsonObject) if answer.ended => {
            let text = String::from_utf8(answer.text).unwrap();
            // Numbers may be larger than any that a program holds.
            let read = serde_json::from_str::<IgnoredAny>(&text);
            assert!(read.is_ok(), "{text:?}");
        }
        (Ok(_), _) => {}
    }
}
