//! Randomly sampled outputs satisfy their constraints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod sampling;

use answer_constraint::{Compiler, Constraint, ConstraintState, Vocabulary};
use diagnostics::Code;
use proptest::prelude::*;
use sampling::{END, compile, compiler, sample, vocabulary};
use serde_json::{Value, json};

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b", null]}, "maxItems": 3},
            "sure": {"type": "boolean"}
        },
        "required": ["name", "age"],
        "additionalProperties": false
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn output_satisfies_json_schema(seed: u64) {
        let output = sample(compile(&Constraint::JsonSchema(person())).unwrap(), seed, 2000).unwrap();
        prop_assert!(output.ended, "{}", String::from_utf8_lossy(&output.text));
        let value: Value = serde_json::from_slice(&output.text).unwrap();
        let object = value.as_object().unwrap();
        prop_assert!(object["name"].as_str().unwrap().chars().count() <= 8);
        prop_assert!(object["age"].as_u64().unwrap() <= 150);
        for name in object.keys() {
            prop_assert!(["name", "age", "tags", "sure"].contains(&name.as_str()), "{name}");
        }
        for tag in object.get("tags").and_then(Value::as_array).unwrap_or(&vec![]) {
            prop_assert!(tag.is_null() || tag == "a" || tag == "b");
        }
    }

    #[test]
    fn output_of_json_object_is_an_object(seed: u64) {
        let output = sample(compile(&Constraint::JsonObject).unwrap(), seed, 400).unwrap();
        if output.ended {
            // Checks only the syntax, since numbers may exceed every numeric type.
            serde_json::from_slice::<serde::de::IgnoredAny>(&output.text).unwrap();
            prop_assert_eq!(output.text[0], b'{');
        } else {
            prop_assert_eq!(output.tokens.len(), 400);
        }
    }

    #[test]
    fn output_matches_entire_regex(seed: u64) {
        let regex = Constraint::Regex("[a-cé]{2,4}@(x|yy)+!?".into());
        let output = sample(compile(&regex).unwrap(), seed, 500).unwrap();
        let text = String::from_utf8(output.text).unwrap();
        let (name, rest) = text.split_once('@').unwrap();
        prop_assert!((2..=4).contains(&name.chars().count()) && name.chars().all(|c| "abcé".contains(c)));
        if output.ended {
            let rest = rest.strip_suffix('!').unwrap_or(rest);
            prop_assert!(!rest.is_empty() && rest.replace("yy", "").replace('x', "").is_empty(), "{rest}");
        }
    }

    #[test]
    fn output_follows_grammar(seed: u64) {
        let grammar = "start: sum\nsum: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]{1,3}/";
        let output = sample(compile(&Constraint::Grammar(grammar.into())).unwrap(), seed, 60).unwrap();
        let text = String::from_utf8(output.text).unwrap();
        // Only an unfinished output may lack its last number.
        let complete = if output.ended {
            text.as_str()
        } else {
            prop_assert_eq!(output.tokens.len(), 60);
            text.trim_end_matches('+')
        };
        let is_number = |n: &str| (1..=3).contains(&n.len()) && n.parse::<u16>().is_ok();
        prop_assert!(complete.split('+').all(is_number), "{text}");
    }

    #[test]
    fn continued_output_has_the_same_mask(seed: u64, cut in 0..60_usize) {
        let constraint = Constraint::JsonSchema(person());
        let complete = sample(compile(&constraint).unwrap(), seed, 2000).unwrap();
        let cut = cut.min(complete.tokens.len() - 1);
        let (compiler, before, after) = (compiler(), &complete.tokens[..cut], complete.tokens[cut]);
        let continued = compiler.compile(&constraint, before).unwrap();
        let mut undisturbed = compiler.compile(&constraint, &[]).unwrap();
        prop_assert!(continued.allowed.contains(after));
        for token in before {
            prop_assert!(undisturbed.allowed.contains(*token));
            undisturbed.matcher.accept(*token).unwrap();
            undisturbed.allowed = undisturbed.matcher.allowed().unwrap();
        }
        prop_assert_eq!(continued.allowed, undisturbed.allowed);
    }
}

#[test]
fn end_token_is_allowed_only_when_complete() {
    let constraint = Constraint::JsonSchema(json!({"const": {"a": 1}}));
    let ConstraintState { allowed, .. } = compile(&constraint).unwrap();
    assert!(!allowed.contains(END));
    let tokens: Vec<u32> = br#"{"a":1}"#.iter().map(|b| u32::from(*b)).collect();
    let complete = compiler().compile(&constraint, &tokens).unwrap();
    assert_eq!(complete.allowed.ids().collect::<Vec<_>>(), [END]);
}

#[test]
fn json_allows_at_most_one_space_after_separators() {
    let compiler = compiler();
    let allowed = |constraint: &Constraint, text: &str| {
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        compiler.compile(constraint, &tokens).unwrap().allowed
    };
    let schema = Constraint::JsonSchema(person());
    for (constraint, text, space) in [
        (&schema, "", false),
        (&schema, "{", false),
        (&schema, "{\"name\"", false),
        (&schema, "{\"name\":", true),
        (&schema, "{\"name\": ", false),
        (&schema, "{\"name\": \"x\"", false),
        (&schema, "{\"name\": \"x\",", true),
        (&schema, "{\"name\": \"x\", ", false),
        (&schema, "{\"name\":\"x\",\"age\":1", false),
        (&schema, "{\"name\":\"x\",\"age\":1,\"tags\":[\"a\",", true),
        (&schema, "{\"name\":\"x\",\"age\":1,\"tags\":[\"a\"", false),
        (&schema, "{\"name\":\"x\",\"age\":1}", false),
        (&Constraint::JsonObject, "{", false),
        (&Constraint::JsonObject, "{\"a\": [1,", true),
        (&Constraint::JsonObject, "{\"a\": [1, ", false),
        (&Constraint::JsonObject, "{\"a\": [1, true", false),
        (&Constraint::JsonObject, "{\"a\": [1, true]", false),
        (&Constraint::JsonObject, "{\"a\": {}}", false),
    ] {
        let allowed = allowed(constraint, text);
        assert_eq!(allowed.contains(u32::from(b' ')), space, "{text}");
        for other in *b"\n\r\t" {
            assert!(!allowed.contains(u32::from(other)), "{text}");
        }
    }
}

#[test]
fn rejects_continuation_after_disallowed_tokens() {
    let error = compiler()
        .compile(&Constraint::Regex("ab".into()), &[97, 97])
        .err()
        .unwrap();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("continue_from"));
    assert_eq!(
        error.message,
        "`continue_from` has token 97 where the constraint does not allow it"
    );
}

#[test]
fn rejects_unsatisfiable_constraints() {
    let no_text = "no text satisfies it";
    for (impossible, reason) in [
        (
            Constraint::JsonSchema(json!({"type": "integer", "minimum": 5, "maximum": 3})),
            "Unsatisfiable schema: minimum (5) is greater than maximum (3)",
        ),
        (
            Constraint::JsonSchema(json!({
                "type": "object", "required": ["a"], "properties": {
                    "a": {"type": "object", "required": ["a"], "properties": {"a": false}}
                }
            })),
            "Unsatisfiable schema: required property 'a' is unsatisfiable: Unsatisfiable schema: \
             required property 'a' is unsatisfiable: Unsatisfiable schema: schema is false",
        ),
        (Constraint::JsonSchema(json!({"$ref": "#"})), no_text),
        (Constraint::Regex("[^\\s\\S]".into()), no_text),
        (Constraint::Grammar("start: x\nx: x \"a\"".into()), no_text),
    ] {
        let error = compile(&impossible).err().unwrap();
        assert_eq!(error.code, Code::InvalidRequest, "{impossible:?}");
        assert_eq!(error.param.as_deref(), Some("constraint"));
        assert_eq!(error.message, format!("`constraint`: {reason}"));
    }
}

#[test]
fn errors_name_the_cause() {
    for (wrong, cause) in [
        (Constraint::JsonSchema(json!({"type": "objec"})), "objec"),
        (
            Constraint::JsonSchema(json!({"$ref": "#/$defs/none"})),
            "$defs",
        ),
        (
            Constraint::JsonSchema(json!({"$ref": "http://x/y.json"})),
            "http://x/y.json",
        ),
        (
            Constraint::JsonSchema(json!({"properties": 7})),
            "properties",
        ),
        (
            Constraint::JsonSchema(json!({"pattern": "a(", "type": "string"})),
            "a(",
        ),
        (
            Constraint::Grammar("start: foo".into()),
            "line 1, column 8: unknown name",
        ),
        (Constraint::Grammar("star: \"x\"".into()), "no start rule"),
        (Constraint::Grammar(String::new()), "start"),
        (Constraint::Grammar("start: \"a".into()), "line 1"),
        (
            Constraint::Grammar("start: <|nobody|>".into()),
            "special token",
        ),
    ] {
        let error = compile(&wrong).err().unwrap();
        assert_eq!(error.code, Code::InvalidRequest, "{wrong:?}");
        assert!(error.message.contains(cause), "{}", error.message);
        assert!(
            !error.message.contains(char::is_control),
            "{}",
            error.message
        );
    }
}

#[test]
fn gbnf_errors_have_a_hint() {
    let error_of = |text: &str| {
        let wrong = Constraint::Grammar(text.into());
        compile(&wrong).err().unwrap()
    };
    for text in [
        "root ::= \"yes\" | \"no\"",
        "root ::= [a-z]+ (\",\" [a-z]+)*\n",
        "start: x\nx ::= \"a\"",
    ] {
        let error = error_of(text);
        assert_eq!(error.code, Code::InvalidRequest);
        assert_eq!(
            error.hint.as_deref(),
            Some(
                "write the grammar in Lark syntax instead of GBNF: `start: \"a\" | b`, not `root \
                 ::= \"a\" | b`"
            )
        );
    }
    assert_eq!(error_of("start: foo").hint, None);
}

fn grammar(rules: impl Iterator<Item = String>) -> Constraint {
    Constraint::Grammar(rules.collect::<Vec<_>>().join("\n"))
}

/// Small constraints that require much work. All finish soon, with or without an error, and
/// leave the compiler usable.
#[test]
fn constraint_bombs_fail_only_their_request() {
    let last = |name: &str| format!("{name}: \"x\"\nstart: ");
    let chained: serde_json::Map<String, Value> = (0..6000)
        .map(|i| {
            (
                format!("r{i}"),
                json!({"$ref": format!("#/$defs/r{}", i + 1)}),
            )
        })
        .chain([("r6000".to_owned(), json!({"type": "null"}))])
        .collect();
    let doubled = (0..14).fold(json!({"type": "string"}), |inner, n| {
        json!({"allOf": [
            {"anyOf": [inner.clone(), {"type": "string", "minLength": n}]},
            {"anyOf": [inner, {"type": "string", "maxLength": n + 5}]}
        ]})
    });
    let many: serde_json::Map<String, Value> = (0..3000)
        .map(|i| (format!("p{i}"), json!({"type": "string"})))
        .collect();
    let bombs = [
        Constraint::Regex("((((a{100}){100}){100}){100}){100}".into()),
        Constraint::Regex("(((a?b?){1000}){1000}){1000}".into()),
        Constraint::Regex(format!("{}{}", "a?".repeat(5000), "a".repeat(5000))),
        Constraint::Regex("(x*)*y*".repeat(3000)),
        Constraint::Regex(format!("{}a{}", "(".repeat(20_000), ")".repeat(20_000))),
        Constraint::Regex("abcdefgh".repeat(8000)),
        Constraint::Regex("[^\"]{200000}x".into()),
        grammar(
            (0..40)
                .map(|i| format!("r{i}: r{} r{}", i + 1, i + 1))
                .chain([last("r40") + "r0"]),
        ),
        grammar(
            (0..40)
                .map(|i| format!("R{i}: R{} R{}", i + 1, i + 1))
                .chain([last("R40") + "R0"]),
        ),
        grammar(
            (0..4500)
                .map(|i| format!("r{i}: r{}", i + 1))
                .chain([last("r4500") + "r0"]),
        ),
        grammar(
            (0..4500)
                .map(|i| format!("R{i}: R{}", i + 1))
                .chain([last("R4500") + "R0"]),
        ),
        Constraint::Grammar(format!(
            "start: {}\"a\"{}",
            "(".repeat(30_000),
            ")".repeat(30_000)
        )),
        Constraint::Grammar("start: (((\"x\"{1000}){1000}){1000}){1000}".into()),
        Constraint::Grammar("start: x\nx: x x | x x x | \"a\" | \"aa\" | ".into()),
        Constraint::Grammar(
            "start: X\nX: /(.*a.{12}b.*)/ & /(.*b.{13}a.*)/ & ~/(.*c.{11}d.*)/".into(),
        ),
        Constraint::JsonSchema(json!({"$ref": "#/$defs/r0", "$defs": chained})),
        Constraint::JsonSchema(doubled),
        Constraint::JsonSchema(json!({"type": "object", "properties": many})),
        Constraint::JsonSchema(json!({"type": "string", "pattern": "^(a|b)*a(a|b){30}$"})),
        Constraint::JsonSchema(json!({"type": "string", "minLength": u64::MAX})),
        Constraint::JsonSchema(json!({"type": "array", "minItems": u64::MAX, "items": true})),
        Constraint::JsonSchema(json!({"type": "integer", "multipleOf": 99_991, "maximum": 9e15})),
        Constraint::JsonSchema(json!({"type": "integer", "multipleOf": 9_999_991})),
        Constraint::JsonSchema(json!({"type": "number", "multipleOf": 1e-300, "minimum": -1e308})),
        Constraint::JsonSchema(
            json!({"type": "number", "exclusiveMaximum": 1e308, "minimum": -1e-308}),
        ),
        Constraint::JsonSchema(json!({"enum": (0..5000).collect::<Vec<_>>()})),
    ];
    let compiler = compiler();
    for bomb in bombs {
        let state = compiler.compile(&bomb, &[]);
        match state.and_then(|state| sample(state, 7, 100)) {
            Ok(output) => assert!(output.ended || output.tokens.len() == 100),
            Err(error) => {
                let bomb: String = format!("{bomb:?}").chars().take(80).collect();
                assert_eq!(error.code, Code::InvalidRequest, "{bomb}: {error}");
                assert!(error.message.len() < 400, "{bomb}: {error}");
            }
        }
    }
    let good = compiler
        .compile(&Constraint::JsonSchema(person()), &[])
        .unwrap();
    assert!(sample(good, 1, 2000).unwrap().ended);
}

#[test]
fn rejects_constraint_without_end_token() {
    let without_end = || Vocabulary {
        end_tokens: Vec::new(),
        ..vocabulary()
    };
    let error = Compiler::new(without_end)
        .compile(&Constraint::JsonObject, &[])
        .err()
        .unwrap();
    assert_eq!(error.code, Code::UnsupportedParameter);
    assert_eq!(
        error.message,
        "the model has no end token, so constrained output could not end"
    );
}

#[test]
fn references_and_nullable_are_enforced() {
    let schema = json!({
        "type": "object", "required": ["a", "b", "c"], "additionalProperties": false,
        "properties": {
            "a": {"$ref": "#/components/x~1y"}, "b": {"$ref": "#named"},
            "c": {"type": "string", "maxLength": 2, "nullable": true}
        },
        "components": {"x/y": {"const": 1}},
        "$defs": {"n": {"$anchor": "named", "enum": [true, "t", null]}}
    });
    for seed in 0..20 {
        let output = sample(
            compile(&Constraint::StrictJsonSchema(schema.clone())).unwrap(),
            seed,
            500,
        );
        let value: Value = serde_json::from_slice(&output.unwrap().text).unwrap();
        assert_eq!(value["a"], 1);
        assert!([json!(true), json!("t"), json!(null)].contains(&value["b"]));
        assert!(value["c"].is_null() || value["c"].is_string());
    }
}
