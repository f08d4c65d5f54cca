//! Builds llguidance grammars, after checks that are cheap.

use diagnostics::Diagnostic;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::json;
use worker_contract::Constraint;

use crate::{
    calls::{self, Rules},
    errors,
    lenience::Lenience,
    output::{Function, OutputConstraint},
    schema::{self, Options},
};

/// Maximum size of a schema as JSON.
const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Maximum size of a regular expression or grammar.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Introduces a JSON schema in a grammar.
const EMBEDDED_SCHEMA: &str = "%json";
/// Subject of notes about the schema of the text.
const SCHEMA: &str = "the JSON schema of the output";

/// A grammar and what it does not enforce, as sentences for the user.
#[derive(Debug)]
pub(crate) struct Built {
    pub grammar: TopLevelGrammar,
    pub notes: Vec<String>,
}

/// Builds the grammar of a constraint. `special` are the tokens without text.
pub(crate) fn build(
    constraint: &OutputConstraint,
    lenience: &Lenience,
    special: &[u32],
) -> Result<Built, Diagnostic> {
    let mut rules = Rules::default();
    let start = match constraint {
        OutputConstraint::Text(constraint) => {
            let grammar = text(constraint, lenience, &mut rules.notes)?;
            return Ok(Built {
                grammar: TopLevelGrammar::from_grammar(grammar),
                notes: rules.notes,
            });
        }
        OutputConstraint::Calls(_) => "start: calls",
        OutputConstraint::Either(constraint, _) => {
            let grammar = text(constraint, lenience, &mut rules.notes)?;
            rules.grammars.push(GrammarWithLexer {
                name: Some("text".to_owned()),
                ..grammar
            });
            "start: @text | calls"
        }
        OutputConstraint::Mixed(trigger, _) => {
            rules.mixed(trigger, special);
            "start: mixed"
        }
    };
    if let Some(calls) = constraint.calls() {
        let schemas = calls.functions.iter().map(|f| f.arguments.to_string());
        check_size(schemas.map(|schema| schema.len()).sum(), MAX_SCHEMA_BYTES)?;
        rules.calls(calls, lenience)?;
    }
    rules.lines.insert(0, start.to_owned());
    // The first grammar is the start.
    let mut grammars = vec![GrammarWithLexer::from_lark(rules.lines.join("\n"))];
    grammars.extend(rules.grammars);
    Ok(Built {
        grammar: TopLevelGrammar {
            grammars,
            max_tokens: None,
        },
        notes: rules.notes,
    })
}

/// Returns the grammar of a function's arguments.
pub(crate) fn arguments(
    function: &Function,
    coerce_one_of: bool,
) -> Result<TopLevelGrammar, Diagnostic> {
    calls::arguments(function, coerce_one_of).map(TopLevelGrammar::from_grammar)
}

fn text(
    constraint: &Constraint,
    lenience: &Lenience,
    notes: &mut Vec<String>,
) -> Result<GrammarWithLexer, Diagnostic> {
    match constraint {
        Constraint::JsonObject => {
            let any = schema::prepare(&json!({"type": "object"}), Options::default())?;
            Ok(GrammarWithLexer::from_json_schema(any.schema))
        }
        Constraint::JsonSchema(schema) | Constraint::StrictJsonSchema(schema) => {
            check_size(schema.to_string().len(), MAX_SCHEMA_BYTES)?;
            let options = Options {
                strict: matches!(constraint, Constraint::StrictJsonSchema(_)),
                coerce_one_of: lenience.text_one_of,
            };
            let prepared = schema::prepare(schema, options)?;
            let mut ignored = prepared.ignored;
            if options.coerce_one_of {
                ignored = Some(errors::with_one_of(ignored));
            }
            notes.extend(ignored.map(|ignored| errors::ignored(SCHEMA, &ignored)));
            Ok(GrammarWithLexer::from_json_schema(prepared.schema))
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
            schema::check(&mut schema, &mut multiple)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(constraint: &Constraint) -> String {
        let built = build(&constraint.into(), &Lenience::default(), &[]);
        built.unwrap_err().message
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
