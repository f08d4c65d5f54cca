//! Shared by the tests of this crate.

use serde_json::Value;
use worker_contract::{
    EndEvent, FinishReason, Timings, TokenEvent, TokenLogprob, ToolCallPiece, TopLogprob, Usage,
};

use crate::Envelope;

pub fn envelope() -> Envelope {
    Envelope {
        request_id: "r1".parse().unwrap(),
        model: "builtin:haiku".into(),
        created: 7,
        system_fingerprint: "fp".into(),
    }
}

pub fn token(t: &str) -> TokenEvent {
    TokenEvent {
        i: 0,
        t: t.into(),
        id: 1,
        calls: Vec::new(),
        logprob: None,
    }
}

pub fn scored(t: &str, own: &str) -> TokenEvent {
    TokenEvent {
        logprob: Some(TokenLogprob {
            logprob: -0.5,
            top: vec![TopLogprob {
                id: 1,
                token: own.into(),
                logprob: -0.5,
            }],
        }),
        ..token(t)
    }
}

/// A token with the beginning of a call.
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

/// A token with more arguments of a call.
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
        reason,
        usage: Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
            cached_tokens: 1,
        },
        timings: Timings::default(),
    }
}

/// The JSON of each event; the end mark is null.
pub fn events(bytes: &[u8]) -> Vec<Value> {
    std::str::from_utf8(bytes)
        .unwrap()
        .split_terminator("\n\n")
        .map(|event| match event.strip_prefix("data: ").unwrap() {
            "[DONE]" => Value::Null,
            json => serde_json::from_str(json).unwrap(),
        })
        .collect()
}
