//! Properties that hold for every constraint, however damaged.

#[path = "../sampling/mod.rs"]
pub mod sampling;

use answer_constraint::Constraint;
use diagnostics::{Code, Diagnostic, escape};
use sampling::{compile, sample};
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

const MAX_TOKENS: usize = 48;

/// A constraint in JSON is rejected or followed.
pub fn constraint(document: &[u8]) {
    let Ok(constraint) = serde_json::from_slice::<Constraint>(document) else {
        return;
    };
    let assert_request_error = |error: Diagnostic| {
        let request_errors = [Code::InvalidRequest, Code::UnsupportedParameter];
        assert!(request_errors.contains(&error.code), "{error:?}");
        let escaped = |line: &str| line == escape(line);
        assert!(error.message.lines().all(escaped), "{error:?}");
    };
    let output = match compile(&constraint) {
        Ok(state) => sample(state, 7, MAX_TOKENS),
        Err(error) => return assert_request_error(error),
    };
    match (output, constraint) {
        (Err(error), _) => assert_request_error(error),
        (Ok(output), Constraint::JsonSchema(_) | Constraint::JsonObject) if output.ended => {
            let text = String::from_utf8(output.text).unwrap();
            // Checks only the syntax, since numbers may exceed every numeric type.
            let read = serde_json::from_str::<IgnoredAny>(&text);
            assert!(read.is_ok(), "{text:?}");
        }
        (Ok(output), _) => assert!(output.ended || output.tokens.len() == MAX_TOKENS),
    }
}
