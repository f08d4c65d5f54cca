//! What the worker has answered.

use bdd::World;
use cucumber::then;
use diagnostics::Diagnostic;
use worker_contract::{EndEvent, InferRequest, StreamEvent, TokenEvent, ToolCall};

/// The last request and its output.
#[derive(Debug, Default)]
pub struct Last {
    pub request: Option<InferRequest>,
    pub events: Vec<StreamEvent>,
    /// The error that refused the request.
    pub refusal: Option<Diagnostic>,
    /// Ids of the tokens of the output before, and their texts.
    pub earlier_ids: Vec<u32>,
}

impl Last {
    pub fn tokens(&self) -> Vec<&TokenEvent> {
        let tokens = self.events.iter().filter_map(|event| match event {
            StreamEvent::Token(token) => Some(token),
            _ => None,
        });
        tokens.collect()
    }

    pub fn text(&self) -> String {
        self.tokens().iter().map(|token| token.t.as_str()).collect()
    }

    pub fn ids(&self) -> Vec<u32> {
        self.tokens().iter().map(|token| token.id).collect()
    }

    pub fn end(&self) -> EndEvent {
        assert!(self.refusal.is_none(), "{:?}", self.refusal);
        match self.events.last() {
            Some(StreamEvent::End(end)) => *end,
            _ => panic!("no end: {:?}", self.events),
        }
    }
}

#[then(regex = r"^the output is `(.*)`$")]
fn is_text(world: &mut World, text: String) {
    let last = world.get::<Last>();
    last.end();
    assert_eq!(last.text(), text);
    let numbers: Vec<u32> = last.tokens().iter().map(|token| token.i).collect();
    let first = numbers.first().copied().unwrap_or(0);
    let expected: Vec<u32> = (first..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "numbers without gaps");
}

#[then(regex = r"^the reasoning is `(.*)`$")]
fn is_reasoning(world: &mut World, text: String) {
    let last = world.get::<Last>();
    let reasoning: String = last.tokens().iter().map(|t| t.reasoning.as_str()).collect();
    assert_eq!(reasoning, text);
    assert!(last.end().usage.reasoning_tokens > 0);
}

#[then(regex = r"^the output is a call of (\w+) with `(.*)`$")]
fn is_call(world: &mut World, name: String, arguments: String) {
    let last = world.get::<Last>();
    let mut calls: Vec<ToolCall> = Vec::new();
    for token in last.tokens() {
        for piece in token.calls.clone() {
            piece.append_to(&mut calls);
        }
    }
    let [call] = &calls[..] else {
        panic!("{calls:?}")
    };
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(
        (&call.name, value(&call.arguments)),
        (&name, value(&arguments))
    );
    assert!(!call.id.is_empty());
}

#[then(regex = r"^the output ends with the reason (\w+)$")]
fn has_reason(world: &mut World, reason: String) {
    let end = world.get::<Last>().end();
    assert_eq!(serde_json::to_value(end.reason).unwrap(), reason);
}

#[then(regex = r"^the output was ended by the stop sequence (\d+)$")]
fn stopped_by(world: &mut World, index: u32) {
    assert_eq!(world.get::<Last>().end().stop, Some(index));
}

#[then(regex = r"^the usage has (\d+) prompt tokens and (\d+) generated ones$")]
fn has_usage(world: &mut World, prompt: u32, generated: u32) {
    let usage = world.get::<Last>().end().usage;
    assert_eq!(
        (usage.prompt_tokens, usage.completion_tokens),
        (prompt, generated)
    );
}

#[then(regex = r"^the output started with (\d+) prompt tokens$")]
fn started_with(world: &mut World, prompt: u32) {
    let last = world.get::<Last>();
    let Some(StreamEvent::Started(started)) = last.events.first() else {
        panic!("{:?}", last.events.first())
    };
    assert_eq!(started.prompt_tokens, prompt);
}

#[then(regex = r"^the ids of the tokens are ([\d ]+)$")]
fn has_ids(world: &mut World, ids: String) {
    let ids: Vec<u32> = ids.split(' ').map(|id| id.parse().unwrap()).collect();
    let last = world.get::<Last>();
    assert_eq!(last.ids(), ids);
    assert_eq!(last.end().usage.completion_tokens as usize, ids.len());
}

#[then(regex = r"^the first token has the number (\d+)$")]
fn first_number(world: &mut World, number: u32) {
    assert_eq!(world.get::<Last>().tokens()[0].i, number);
}

#[then(regex = r"^a note says `(.*)`$")]
fn has_note(world: &mut World, text: String) {
    let last = world.get::<Last>();
    let Some(StreamEvent::Started(started)) = last.events.first() else {
        panic!("{:?}", last.events)
    };
    assert!(
        started.notes.iter().any(|note| note.contains(&text)),
        "{:?}",
        started.notes
    );
}

#[then(regex = r"^the request is refused with ([A-Z_]+) and `(.*)`$")]
fn is_refused(world: &mut World, code: String, message: String) {
    let last = world.get::<Last>();
    let error = last
        .refusal
        .as_ref()
        .unwrap_or_else(|| panic!("{:?}", last.events));
    assert_eq!(error.code.to_string(), code, "{error}");
    assert!(error.message.contains(&message), "{error}");
}

#[then(regex = r"^the stream ends with ([A-Z_]+)(?: and `(.*)`)?$")]
fn ends_with_error(world: &mut World, code: String, message: String) {
    let last = world.get::<Last>();
    let Some(StreamEvent::Error(error)) = last.events.last() else {
        panic!("{:?} {:?}", last.events, last.refusal)
    };
    assert_eq!(error.code.to_string(), code, "{error}");
    assert!(error.message.contains(&message), "{error}");
}

#[then(regex = r"^both outputs are the same from token (\d+) on$")]
fn same_rest(world: &mut World, from: usize) {
    let last = world.get::<Last>();
    last.end();
    assert!(last.earlier_ids.len() > from, "{:?}", last.earlier_ids);
    assert_eq!(last.ids(), last.earlier_ids[from..]);
}

#[then(regex = r"^the output has the form of (\d+) digits$")]
fn has_digits(world: &mut World, count: usize) {
    let text = world.get::<Last>().text();
    assert_eq!(text.len(), count, "{text:?}");
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
}
