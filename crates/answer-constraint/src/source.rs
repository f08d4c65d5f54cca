//! A constraint as llguidance reads it, checked as far as that is cheap.

use diagnostics::{Diagnostic, excerpt};
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use worker_contract::Constraint;

use crate::{
    fault::{invalid, too_complex},
    schema,
};

/// Largest schema, written as JSON, in bytes.
const MOST_SCHEMA_BYTES: usize = 256 << 10;
/// Largest regular expression or grammar, in bytes.
const MOST_TEXT_BYTES: usize = 64 << 10;
/// How a grammar begins a JSON schema of its own.
const EMBEDDED_SCHEMA: &str = "%json";

/// Reads a constraint.
pub(crate) fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar, Diagnostic> {
    match constraint {
        Constraint::JsonObject => from_schema(&json!({"type": "object"})),
        Constraint::JsonSchema(schema) => {
            bounded(schema.to_string().len(), MOST_SCHEMA_BYTES)?;
            from_schema(schema)
        }
        Constraint::Regex(expression) => {
            bounded(expression.len(), MOST_TEXT_BYTES)?;
            check_expression(expression)?;
            Ok(TopLevelGrammar::from_regex(expression))
        }
        Constraint::Grammar(text) => {
            bounded(text.len(), MOST_TEXT_BYTES)?;
            check_embedded(text)?;
            Ok(TopLevelGrammar::from_lark(text.clone()))
        }
    }
}

fn from_schema(schema: &Value) -> Result<TopLevelGrammar, Diagnostic> {
    schema::prepared(schema).map(TopLevelGrammar::from_json_schema)
}

fn bounded(bytes: usize, most: usize) -> Result<(), Diagnostic> {
    if bytes > most {
        return Err(too_complex(&format!(
            "it has {bytes} bytes, {most} are possible"
        )));
    }
    Ok(())
}

/// llguidance reads expressions with the same parser, but tells less of the place.
fn check_expression(expression: &str) -> Result<(), Diagnostic> {
    let Err(error) = regex_syntax::parse(expression) else {
        return Ok(());
    };
    let (what, span) = match &error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span()),
        other => return Err(invalid(excerpt(&other.to_string(), 200))),
    };
    Err(invalid(format!(
        "the expression is wrong at its byte {}: {what}",
        span.start.offset
    )))
}

/// The schemas inside a grammar are schemas.
fn check_embedded(text: &str) -> Result<(), Diagnostic> {
    let mut multiple = 1;
    for (start, _) in text.match_indices(EMBEDDED_SCHEMA) {
        let rest = &text[start + EMBEDDED_SCHEMA.len()..];
        // What is no JSON is told of by the grammar's own parser.
        if let Some(Ok(mut schema)) = serde_json::Deserializer::from_str(rest).into_iter().next() {
            schema::check(&mut schema, "", 0, &mut multiple)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(constraint: &Constraint) -> String {
        grammar(constraint).unwrap_err().message
    }

    #[test]
    fn an_expression_is_refused_with_the_place() {
        let told = fault(&Constraint::Regex("ab(c".into()));
        assert_eq!(
            told,
            "`constraint`: the expression is wrong at its byte 2: unclosed group"
        );
        assert!(fault(&Constraint::Regex("(?=a)b".into())).contains("look-around"));
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        for constraint in [
            Constraint::Regex("x".repeat(MOST_TEXT_BYTES + 1)),
            Constraint::Grammar("x".repeat(MOST_TEXT_BYTES + 1)),
            Constraint::JsonSchema(json!({"const": "x".repeat(MOST_SCHEMA_BYTES)})),
        ] {
            assert!(fault(&constraint).contains("are possible"));
        }
    }

    #[test]
    fn a_schema_inside_a_grammar_is_checked_as_well() {
        let told = fault(&Constraint::Grammar(
            "start: %json {\"multipleOf\": 9999991}".into(),
        ));
        assert!(told.contains("multipleOf"), "{told}");
    }
}
