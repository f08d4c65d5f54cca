//! Outputs that are tool calls, or contain them, satisfy the parameters of the functions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod sampling;

use std::collections::BTreeSet;

use answer_constraint::{
    Calls, Compiler, Constraint, Fields, Function, OutputConstraint, Piece, Syntax, Trigger,
    Vocabulary,
};
use diagnostics::Code;
use sampling::{END, Output, compile, compiler, sample, vocabulary};
use serde_json::{Value, json};

/// A special token without text.
const SPECIAL: u32 = 269;

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}},
        "required": ["name"],
        "additionalProperties": false
    })
}

/// Calls of `weather` and `now`, as objects in a list.
fn calls(divider: Option<&str>) -> Calls {
    let text = |text: &str| vec![Piece::Text(text.to_owned())];
    let function = |name: &str, arguments: Value| Function {
        name: name.to_owned(),
        begin: text(&format!("{{\"name\": \"{name}\", \"arguments\": ")),
        arguments,
        syntax: Syntax::Json,
        strict: true,
        end: text("}"),
    };
    Calls {
        open: vec![Piece::Token(SPECIAL), Piece::Text("[".to_owned())],
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

/// Returns the names of the called functions, which follow the special token.
fn called(output: &Output) -> Vec<String> {
    assert_eq!((output.tokens[0], output.ended), (SPECIAL, true));
    let list: Vec<Value> = serde_json::from_slice(&output.text).unwrap();
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
fn output_consists_of_calls() {
    let (mut counts, mut called_names) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..60 {
        let one = compiler()
            .compile(OutputConstraint::Calls(calls(None)), &[])
            .unwrap();
        assert_eq!(called(&sample(one, seed, 2000).unwrap()).len(), 1);
        let more = OutputConstraint::Calls(calls(Some(", ")));
        let more = compiler().compile(more, &[]).unwrap();
        let names = called(&sample(more, seed, 5000).unwrap());
        counts.insert(names.len().min(3));
        called_names.extend(names);
    }
    assert_eq!(counts, BTreeSet::from([1, 2, 3]));
    let expected = ["now", "weather"].map(String::from);
    assert_eq!(called_names, BTreeSet::from(expected));
}

#[test]
fn output_is_text_or_calls() {
    for constraint in [
        Constraint::JsonSchema(person()),
        Constraint::Regex("[a-z]{2}!".into()),
        Constraint::Grammar("start: \"yes\" | \"no\"".into()),
    ] {
        let mut kinds = [0, 0];
        for seed in 0..40 {
            let required = OutputConstraint::Either(constraint.clone(), calls(Some(", ")));
            let state = compiler().compile(required, &[]).unwrap();
            let output = sample(state, seed, 5000).unwrap();
            if output.tokens[0] == SPECIAL {
                called(&output);
                kinds[1] += 1;
            } else {
                assert!(output.ended);
                let tokens = &output.tokens[..output.tokens.len() - 1];
                let again = compiler().compile(&constraint, tokens).unwrap();
                assert!(again.allowed.contains(END));
                kinds[0] += 1;
            }
        }
        assert!(kinds.iter().all(|n| *n > 0), "{kinds:?}");
    }
}

/// The maximum number of functions that the gateway accepts, each with realistic parameters.
#[test]
fn supports_128_functions() {
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
                    syntax: Syntax::Json,
                    strict: false,
                    end: vec![Piece::Text("}".to_owned())],
                }
            })
            .collect();
        calls
    };
    for required in [
        OutputConstraint::Calls(many(128)),
        OutputConstraint::Either(Constraint::JsonSchema(person()), many(128)),
    ] {
        let state = compiler().compile(required, &[]).unwrap();
        let output = sample(state, 3, 2000).unwrap();
        let text = String::from_utf8(output.text).unwrap();
        assert!(output.ended, "{text}");
        assert!(text.starts_with("[{\"name\": \"f"), "{text}");
        assert!(text.ends_with("}}]"), "{text}");
    }
}

#[test]
fn errors_name_the_function() {
    for (arguments, code, message) in [
        (
            json!({"properties": {"a": {"not": {}}}}),
            Code::UnsupportedParameter,
            "`not` at `/properties/a` is not supported",
        ),
        (
            json!({"type": "objec"}),
            Code::InvalidRequest,
            "Invalid type: objec",
        ),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": false}}),
            Code::InvalidRequest,
            "Unsatisfiable schema: required property 'a' is unsatisfiable: Unsatisfiable schema: \
             schema is false",
        ),
        (
            json!(7),
            Code::InvalidRequest,
            "a schema is a JSON object, not `7`",
        ),
    ] {
        let mut calls = calls(None);
        calls.functions[1].arguments = arguments;
        calls.functions[1].name = "f".into();
        for required in [
            OutputConstraint::Calls(calls.clone()),
            OutputConstraint::Either(Constraint::JsonObject, calls.clone()),
        ] {
            let error = compiler().compile(required, &[]).err().unwrap();
            assert_eq!((error.code, error.param.as_deref()), (code, Some("tools")));
            assert_eq!(
                error.message,
                format!("`tools`: the parameters of \"f\": {message}")
            );
        }
    }
    let wrong = Constraint::Regex("(".into());
    let error = compiler().compile(OutputConstraint::Either(wrong, calls(None)), &[]);
    assert_eq!(error.err().unwrap().param.as_deref(), Some("constraint"));
    let without_end = || Vocabulary {
        end_tokens: Vec::new(),
        ..vocabulary()
    };
    let error = Compiler::new(without_end).compile(OutputConstraint::Calls(calls(None)), &[]);
    assert_eq!(error.err().unwrap().param.as_deref(), Some("tools"));
}

/// A parameter in XML that is a string, and others.
fn fields() -> Calls {
    let text = |text: &str| vec![Piece::Text(text.to_owned())];
    let mut calls = calls(None);
    calls.open = text("<tool_call>");
    calls.close = text("</tool_call>");
    calls.functions.truncate(1);
    let function = &mut calls.functions[0];
    function.begin = text("<weather>");
    function.end = text("</weather>");
    function.arguments = json!({
        "type": "object", "required": ["note"], "properties": {
            "city": {"$ref": "#/$defs/city"}, "note": {"type": "string"}, "days": {"type": "integer"}
        },
        "$defs": {"city": {"enum": ["Bern", 5]}}
    });
    function.syntax = Syntax::Fields(Fields {
        open: text("<"),
        assign: text("="),
        close: text("}}"),
        divider: text("\n"),
        plain: vec!["note".to_owned()],
        quote: Vec::new(),
    });
    calls
}

#[test]
fn arguments_may_be_fields() {
    let mut seen = BTreeSet::new();
    for seed in 0..80 {
        let required = OutputConstraint::Calls(fields());
        let state = compiler().compile(required, &[]).unwrap();
        let output = sample(state, seed, 20_000).unwrap();
        let text = String::from_utf8_lossy(&output.text).into_owned();
        let inner = text
            .strip_prefix("<tool_call><weather><note=")
            .unwrap_or_else(|| panic!("{text}"));
        if !output.ended {
            continue;
        }
        let inner = inner.strip_suffix("</weather></tool_call>").unwrap();
        let (_, rest) = inner.split_once("}}").unwrap();
        for field in rest.split('\n').filter(|field| !field.is_empty()) {
            let (name, value) = field.strip_prefix('<').unwrap().split_once('=').unwrap();
            let value: Value = serde_json::from_str(value.strip_suffix("}}").unwrap()).unwrap();
            assert!(if name == "city" {
                value == "Bern" || value == 5
            } else {
                value.is_number()
            });
            seen.insert(name.to_owned());
        }
    }
    assert_eq!(seen, BTreeSet::from(["city".to_owned(), "days".to_owned()]));
}

/// Accepts a text and returns whether the output may end after it, or the byte that is refused.
fn follows(constraint: &OutputConstraint, text: &str) -> Result<bool, usize> {
    let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    follows_tokens(constraint, &tokens)
}

fn follows_tokens(constraint: &OutputConstraint, tokens: &[u32]) -> Result<bool, usize> {
    let compiler = compiler();
    for end in 1..=tokens.len() {
        if let Err(error) = compiler.compile(constraint.clone(), &tokens[..end]) {
            assert_eq!(error.param.as_deref(), Some("continue_from"), "{error}");
            return Err(end - 1);
        }
    }
    let state = compiler.compile(constraint.clone(), tokens).unwrap();
    Ok(state.allowed.contains(END))
}

#[test]
fn calls_in_free_text_are_constrained_from_their_mark() {
    let mut calls = calls(None);
    calls.open = Vec::new();
    calls.functions[0].strict = true;
    let trigger = Trigger::Mark {
        mark: Piece::Text("<call>[".to_owned()),
        excluded: vec!["<other>".to_owned()],
    };
    let mixed = OutputConstraint::Mixed(trigger, calls.clone());
    let call = "<call>[{\"name\": \"now\", \"arguments\": {}}]";
    for (text, result) in [
        ("", Ok(true)),
        ("free <text> {\"name\": 1}\n<call>", Ok(true)),
        (call, Ok(true)),
        (&format!("Look. {call} and {call} done <call"), Ok(true)),
        ("<call>[", Ok(false)),
        (
            "a <call>[{\"name\": \"never",
            Err("a <call>[{\"name\": \"".len() + 1),
        ),
        ("<call>x <call>[5", Err("<call>x <call>[".len())),
        ("a <other>", Err("a <other".len())),
    ] {
        assert_eq!(follows(&mixed, text), result, "{text}");
    }
    // The mark is a special token, and other special tokens are free.
    let marked = Trigger::Mark {
        mark: Piece::Token(SPECIAL),
        excluded: Vec::new(),
    };
    let mixed = OutputConstraint::Mixed(marked, calls.clone());
    let with_special = |before: &str, after: &str| -> Vec<u32> {
        let mut tokens: Vec<u32> = before.bytes().map(u32::from).collect();
        tokens.push(SPECIAL);
        tokens.extend(after.bytes().map(u32::from));
        tokens
    };
    let call = "{\"name\": \"now\", \"arguments\": {}}]";
    assert_eq!(follows_tokens(&mixed, &with_special("", call)), Ok(true));
    assert_eq!(
        follows_tokens(&mixed, &with_special("Look: ", &format!("{call} ok"))),
        Ok(true)
    );
    assert_eq!(
        follows_tokens(&mixed, &with_special("Look: ", "ok")),
        Err(7)
    );
    let other = Trigger::Mark {
        mark: Piece::Text("<call>".to_owned()),
        excluded: Vec::new(),
    };
    let mixed = OutputConstraint::Mixed(other, calls.clone());
    assert_eq!(follows_tokens(&mixed, &with_special("a", "b<c")), Ok(true));
    // Calls without a mark are the entire output.
    let mixed = OutputConstraint::Mixed(Trigger::Start('{'), {
        calls.close = Vec::new();
        calls
    });
    for (text, result) in [
        ("", Ok(true)),
        ("Text {", Ok(true)),
        ("\n Text", Ok(true)),
        ("{\"name\": \"now\", \"arguments\": {}}", Ok(true)),
        ("{\"name\": 5", Err(9)),
    ] {
        assert_eq!(follows(&mixed, text), result, "{text}");
    }
    assert_eq!(follows_tokens(&mixed, &with_special("", "{5")), Ok(true));
}

#[test]
fn odd_parameters_do_not_refuse_other_functions() {
    let mut calls = calls(None);
    calls.functions.push(Function {
        name: "odd".into(),
        arguments: json!({"type": "object", "properties": {"a": {"not": {}}, "b": {"type": "null"}}}),
        strict: false,
        ..calls.functions[0].clone()
    });
    let odder = json!({"oneOf": [{"type": "object"}, {"type": "object", "required": ["x"]}]});
    for (arguments, note) in [
        (
            json!({"type": "objec"}),
            "the parameters of \"odder\" are not enforced: Invalid type: objec",
        ),
        (
            json!({"properties": {"a": {"$ref": "#/nowhere"}}}),
            "the parameters of \"odder\" are not enforced: `$ref` to `#/nowhere` does not resolve",
        ),
        (
            odder,
            "the parameters of \"odder\": not enforced: that exactly one alternative of `oneOf` is valid",
        ),
    ] {
        let mut calls = calls.clone();
        calls.functions.push(Function {
            name: "odder".into(),
            arguments,
            strict: false,
            ..calls.functions[0].clone()
        });
        let state = compiler()
            .compile(OutputConstraint::Calls(calls), &[])
            .unwrap();
        assert_eq!(
            state.notes,
            [
                "the parameters of \"odd\": not enforced: `not` at `/properties/a`",
                note
            ]
        );
    }
    let lenient = Constraint::JsonSchema(json!({"not": {}, "type": "null"}));
    let state = compile(&lenient).unwrap();
    assert_eq!(
        state.notes,
        ["the JSON schema of the output: not enforced: `not` at `/`"]
    );
    let strict = Constraint::StrictJsonSchema(json!({"not": {}, "type": "null"}));
    let error = compile(&strict).err().unwrap();
    assert_eq!(error.code, Code::UnsupportedParameter);
}
