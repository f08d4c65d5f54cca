//! Requests to the worker.

use bdd::{World, within};
use cucumber::{then, when};
use futures_util::StreamExt as _;
use http::HeaderMap;
use serde_json::{Value, json};
use worker_contract::{
    DetokenizeRequest, EmbedRequest, InferInput, InferRequest, StreamEvent, TokenizeRequest,
};

use super::{LIMIT, outputs::Last, workers::client};

/// Tokens of the last text, and vectors of the last embeddings.
#[derive(Debug, Default)]
struct Values {
    tokens: Vec<u32>,
    vectors: Vec<Vec<f32>>,
}

/// A greedy request whose last message has the text, with the fields of `more`.
pub fn request(world: &mut World, text: &str, more: &Value) -> InferRequest {
    let number = world.noted.len() + world.get::<Last>().earlier_ids.len();
    let mut request = json!({
        "request_id": format!("r{number}-{}", text.len()),
        "input": {"messages": [{"role": "user", "content": text}]},
        "max_tokens": 40,
        "sampling": {"temperature": 0},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    serde_json::from_value(request).unwrap()
}

/// Sends a request and keeps its output.
pub async fn send(world: &mut World, request: InferRequest) {
    follow(world, request, usize::MAX, false).await;
}

/// Sends a request. After `tokens` tokens, cancels it or leaves.
pub async fn follow(world: &mut World, request: InferRequest, tokens: usize, cancels: bool) {
    let client = client(world);
    let mut events = Vec::new();
    let mut refusal = None;
    let streaming = async {
        let stream = match client.infer_stream(&request, HeaderMap::new()).await {
            Ok(stream) => stream,
            Err(error) => {
                refusal = Some(error.into_diagnostic());
                return;
            }
        };
        let mut stream = std::pin::pin!(stream);
        let mut seen = 0;
        while let Some(event) = stream.next().await {
            let event = event.unwrap();
            seen += usize::from(matches!(event, StreamEvent::Token(_)));
            events.push(event);
            if seen == tokens {
                if !cancels {
                    return;
                }
                client.cancel(&request.request_id).await.unwrap();
            }
        }
    };
    within(LIMIT, "the output", streaming).await;
    let last = world.get::<Last>();
    last.earlier_ids = last.ids();
    last.request = Some(request);
    last.events = events;
    last.refusal = refusal;
}

#[when(regex = r"^I ask `([^`]*)`$")]
async fn ask(world: &mut World, text: String) {
    let request = request(world, &text, &json!({}));
    send(world, request).await;
}

#[when(regex = r"^I ask `(.*)` in at most (\d+) tokens$")]
async fn ask_limited(world: &mut World, text: String, max: u32) {
    let request = request(world, &text, &json!({"max_tokens": max}));
    send(world, request).await;
}

#[when(regex = r"^I continue the text `(.*)`$")]
async fn continue_text(world: &mut World, text: String) {
    let request = request(
        world,
        &text,
        &json!({"input": {"prompt": format!("{text}\n")}}),
    );
    send(world, request).await;
}

#[when(regex = r"^I sample `(.*)`$")]
async fn sample(world: &mut World, text: String) {
    let sampling = json!({"sampling": {"temperature": 0.8, "seed": 7}});
    let request = request(world, &text, &sampling);
    send(world, request).await;
}

#[when(regex = r"^I ask with the tool (\w+) `(.*)`$")]
async fn ask_with_tool(world: &mut World, name: String, text: String) {
    let tool = json!({"name": name, "parameters": {"type": "object"}});
    let request = request(world, &text, &json!({"tools": [tool]}));
    send(world, request).await;
}

#[when(regex = r"^I ask with the tools (\w+) and (\w+), of which (\w+) must be called, `(.*)`$")]
async fn ask_for_call(world: &mut World, one: String, other: String, named: String, text: String) {
    let tool = |name: &str| json!({"name": name, "parameters": {"type": "object"}});
    let more = json!({"tools": [tool(&one), tool(&other)], "tool_choice": {"named": named}});
    let request = request(world, &text, &more);
    send(world, request).await;
}

#[when(regex = r"^I ask `(.*)` with the stop sequences `(.*)` and `(.*)`$")]
async fn ask_with_stops(world: &mut World, text: String, first: String, second: String) {
    let request = request(world, &text, &json!({"stop": [first, second]}));
    send(world, request).await;
}

#[when(regex = r"^I ask with `(\w+)` = `(.*)`$")]
async fn ask_with_field(world: &mut World, field: String, value: String) {
    let value: Value = serde_json::from_str(&value).unwrap();
    let request = request(world, "say hi", &json!({field: value}));
    send(world, request).await;
}

#[when(regex = r"^I ask `(.*)` after a turn of (\d+) characters, which may be dropped$")]
async fn ask_after_turn(world: &mut World, text: String, length: usize) {
    let messages = json!([
        {"role": "user", "content": "x".repeat(length)},
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": text},
    ]);
    let more = json!({"input": {"messages": messages}, "drop_oldest_messages": true});
    let request = request(world, &text, &more);
    send(world, request).await;
}

#[when(regex = r"^I ask `(.*)`, and (cancel|leave) after (\d+) tokens$")]
async fn ask_and_end(world: &mut World, text: String, how: String, tokens: usize) {
    let request = request(world, &text, &json!({"max_tokens": null}));
    follow(world, request, tokens, how == "cancel").await;
}

#[when(regex = r"^I repeat the request, continuing after (\d+) of its tokens$")]
async fn repeat(world: &mut World, count: usize) {
    let last = world.get::<Last>();
    let ids = last.ids();
    assert!(ids.len() >= count, "{ids:?}");
    continue_from(world, ids[..count].to_vec()).await;
}

#[when("I repeat the request, continuing after other tokens")]
async fn repeat_other(world: &mut World) {
    continue_from(world, vec![1, 2]).await;
}

async fn continue_from(world: &mut World, tokens: Vec<u32>) {
    let last = world.get::<Last>();
    let mut request = last.request.clone().expect("a request was sent");
    request.request_id = format!("{}-again", request.request_id).parse().unwrap();
    request.continue_from = tokens;
    send(world, request).await;
}

#[when(regex = r"^I tokenize `(.*)`$")]
async fn tokenize(world: &mut World, text: String) {
    let request: TokenizeRequest =
        serde_json::from_value(json!({"input": {"prompt": text}})).unwrap();
    let response = client(world).tokenize(&request).await.unwrap();
    world.get::<Values>().tokens = response.tokens;
}

#[then(regex = r"^there are (\d+) tokens, and they are the text `(.*)` again$")]
async fn are_text(world: &mut World, count: usize, text: String) {
    let tokens = world.get::<Values>().tokens.clone();
    assert_eq!(tokens.len(), count);
    let request = DetokenizeRequest { tokens };
    let response = client(world).detokenize(&request).await.unwrap();
    assert_eq!(response.text, text);
}

#[when(regex = r"^I embed `(.*)` and `(.*)`$")]
async fn embed(world: &mut World, first: String, second: String) {
    let request = EmbedRequest {
        request_id: "e".parse().unwrap(),
        inputs: vec![InferInput::Prompt(first), InferInput::Prompt(second)],
        truncate: false,
        deadline: None,
    };
    let response = client(world).embed(&request).await.unwrap();
    assert!(response.prompt_tokens > 0);
    world.get::<Values>().vectors = response.vectors;
}

#[then(regex = r"^there are (\d+) different vectors of length 1$")]
fn are_vectors(world: &mut World, count: usize) {
    let vectors = &world.get::<Values>().vectors;
    assert_eq!(vectors.len(), count);
    for vector in vectors {
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5, "{vector:?}");
    }
    assert_ne!(vectors[0], vectors[1]);
}
