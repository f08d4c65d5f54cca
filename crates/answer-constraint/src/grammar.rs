//! Builds llguidance grammars, after checks that are cheap.

use diagnostics::Diagnostic;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};
use worker_contract::Constraint;

use crate::{
    errors,
    output::{Function, OutputConstraint, Piece},
    schema,
};

/// Maximum size of a schema as JSON.
const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Maximum size of a regular expression or grammar.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Introduces a JSON schema in a grammar.
const EMBEDDED_SCHEMA: &str = "%json";

/// Builds the grammar of a constraint.
pub(crate) fn build(constraint: &OutputConstraint) -> Result<TopLevelGrammar, Diagnostic> {
    let (text, calls) = match constraint {
        OutputConstraint::Text(constraint) => {
            return text(constraint).map(TopLevelGrammar::from_grammar);
        }
        OutputConstraint::Calls(calls) => (None, calls),
        OutputConstraint::Either(constraint, calls) => (Some(text(constraint)?), calls),
    };
    let schemas = calls.functions.iter().map(|f| f.arguments.to_string());
    check_size(schemas.map(|schema| schema.len()).sum(), MAX_SCHEMA_BYTES)?;
    let [open, close] = [&calls.open, &calls.close].map(|pieces| lark(pieces));
    let divider = calls.divider.as_deref().map(lark);
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
        let [begin, end] = [&function.begin, &function.end].map(|pieces| lark(pieces));
        rules.push(format!("call{nth}: {begin} @arguments{nth} {end}"));
        names.push(format!("call{nth}"));
        grammars.push(named(format!("arguments{nth}"), arguments(function)?));
    }
    rules.push(format!("call: {}", names.join(" | ")));
    // The first grammar is the start.
    grammars.insert(0, GrammarWithLexer::from_lark(rules.join("\n")));
    Ok(TopLevelGrammar {
        grammars,
        max_tokens: None,
    })
}

/// Returns the functions of a constraint, each with the grammar of its arguments.
pub(crate) fn functions(
    constraint: &OutputConstraint,
) -> impl Iterator<Item = (&str, Result<TopLevelGrammar, Diagnostic>)> {
    let calls = match constraint {
        OutputConstraint::Text(_) => None,
        OutputConstraint::Calls(calls) | OutputConstraint::Either(_, calls) => Some(calls),
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
    from_schema(&function.arguments).map_err(|error| errors::in_function(error, &function.name))
}

fn named(name: String, grammar: GrammarWithLexer) -> GrammarWithLexer {
    GrammarWithLexer {
        name: Some(name),
        ..grammar
    }
}

/// Formats pieces in Lark syntax.
fn lark(pieces: &[Piece]) -> String {
    let terms = pieces.iter().map(|piece| match piece {
        // Lark strings are escaped like JSON strings.
        Piece::Text(text) => Value::from(text.as_str()).to_string(),
        Piece::Token(id) => format!("<[{id}]>"),
    });
    terms.collect::<Vec<_>>().join(" ")
}

fn text(constraint: &Constraint) -> Result<GrammarWithLexer, Diagnostic> {
    match constraint {
        Constraint::JsonObject => from_schema(&json!({"type": "object"})),
        Constraint::JsonSchema(schema) => {
            check_size(schema.to_string().len(), MAX_SCHEMA_BYTES)?;
            from_schema(schema)
        }
        Constraint::Regex(regex) => {
            check_size(regex.len(), MAX_TEXT_BYTES)?;
            // llguidance has the same parser but does not report positions.
            regex_syntax::parse(regex).map_err(|e| errors::invalid_regex(&e))?;
            Ok(GrammarWithLexer::from_regex(regex))
        }
        Constraint::Grammar(text) => {
            check_size(text.len(), MAX_TEXT_BYTES)?;
            check_embedded_schemas(text)?;
            Ok(GrammarWithLexer::from_lark(text.clone()))
        }
    }
}

/// Adds a hint if the grammar is in another syntax: GBNF and other kinds of BNF have `::=` where
/// Lark has a colon.
pub(crate) fn with_syntax_hint(error: Diagnostic, constraint: &OutputConstraint) -> Diagnostic {
    match constraint {
        OutputConstraint::Text(Constraint::Grammar(text))
        | OutputConstraint::Either(Constraint::Grammar(text), _)
            if text.contains("::=") =>
        {
            errors::maybe_gbnf(error)
        }
        _ => error,
    }
}

fn from_schema(schema: &Value) -> Result<GrammarWithLexer, Diagnostic> {
    schema::prepare(schema).map(GrammarWithLexer::from_json_schema)
}

fn check_size(bytes: usize, limit: usize) -> Result<(), Diagnostic> {
    if bytes > limit {
        return Err(errors::too_large(bytes, limit));
    }
    Ok(())
}

fn check_embedded_schemas(text: &str) -> Result<(), Diagnostic> {
    let mut multiple = 1;
    for (start, _) in text.match_indices(EMBEDDED_SCHEMA) {
        let rest = &text[start + EMBEDDED_SCHEMA.len()..];
        // The grammar parser reports invalid JSON.
        if let Some(Ok(mut schema)) = serde_json::Deserializer::from_str(rest).into_iter().next() {
            schema::check(&mut schema, "", 0, &mut multiple)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(constraint: &Constraint) -> String {
        build(&constraint.into()).unwrap_err().message
    }

    #[test]
    fn regex_errors_have_a_position() {
        for (regex, reason) in [
            ("ab(c", "2: unclosed group"),
            (
                "(?=a)b",
                "0: look-around, including look-ahead and look-behind, is not supported",
            ),
        ] {
            assert_eq!(
                message(&Constraint::Regex(regex.into())),
                format!("`constraint`: invalid regular expression at byte {reason}")
            );
        }
    }

    #[test]
    fn rejects_large_constraints() {
        let text = "x".repeat(MAX_TEXT_BYTES + 1);
        let schema = json!({"const": "x".repeat(MAX_SCHEMA_BYTES)});
        for (constraint, size) in [
            (
                Constraint::Regex(text.clone()),
                "65537 bytes, the limit is 65536",
            ),
            (Constraint::Grammar(text), "65537 bytes, the limit is 65536"),
            (
                Constraint::JsonSchema(schema),
                "262156 bytes, the limit is 262144",
            ),
        ] {
            assert_eq!(
                message(&constraint),
                format!("`constraint`: too complex: it has {size}")
            );
        }
    }

    #[test]
    fn checks_schemas_in_grammars() {
        assert_eq!(
            message(&Constraint::Grammar(
                "start: %json {\"multipleOf\": 9999991}".into()
            )),
            "`constraint`: too complex: with the `multipleOf` at `/`, the common multiple exceeds \
             100000"
        );
    }
}
