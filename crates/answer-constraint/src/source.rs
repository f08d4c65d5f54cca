//! What an answer must be as llguidance reads it, checked as far as that is cheap.

use diagnostics::{Diagnostic, excerpt};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};
use worker_contract::Constraint;

use crate::{
    Function, Piece, Shape,
    fault::{self, invalid, too_complex},
    schema,
};

/// Largest schema, written as JSON, in bytes.
const MOST_SCHEMA_BYTES: usize = 256 << 10;
/// Largest regular expression or grammar, in bytes.
const MOST_TEXT_BYTES: usize = 64 << 10;
/// How a grammar begins a JSON schema of its own.
const EMBEDDED_SCHEMA: &str = "%json";

/// Reads what an answer must be.
pub(crate) fn grammar(shape: &Shape) -> Result<TopLevelGrammar, Diagnostic> {
    let (text, calls) = match shape {
        Shape::Text(constraint) => return text(constraint).map(TopLevelGrammar::from_grammar),
        Shape::Calls(calls) => (None, calls),
        Shape::Either(constraint, calls) => (Some(text(constraint)?), calls),
    };
    let schemas = calls.functions.iter().map(|f| f.arguments.to_string());
    bounded(schemas.map(|schema| schema.len()).sum(), MOST_SCHEMA_BYTES)?;
    let [open, close] = [&calls.open, &calls.close].map(|pieces| written(pieces));
    let divider = calls.divider.as_deref().map(written);
    let more = divider.map_or_else(String::new, |divider| format!("({divider} call)*"));
    let start = if text.is_some() {
        "start: @text | calls"
    } else {
        "start: calls"
    };
    let mut rules = vec![
        start.to_owned(),
        format!("calls: {open} call {more} {close}"),
    ];
    let mut names = Vec::with_capacity(calls.functions.len());
    let mut grammars = Vec::with_capacity(calls.functions.len() + 2);
    grammars.extend(text.map(|text| named("text".to_owned(), text)));
    for (nth, function) in calls.functions.iter().enumerate() {
        let [begin, end] = [&function.begin, &function.end].map(|pieces| written(pieces));
        rules.push(format!("call{nth}: {begin} @arguments{nth} {end}"));
        names.push(format!("call{nth}"));
        grammars.push(named(format!("arguments{nth}"), arguments(function)?));
    }
    rules.push(format!("call: {}", names.join(" | ")));
    // Answers begin with the first grammar.
    grammars.insert(0, GrammarWithLexer::from_lark(rules.join("\n")));
    Ok(TopLevelGrammar {
        grammars,
        max_tokens: None,
    })
}

/// The functions that may be called, each with the grammar of its arguments alone.
pub(crate) fn functions(
    shape: &Shape,
) -> impl Iterator<Item = (&str, Result<TopLevelGrammar, Diagnostic>)> {
    let calls = match shape {
        Shape::Text(_) => None,
        Shape::Calls(calls) | Shape::Either(_, calls) => Some(calls),
    };
    calls
        .into_iter()
        .flat_map(|calls| &calls.functions)
        .map(|function| {
            let grammar = arguments(function).map(TopLevelGrammar::from_grammar);
            (function.name.as_str(), grammar)
        })
}

fn arguments(function: &Function) -> Result<GrammarWithLexer, Diagnostic> {
    from_schema(&function.arguments).map_err(|error| fault::of_function(error, &function.name))
}

fn named(name: String, grammar: GrammarWithLexer) -> GrammarWithLexer {
    GrammarWithLexer {
        name: Some(name),
        ..grammar
    }
}

/// Pieces in Lark's notation.
fn written(pieces: &[Piece]) -> String {
    let written = pieces.iter().map(|piece| match piece {
        // Texts are written as in JSON.
        Piece::Text(text) => Value::from(text.as_str()).to_string(),
        Piece::Token(id) => format!("<[{id}]>"),
    });
    written.collect::<Vec<_>>().join(" ")
}

fn text(constraint: &Constraint) -> Result<GrammarWithLexer, Diagnostic> {
    match constraint {
        Constraint::JsonObject => from_schema(&json!({"type": "object"})),
        Constraint::JsonSchema(schema) => {
            bounded(schema.to_string().len(), MOST_SCHEMA_BYTES)?;
            from_schema(schema)
        }
        Constraint::Regex(expression) => {
            bounded(expression.len(), MOST_TEXT_BYTES)?;
            check_expression(expression)?;
            Ok(GrammarWithLexer::from_regex(expression))
        }
        Constraint::Grammar(text) => {
            bounded(text.len(), MOST_TEXT_BYTES)?;
            check_embedded(text)?;
            Ok(GrammarWithLexer::from_lark(text.clone()))
        }
    }
}

/// Tells those who wrote a grammar in another notation which one is read: `::=` is what GBNF
/// and other kinds of BNF have where Lark has a colon.
pub(crate) fn in_lark(error: Diagnostic, shape: &Shape) -> Diagnostic {
    match shape {
        Shape::Text(Constraint::Grammar(text)) | Shape::Either(Constraint::Grammar(text), _)
            if text.contains("::=") =>
        {
            error.hint("GBNF is not understood: write the grammar in Lark's notation, `start: \"a\" | b` for `root ::= \"a\" | b`")
        }
        _ => error,
    }
}

fn from_schema(schema: &Value) -> Result<GrammarWithLexer, Diagnostic> {
    schema::prepared(schema).map(GrammarWithLexer::from_json_schema)
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
        grammar(&constraint.into()).unwrap_err().message
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
