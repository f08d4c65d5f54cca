//! Requests to `/v1/infer` whose events are read to the end.

use cucumber::{gherkin::Step, then, when};
use serde_json::{Value, json};

use super::http::{post_json, queen_url};
use crate::{SseEvent, World};

pub(super) fn link() {}

#[derive(Debug, Default)]
struct Inference {
    /// The last request.
    request: Value,
    /// Events of the last request.
    events: Vec<SseEvent>,
    /// Events of the request before it.
    earlier: Vec<SseEvent>,
}

async fn infer(world: &mut World, request: Value) {
    let url = queen_url(world, "/v1/infer");
    let response = post_json(url, request.clone()).await;
    assert_eq!(response.status, 200, "{}", response.text);
    let events = response.events().await;
    let state = world.get::<Inference>();
    state.request = request;
    state.earlier = std::mem::replace(&mut state.events, events);
}

fn tokens(events: &[SseEvent]) -> Vec<Value> {
    events
        .iter()
        .filter(|e| e.name == "token")
        .map(SseEvent::json)
        .collect()
}

/// Text of a completion that is not empty.
fn text(events: &[SseEvent]) -> String {
    let text: String = tokens(events)
        .iter()
        .map(|t| t["t"].as_str().unwrap())
        .collect();
    assert!(!text.is_empty(), "{events:?}");
    text
}

/// The data of the only event with this name.
fn event(world: &mut World, name: &str) -> Value {
    let events = &world.get::<Inference>().events;
    let mut found = events.iter().filter(|e| e.name == name);
    match (found.next(), found.next()) {
        (Some(event), None) => event.json(),
        _ => panic!("not exactly one event `{name}` in {events:?}"),
    }
}

#[when("I infer")]
async fn infer_once(world: &mut World, step: &Step) {
    let request = step.docstring.as_deref().expect("a request");
    infer(world, serde_json::from_str(request).unwrap()).await;
}

#[when("I repeat the request with the reported seed")]
async fn repeat(world: &mut World) {
    let seed = event(world, "started")["seed"].clone();
    let mut request = world.get::<Inference>().request.clone();
    request["sampling"]["seed"] = seed;
    infer(world, request).await;
}

#[when(regex = r"^I repeat the request, continuing after (\d+) tokens$")]
async fn repeat_continued(world: &mut World, count: usize) {
    let state = world.get::<Inference>();
    let tokens = tokens(&state.events);
    assert!(tokens.len() > count, "{tokens:?}");
    let ids: Vec<Value> = tokens[..count].iter().map(|t| t["id"].clone()).collect();
    let mut request = state.request.clone();
    request["continue_from"] = ids.into();
    infer(world, request).await;
}

#[when(regex = r"^I sample `(.*)` with seed (\d+) and note the text as (\w+)$")]
async fn sample(world: &mut World, model: String, seed: u64, name: String) {
    let request = json!({
        "model": model, "request_id": format!("r-{name}"), "max_tokens": 40,
        "sampling": {"temperature": 1.0, "seed": seed},
        "input": {"messages": [{"role": "user", "content": "Write a haiku about rain"}]},
    });
    infer(world, request).await;
    let text = text(&world.get::<Inference>().events);
    world.noted.insert(name, text);
}

#[then(regex = r"^the texts (\w+) and (\w+) (are equal|differ)$")]
fn compare(world: &mut World, one: String, other: String, how: String) {
    let (one, other) = (&world.noted[&one], &world.noted[&other]);
    assert_eq!(one == other, how == "are equal", "{one}\n---\n{other}");
}

#[then("both texts are equal")]
fn both_equal(world: &mut World) {
    let state = world.get::<Inference>();
    assert_eq!(text(&state.earlier), text(&state.events));
}

#[then("the remaining tokens are those of the uninterrupted request")]
fn continued(world: &mut World) {
    let state = world.get::<Inference>();
    let count = state.request["continue_from"].as_array().unwrap().len();
    assert_eq!(tokens(&state.earlier)[count..], tokens(&state.events));
}

#[then("the worker's events are started, tokens, metrics, end")]
fn in_order(world: &mut World) {
    let events = &world.get::<Inference>().events;
    let mut names: Vec<&str> = events.iter().map(|e| e.name.as_str()).collect();
    // The queen adds these.
    names.retain(|name| !["narration", "waiting", "assigned"].contains(name));
    names.dedup();
    assert_eq!(names, ["started", "token", "metrics", "end"]);
}

#[then("exactly one event is terminal, and it is the last")]
fn one_terminal(world: &mut World) {
    let events = &world.get::<Inference>().events;
    let terminal = |e: &SseEvent| e.name == "end" || e.name == "error";
    assert_eq!(events.iter().filter(|e| terminal(e)).count(), 1);
    assert!(events.last().is_some_and(terminal), "{events:?}");
}

#[then("the event `started` has a seed")]
fn has_seed(world: &mut World) {
    let started = event(world, "started");
    assert!(started["seed"].is_u64(), "{started}");
}

#[then("the event `end` counts the tokens that were streamed")]
fn end_counts(world: &mut World) {
    let end = event(world, "end");
    let streamed = tokens(&world.get::<Inference>().events).len();
    assert_eq!(end["usage"]["completion_tokens"], streamed, "{end}");
}

#[then("the event `metrics` has the time to the first token and the speed")]
fn metrics(world: &mut World) {
    let metrics = event(world, "metrics");
    for field in ["time_to_first_token_ms", "tokens_per_second"] {
        let value = metrics[field].as_f64();
        assert!(value.is_some_and(|v| v > 0.0), "{field}: {metrics}");
    }
}

#[then(regex = r"^(\d+) tokens were streamed$")]
fn token_count(world: &mut World, count: usize) {
    assert_eq!(tokens(&world.get::<Inference>().events).len(), count);
}

#[then(regex = r"^the finish reason is (\w+)$")]
fn finish_reason(world: &mut World, reason: String) {
    let end = event(world, "end");
    assert_eq!(end["reason"], Value::from(reason), "{end}");
}

#[then(regex = r"^the last token is (\d+)$")]
fn last_token(world: &mut World, id: u32) {
    let tokens = tokens(&world.get::<Inference>().events);
    assert_eq!(tokens.last().expect("a token")["id"], id);
}

#[then("the text is")]
fn text_is(world: &mut World, step: &Step) {
    let expected = step
        .docstring
        .as_deref()
        .expect("a text")
        .trim_matches('\n');
    assert_eq!(text(&world.get::<Inference>().events), expected);
}

#[then("the text has multi-byte characters and no replacement characters")]
fn whole_characters(world: &mut World) {
    let text = text(&world.get::<Inference>().events);
    assert!(!text.is_ascii(), "{text}");
    assert!(!text.contains('\u{fffd}'), "{text}");
}

#[then("no token of the prompt was cached")]
fn none_cached(world: &mut World) {
    cached(world, 0);
}

/// The last token is always computed, because its logits are needed.
#[then("all tokens of the prompt but the last were cached")]
fn all_but_last_cached(world: &mut World) {
    let started = event(world, "started");
    let prompt = started["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > 1, "{started}");
    cached(world, prompt - 1);
}

fn cached(world: &mut World, expected: u64) {
    let (started, end) = (event(world, "started"), event(world, "end"));
    assert_eq!(started["cached_tokens"], expected, "{started}");
    assert_eq!(end["usage"]["cached_tokens"], expected, "{end}");
}
