use std::time::Duration;

use cucumber::{gherkin::Step, then, when};
use serde_json::{Value, json};

use crate::{HttpResponse, World, within};

pub(super) fn link() {}

/// Maximum duration of a request, including loading the model.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Returns the URL of `path` at the queen.
pub(super) fn queen_url(world: &World, path: &str) -> String {
    let queen = world.daemon("queen").expect("a queen is running");
    format!("{}{path}", queen.url)
}

pub(super) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(super) async fn send(request: reqwest::RequestBuilder) -> HttpResponse {
    let response = async { HttpResponse::read(request.send().await.unwrap()).await };
    within(REQUEST_LIMIT, "a response", response).await
}

pub(super) async fn post_json(url: String, body: Value) -> HttpResponse {
    send(client().post(url).json(&body)).await
}

#[when(regex = r"^I GET `(.*)` from the queen$")]
async fn get(world: &mut World, path: String) {
    let request = client().get(queen_url(world, &path));
    world.response = Some(send(request).await);
}

#[when(regex = r"^I GET `(.*)` from the queen with the header `(.*): (.*)`$")]
async fn get_with_header(world: &mut World, path: String, name: String, value: String) {
    let request = client().get(queen_url(world, &path)).header(name, value);
    world.response = Some(send(request).await);
}

#[when(regex = r"^I POST to `(.*)` of the queen$")]
async fn post(world: &mut World, path: String, step: &Step) {
    let body = world.fill(step.docstring.as_deref().expect("a body"));
    post_body(world, &path, body.trim().into()).await;
}

#[when(regex = r"^I POST (\d+) bytes to `(.*)` of the queen$")]
async fn post_spaces(world: &mut World, count: usize, path: String) {
    post_body(world, &path, vec![b' '; count]).await;
}

#[when(regex = r"^I POST the bytes `([0-9a-f ]+)` to `(.*)` of the queen$")]
async fn post_bytes(world: &mut World, hex: String, path: String) {
    let body = hex
        .split(' ')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    post_body(world, &path, body).await;
}

async fn post_body(world: &mut World, path: &str, body: Vec<u8>) {
    let request = client()
        .post(queen_url(world, path))
        .header("content-type", "application/json")
        .body(body);
    world.response = Some(send(request).await);
}

#[when(regex = r"^I send a prompt of (\d+) words to `(.*)`$")]
async fn long_prompt(world: &mut World, words: usize, model: String) {
    let url = queen_url(world, "/v1/chat/completions");
    let content = "rain ".repeat(words);
    let body = json!({"model": model, "messages": [{"role": "user", "content": content}]});
    world.response = Some(post_json(url, body).await);
}

#[then("the queen still serves valid requests")]
async fn still_serves(world: &mut World) {
    let url = queen_url(world, "/v1/chat/completions");
    let body = json!({"model": "mock:length=3", "messages": [{"role": "user", "content": "x"}]});
    let response = post_json(url, body).await;
    assert_eq!(response.status, 200, "{}", response.text);
    let choice = &response.json()["choices"][0];
    assert_eq!(choice["message"]["content"], "~ .", "{}", response.text);
    assert_eq!(choice["finish_reason"], "stop", "{}", response.text);
}

#[then(regex = r"^the response status is (\d+)$")]
fn status_is(world: &mut World, status: u16) {
    let response = world.last_response();
    assert_eq!(response.status, status, "{}", response.text);
}

#[then(regex = r"^the response's error code is ([A-Z_]+)$")]
fn error_code(world: &mut World, code: String) {
    let response = world.last_response();
    let error = &response.json()["error"];
    // OpenAI's API has OpenAI's codes; rbee's own is in the details.
    let stable = error["details"].get("code").unwrap_or(&error["code"]);
    assert_eq!(*stable, Value::from(code), "{}", response.text);
}

#[then(regex = r"^the response's error message contains `(.*)`$")]
fn error_message(world: &mut World, text: String) {
    let text = world.fill(&text);
    let json = world.last_response().json();
    let message = json["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(&text), "no `{text}` in: {message}");
}

#[then(regex = r"^the response's hint contains `(.*)`$")]
fn hint(world: &mut World, text: String) {
    let json = world.last_response().json();
    let hint = json["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains(&text), "no hint with `{text}` in {json}");
}

#[then(regex = r"^the response's `(.*)` is `(.*)`$")]
fn json_value(world: &mut World, pointer: String, expected: String) {
    let json = world.last_response().json();
    let found = json
        .pointer(&pointer)
        .unwrap_or_else(|| panic!("no `{pointer}` in {json}"));
    let found = found
        .as_str()
        .map_or_else(|| found.to_string(), str::to_owned);
    assert_eq!(found, world.fill(&expected), "{json}");
}

#[then(regex = r"^the response's header `(.*)` is `(.*)`$")]
fn header_is(world: &mut World, name: String, expected: String) {
    let response = world.last_response();
    let value = response.headers.get(&name).map(|v| v.to_str().unwrap());
    assert_eq!(value, Some(expected.trim()), "{}", response.text);
}

#[then(regex = r"^the response's `(.*)` is not empty$")]
fn json_not_empty(world: &mut World, pointer: String) {
    let json = world.last_response().json();
    let empty = match json.pointer(&pointer) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    assert!(!empty, "{json}");
}

#[then(regex = r"^the response contains `(.*)`$")]
fn contains(world: &mut World, text: String) {
    let text = world.fill(&text);
    let response = world.last_response();
    assert!(
        response.text.contains(&text),
        "no `{text}` in {}",
        response.text
    );
}

#[then("the response has the lines")]
fn has_lines(world: &mut World, step: &Step) {
    let expected = step.docstring.as_deref().expect("lines").trim_matches('\n');
    let response = world.last_response();
    let lines: Vec<&str> = response.text.lines().collect();
    for line in expected.lines() {
        assert!(lines.contains(&line), "no `{line}` in:\n{}", response.text);
    }
}
