//! Helpers of this crate's tests.

use proptest::prelude::*;
use serde_json::Value;
use worker_contract::{
    EndEvent, FinishReason, SamplingValues, StartedEvent, Timings, TokenEvent, TokenLogprob,
    ToolCallPiece, TopLogprob, Usage,
};

use crate::{ParsedRequest, RequestContext, ResponseWriter};

pub fn context() -> RequestContext {
    RequestContext {
        request_id: "r1".parse().unwrap(),
        received_at: "1970-01-01T00:00:07Z".parse().unwrap(),
        system_fingerprint: "fp",
    }
}

pub fn token(t: &str) -> TokenEvent {
    TokenEvent {
        i: 0,
        t: t.into(),
        id: 1,
        reasoning: String::new(),
        calls: Vec::new(),
        logprob: None,
    }
}

/// A token with a log probability, whose own text is `own`.
pub fn scored(t: &str, own: &str) -> TokenEvent {
    TokenEvent {
        logprob: Some(TokenLogprob {
            token: own.into(),
            bytes: own.into(),
            logprob: -0.5,
            top: vec![TopLogprob {
                id: 1,
                token: own.into(),
                bytes: own.into(),
                logprob: -0.5,
            }],
        }),
        ..token(t)
    }
}

/// A token with the first piece of a call.
pub fn call(t: &str, index: u32, name: &str, arguments: &str) -> TokenEvent {
    TokenEvent {
        calls: vec![ToolCallPiece {
            index,
            id: Some(format!("id{index}")),
            name: Some(name.into()),
            arguments: arguments.into(),
        }],
        ..token(t)
    }
}

/// A token with a further piece of a call.
pub fn more(index: u32, arguments: &str) -> TokenEvent {
    TokenEvent {
        calls: vec![ToolCallPiece {
            index,
            id: None,
            name: None,
            arguments: arguments.into(),
        }],
        ..token("")
    }
}

pub fn end(reason: FinishReason) -> EndEvent {
    EndEvent {
        stop: None,
        reason,
        usage: Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
            cached_tokens: 1,
            reasoning_tokens: 0,
        },
        timings: Timings::default(),
    }
}

/// Any JSON of modest size.
pub fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,6}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

pub fn started() -> StartedEvent {
    StartedEvent {
        request_id: "r1".parse().unwrap(),
        model: "builtin:haiku".parse().unwrap(),
        seed: 7,
        prompt_tokens: 3,
        cached_tokens: 1,
        prompt: Vec::new(),
        sampling: SamplingValues::default(),
        notes: Vec::new(),
    }
}

/// Tokens of an output: texts, then calls whose arguments come in pieces.
pub fn any_tokens() -> impl Strategy<Value = Vec<TokenEvent>> {
    let texts = prop::collection::vec("[a-z \"\n\u{e9}]{0,3}", 0..6);
    let arguments = prop::collection::vec("[a-z\\\\\"]{0,4}", 0..3);
    (texts, prop::collection::vec(arguments, 0..3)).prop_map(|(texts, calls)| {
        let mut tokens: Vec<_> = texts.iter().map(|text| token(text)).collect();
        for (index, texts) in (0..).zip(&calls) {
            let arguments = serde_json::json!({"a": texts.concat()}).to_string();
            let half = arguments.len() / 2;
            let half = (half..arguments.len())
                .find(|i| arguments.is_char_boundary(*i))
                .unwrap();
            tokens.push(call("", index, "f", ""));
            tokens.push(more(index, &arguments[..half]));
            tokens.push(more(index, &arguments[half..]));
        }
        tokens
    })
}

/// Returns the response of one choice with these tokens.
pub fn written(
    mut writer: Box<dyn ResponseWriter>,
    tokens: Vec<TokenEvent>,
    reason: FinishReason,
) -> Vec<u8> {
    let mut out = Vec::new();
    writer.start(&started(), &mut out);
    for token in tokens {
        writer.token(0, token, &mut out);
    }
    assert!(writer.end(0, &end(reason), &mut out));
    out
}

/// Asserts that two bodies are parsed to the same request and response.
#[track_caller]
pub fn assert_same(a: &ParsedRequest, b: &ParsedRequest) {
    assert_eq!(a.request, b.request);
    // The writer has no equality; its fields show in its debug output.
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}
