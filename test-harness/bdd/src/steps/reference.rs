//! Prompts with outputs that a reference implementation computed with greedy decoding.

use std::{fs, path::Path};

use cucumber::{then, when};
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::http::{post_json, queen_url};
use crate::World;

pub(super) fn link() {}

/// Outputs by case.
#[derive(Debug, Default)]
struct Outputs(Vec<(usize, String)>);

fn cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/golden.json");
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn request(model: &str, case: &Value) -> Value {
    json!({"model": model, "temperature": 0, "max_tokens": 96, "messages": case["messages"]})
}

#[when(regex = r"^I send the reference prompt of case (\d+) to `(.*)`$")]
async fn send_one(world: &mut World, case: usize, model: String) {
    let url = queen_url(world, "/v1/chat/completions");
    world.response = Some(post_json(url, request(&model, &cases()[case])).await);
}

#[then(regex = r"^the response is the reference output of case (\d+)$")]
fn response_is(world: &mut World, case: usize) {
    value_is(world, "/choices/0/message/content".into(), case);
}

#[then(regex = r"^the response's `(.*)` is the reference output of case (\d+)$")]
fn value_is(world: &mut World, pointer: String, case: usize) {
    let response = world.last_response();
    assert_eq!(response.status, 200, "{}", response.text);
    let json = response.json();
    assert_eq!(
        json.pointer(&pointer),
        Some(&cases()[case]["output_text"]),
        "{json}"
    );
}

#[when(regex = r"^I send every reference prompt to `(.*)`$")]
async fn send_all(world: &mut World, model: String) {
    send_from_clients(world, 1, model).await;
}

#[when(regex = r"^I send every reference prompt to `(.*)` at the same time$")]
async fn send_all_at_once(world: &mut World, model: String) {
    send_from_clients(world, cases().len(), model).await;
}

/// Each client sends its next request after the response to the last.
#[when(regex = r"^(\d+) clients send every reference prompt to `(.*)`$")]
async fn send_from_clients(world: &mut World, clients: usize, model: String) {
    let url = queen_url(world, "/v1/chat/completions");
    let cases = cases();
    let requests = cases.iter().enumerate().map(|(case, content)| {
        let (url, request) = (url.clone(), request(&model, content));
        async move {
            let response = post_json(url, request).await;
            assert_eq!(response.status, 200, "{}", response.text);
            let text = response.json()["choices"][0]["message"]["content"].clone();
            (case, text.as_str().unwrap_or_default().to_owned())
        }
    });
    world.get::<Outputs>().0 = futures::stream::iter(requests)
        .buffer_unordered(clients)
        .collect()
        .await;
}

#[then("every output equals the reference")]
fn outputs_are(world: &mut World) {
    let cases = cases();
    let outputs = &world.get::<Outputs>().0;
    assert_eq!(outputs.len(), cases.len());
    for (case, text) in outputs {
        assert_eq!(cases[*case]["output_text"], text.as_str(), "case {case}");
    }
}
