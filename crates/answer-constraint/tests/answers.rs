//! Answers of a model that says anything it may: each is what its constraint says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod saying;

use answer_constraint::{Begun, Calls, Compiler, Constraint, Function, Piece, Shape, Vocabulary};
use diagnostics::Code;
use proptest::prelude::*;
use saying::{Answer, END, begin, compiler, say, vocabulary};
use serde_json::{Value, json};

/// A token without text.
const NAMELESS: u32 = 269;

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
    fn whatever_is_said_is_of_the_schema(seed: u64) {
        let answer = say(begin(&Constraint::JsonSchema(person())).unwrap(), seed, 2000).unwrap();
        prop_assert!(answer.ended, "{}", String::from_utf8_lossy(&answer.text));
        let value: Value = serde_json::from_slice(&answer.text).unwrap();
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
    fn any_object_is_an_object_when_it_ends(seed: u64) {
        let answer = say(begin(&Constraint::JsonObject).unwrap(), seed, 400).unwrap();
        if answer.ended {
            // Only the form: JSON knows numbers that no machine has.
            serde_json::from_slice::<serde::de::IgnoredAny>(&answer.text).unwrap();
            prop_assert_eq!(answer.text[0], b'{');
        } else {
            prop_assert_eq!(answer.tokens.len(), 400);
        }
    }

    #[test]
    fn an_expression_is_matched_whole(seed: u64) {
        let expression = Constraint::Regex("[a-cé]{2,4}@(x|yy)+!?".into());
        let answer = say(begin(&expression).unwrap(), seed, 500).unwrap();
        let text = String::from_utf8(answer.text).unwrap();
        let (name, rest) = text.split_once('@').unwrap();
        prop_assert!((2..=4).contains(&name.chars().count()) && name.chars().all(|c| "abcé".contains(c)));
        if answer.ended {
            let rest = rest.strip_suffix('!').unwrap_or(rest);
            prop_assert!(!rest.is_empty() && rest.replace("yy", "").replace('x', "").is_empty(), "{rest}");
        }
    }

    #[test]
    fn a_grammar_is_followed(seed: u64) {
        let grammar = "start: sum\nsum: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]{1,3}/";
        let answer = say(begin(&Constraint::Grammar(grammar.into())).unwrap(), seed, 60).unwrap();
        let text = String::from_utf8(answer.text).unwrap();
        if answer.ended {
            prop_assert!(text.split('+').all(|n| (1..=3).contains(&n.len()) && n.parse::<u16>().is_ok()), "{text}");
        }
    }

    /// Interrupted anywhere, an answer may go on as it might have without the interruption.
    #[test]
    fn an_answer_goes_on_where_it_was(seed: u64, cut in 0..60_usize) {
        let constraint = Constraint::JsonSchema(person());
        let whole = say(begin(&constraint).unwrap(), seed, 2000).unwrap();
        let cut = cut.min(whole.tokens.len() - 1);
        let (compiler, before, after) = (compiler(), &whole.tokens[..cut], whole.tokens[cut]);
        let continued = compiler.begin(&constraint, before).unwrap();
        let mut undisturbed = compiler.begin(&constraint, &[]).unwrap();
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
fn the_end_comes_when_and_only_when_it_may() {
    let constraint = Constraint::JsonSchema(json!({"const": {"a": 1}}));
    let Begun { allowed, .. } = begin(&constraint).unwrap();
    assert!(!allowed.contains(END));
    let tokens: Vec<u32> = br#"{"a":1}"#.iter().map(|b| u32::from(*b)).collect();
    let complete = compiler().begin(&constraint, &tokens).unwrap();
    assert_eq!(complete.allowed.ids().collect::<Vec<_>>(), [END]);
}

#[test]
fn a_document_has_one_blank_after_a_divider_or_none() {
    let compiler = compiler();
    let allowed = |constraint: &Constraint, text: &str| {
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        compiler.begin(constraint, &tokens).unwrap().allowed
    };
    let schema = Constraint::JsonSchema(person());
    for (constraint, text, blank) in [
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
        assert_eq!(allowed.contains(u32::from(b' ')), blank, "{text}");
        for other in *b"\n\r\t" {
            assert!(!allowed.contains(u32::from(other)), "{text}");
        }
    }
}

#[test]
fn tokens_that_the_constraint_does_not_allow_cannot_be_continued() {
    let error = compiler()
        .begin(&Constraint::Regex("ab".into()), &[97, 97])
        .err()
        .unwrap();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("continue_from"));
}

#[test]
fn what_nothing_can_satisfy_is_refused() {
    for impossible in [
        Constraint::JsonSchema(json!({"type": "integer", "minimum": 5, "maximum": 3})),
        Constraint::JsonSchema(json!({
            "type": "object", "required": ["a"],
            "properties": {"a": {"type": "object", "required": ["a"], "properties": {"a": false}}}
        })),
        Constraint::JsonSchema(json!({"$ref": "#"})),
        Constraint::Regex("[^\\s\\S]".into()),
        Constraint::Grammar("start: x\nx: x \"a\"".into()),
    ] {
        let error = begin(&impossible).err().unwrap();
        assert_eq!(error.code, Code::InvalidRequest, "{impossible:?}");
        assert_eq!(error.param.as_deref(), Some("constraint"));
        let told = error.message;
        assert!(
            told.contains("no text satisfies it") || told.contains("nsatisfiable"),
            "{told}"
        );
    }
}

#[test]
fn faults_name_what_is_wrong() {
    for (wrong, says) in [
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
        let error = begin(&wrong).err().unwrap();
        assert_eq!(error.code, Code::InvalidRequest, "{wrong:?}");
        assert!(error.message.contains(says), "{}", error.message);
        assert!(
            !error.message.contains(char::is_control),
            "{}",
            error.message
        );
    }
}

#[test]
fn whoever_writes_gbnf_is_told_of_lark() {
    let refused = |text: &str| {
        let wrong = Constraint::Grammar(text.into());
        begin(&wrong).err().unwrap()
    };
    for text in [
        "root ::= \"yes\" | \"no\"",
        "root ::= [a-z]+ (\",\" [a-z]+)*\n",
        "start: x\nx ::= \"a\"",
    ] {
        let error = refused(text);
        assert_eq!(error.code, Code::InvalidRequest);
        let hint = error.hint.unwrap();
        assert!(hint.contains("GBNF") && hint.contains("Lark"), "{hint}");
    }
    assert_eq!(refused("start: foo").hint, None);
}

fn grammar(rules: impl Iterator<Item = String>) -> Constraint {
    Constraint::Grammar(rules.collect::<Vec<_>>().join("\n"))
}

/// Each asks for far more than it says. All end soon, in an error or not, and leave the
/// process as it was.
#[test]
fn a_bomb_ends_its_own_request_only() {
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
        let begun = compiler.begin(&bomb, &[]);
        let outcome = begun.and_then(|begun| say(begun, 7, 100));
        if let Err(error) = outcome {
            let written = format!("{bomb:?}");
            let written: String = written.chars().take(80).collect();
            assert_eq!(error.code, Code::InvalidRequest, "{written}: {error}");
            assert!(error.message.len() < 400, "{written}: {error}");
        }
    }
    let good = compiler
        .begin(&Constraint::JsonSchema(person()), &[])
        .unwrap();
    assert!(say(good, 1, 2000).unwrap().ended);
}

#[test]
fn a_model_without_an_end_token_cannot_be_constrained() {
    let endless = || Vocabulary {
        end_tokens: Vec::new(),
        ..vocabulary()
    };
    let error = Compiler::new(endless)
        .begin(&Constraint::JsonObject, &[])
        .err()
        .unwrap();
    assert_eq!(error.code, Code::UnsupportedParameter);
}

/// Calls of `weather` and `now` as models write them in this shape.
fn calls(divider: Option<&str>) -> Calls {
    let text = |text: &str| vec![Piece::Text(text.to_owned())];
    let function = |name: &str, arguments: Value| Function {
        name: name.to_owned(),
        begin: text(&format!("{{\"name\": \"{name}\", \"arguments\": ")),
        arguments,
        end: text("}"),
    };
    Calls {
        open: vec![Piece::Token(NAMELESS), Piece::Text("[".to_owned())],
        divider: divider.map(text),
        close: text("]"),
        functions: vec![
            function(
                "weather",
                json!({
                    "type": "object", "required": ["city"], "additionalProperties": false,
                    "properties": {"city": {"$ref": "#/$defs/city"}},
                    "$defs": {"city": {"enum": ["Bern", "Zürich"]}}
                }),
            ),
            function(
                "now",
                json!({"type": "object", "additionalProperties": false}),
            ),
        ],
    }
}

/// The functions that an answer calls, after the token that stands for no text.
fn called(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.tokens[0], answer.ended), (NAMELESS, true));
    let list: Vec<Value> = serde_json::from_slice(&answer.text).unwrap();
    let name = |call: &Value| {
        let name = call["name"].as_str().unwrap();
        if name == "weather" {
            let city = call["arguments"]["city"].as_str().unwrap();
            assert!(["Bern", "Zürich"].contains(&city));
        } else {
            assert_eq!((name, &call["arguments"]), ("now", &json!({})));
        }
        name.to_owned()
    };
    list.iter().map(name).collect()
}

#[test]
fn an_answer_may_have_to_be_calls() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let one = compiler().begin(Shape::Calls(calls(None)), &[]).unwrap();
        assert_eq!(called(&say(one, seed, 2000).unwrap()).len(), 1);
        let more = Shape::Calls(calls(Some(", ")));
        let more = compiler().begin(more, &[]).unwrap();
        let names = called(&say(more, seed, 5000).unwrap());
        seen.insert(names.len().min(3));
        seen.extend(names.iter().map(|name| 10 + name.len()));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3, 13, 17]);
}

#[test]
fn an_answer_may_have_to_be_text_or_calls() {
    for constraint in [
        Constraint::JsonSchema(person()),
        Constraint::Regex("[a-z]{2}!".into()),
        Constraint::Grammar("start: \"yes\" | \"no\"".into()),
    ] {
        let mut kinds = [0, 0];
        for seed in 0..40 {
            let shape = Shape::Either(constraint.clone(), calls(Some(", ")));
            let begun = compiler().begin(shape, &[]).unwrap();
            let answer = say(begun, seed, 5000).unwrap();
            if answer.tokens[0] == NAMELESS {
                called(&answer);
                kinds[1] += 1;
            } else {
                assert!(answer.ended);
                let tokens = &answer.tokens[..answer.tokens.len() - 1];
                let again = compiler().begin(&constraint, tokens).unwrap();
                assert!(again.allowed.contains(END));
                kinds[0] += 1;
            }
        }
        assert!(kinds.iter().all(|n| *n > 0), "{kinds:?}");
    }
}

/// The most that an edge takes, each with parameters such as a program's interface has.
#[test]
fn a_hundred_functions_are_not_too_many() {
    let many = |functions: usize| {
        let mut calls = calls(Some("; "));
        calls.functions = (0..functions)
            .map(|nth| {
                let fields: serde_json::Map<String, Value> = (0..10)
                    .map(|i| {
                        (
                            format!("field_{nth}_{i}"),
                            json!({"type": "string", "maxLength": 9}),
                        )
                    })
                    .chain([(
                        "list".to_owned(),
                        json!({"type": "array", "items": {"type": "number"}}),
                    )])
                    .collect();
                Function {
                    name: format!("f{nth}"),
                    begin: vec![Piece::Text(format!(
                        "{{\"name\": \"f{nth}\", \"arguments\": "
                    ))],
                    arguments: json!({
                        "type": "object", "properties": fields,
                        "required": ["list"], "additionalProperties": false
                    }),
                    end: vec![Piece::Text("}".to_owned())],
                }
            })
            .collect();
        calls
    };
    for shape in [
        Shape::Calls(many(128)),
        Shape::Either(Constraint::JsonSchema(person()), many(128)),
    ] {
        let begun = compiler().begin(shape, &[]).unwrap();
        assert!(!say(begun, 3, 2000).unwrap().tokens.is_empty());
    }
}

#[test]
fn faults_of_functions_name_them() {
    for (arguments, code, says) in [
        (
            json!({"properties": {"a": {"not": {}}}}),
            Code::UnsupportedParameter,
            "the parameters of \"f\": `not` at `/properties/a` is not supported",
        ),
        (json!({"type": "objec"}), Code::InvalidRequest, "objec"),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": false}}),
            Code::InvalidRequest,
            "the parameters of \"f\": ",
        ),
        (json!(7), Code::InvalidRequest, "the parameters of \"f\": "),
    ] {
        let mut calls = calls(None);
        calls.functions[1].arguments = arguments;
        calls.functions[1].name = "f".into();
        for shape in [
            Shape::Calls(calls.clone()),
            Shape::Either(Constraint::JsonObject, calls.clone()),
        ] {
            let error = compiler().begin(shape, &[]).err().unwrap();
            assert_eq!((error.code, error.param.as_deref()), (code, Some("tools")));
            assert!(error.message.starts_with("`tools`: "), "{error}");
            assert!(error.message.contains(says), "{error}");
        }
    }
    let wrong = Constraint::Regex("(".into());
    let error = compiler().begin(Shape::Either(wrong, calls(None)), &[]);
    assert_eq!(error.err().unwrap().param.as_deref(), Some("constraint"));
    let endless = || Vocabulary {
        end_tokens: Vec::new(),
        ..vocabulary()
    };
    let error = Compiler::new(endless).begin(Shape::Calls(calls(None)), &[]);
    assert_eq!(error.err().unwrap().param.as_deref(), Some("tools"));
}
