use cucumber::{then, when};
use serde_json::Value;

use crate::{Answer, World};

pub(super) fn link() {}

/// The queen's address with `path`.
fn queen_url(world: &World, path: &str) -> String {
    format!("{}{path}", world.daemon("queen").expect("a queen runs").url)
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[when(regex = r"^I GET `(.*)` from the queen$")]
async fn get(world: &mut World, path: String) {
    let url = queen_url(world, &world.fill(&path));
    world.answer = Some(Answer::read(client().get(url).send().await.unwrap()).await);
}

#[when(regex = r"^I POST to `(.*)` of the queen$")]
async fn post(world: &mut World, path: String, step: &cucumber::gherkin::Step) {
    let body = world.fill(step.docstring.as_deref().unwrap_or_default());
    let request = client()
        .post(queen_url(world, &path))
        .header("content-type", "application/json")
        .body(body.trim().to_owned());
    world.answer = Some(Answer::read(request.send().await.unwrap()).await);
}

#[when(regex = r"^I POST (\d+) bytes to `(.*)` of the queen$")]
async fn post_bytes(world: &mut World, count: usize, path: String) {
    let request = client()
        .post(queen_url(world, &path))
        .header("content-type", "application/json")
        .body(vec![b' '; count]);
    world.answer = Some(Answer::read(request.send().await.unwrap()).await);
}

#[when(regex = r"^I POST the bytes `([0-9a-f ]+)` to `(.*)` of the queen$")]
async fn post_hex(world: &mut World, hex: String, path: String) {
    let body: Vec<u8> = hex
        .split(' ')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let request = client()
        .post(queen_url(world, &path))
        .header("content-type", "application/json")
        .body(body);
    world.answer = Some(Answer::read(request.send().await.unwrap()).await);
}

#[when(regex = r"^I GET `(.*)` from the queen with the header `(.*): (.*)`$")]
async fn get_with_header(world: &mut World, path: String, name: String, value: String) {
    let request = client().get(queen_url(world, &path)).header(name, value);
    world.answer = Some(Answer::read(request.send().await.unwrap()).await);
}

#[then(regex = r"^the (?:answer is|response status is) (\d+)$")]
fn answer_status(world: &mut World, status: u16) {
    let answer = world.last_answer();
    assert_eq!(answer.status, status, "{}", answer.text);
}

#[then(regex = r"^the (?:answer|response)'s error code is ([A-Z_]+)$")]
fn error_code(world: &mut World, code: String) {
    let answer = world.last_answer();
    assert_eq!(
        answer.json()["error"]["code"],
        Value::from(code),
        "{}",
        answer.text
    );
}

#[then(regex = r"^the (?:answer|response)'s error message contains `(.*)`$")]
fn error_message(world: &mut World, text: String) {
    let json = world.last_answer().json();
    let message = json["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(&text), "{message}");
}

#[then(regex = r"^the (?:answer|response)'s hint contains `(.*)`$")]
fn hint(world: &mut World, text: String) {
    let json = world.last_answer().json();
    let hint = json["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains(&text), "{json}");
}

#[then(regex = r"^the answer has the header `(.*)`$")]
fn has_header(world: &mut World, name: String) {
    let answer = world.last_answer();
    assert!(answer.headers.contains_key(&name), "{:?}", answer.headers);
}

#[then(regex = r"^the (?:answer|response)'s `(.*)` is `(.*)`$")]
fn json_value(world: &mut World, pointer: String, expected: String) {
    let json = world.last_answer().json();
    let found = json.pointer(&pointer).unwrap_or(&Value::Null);
    let found = found
        .as_str()
        .map_or_else(|| found.to_string(), str::to_owned);
    assert_eq!(found, world.fill(&expected), "{json}");
}

#[then(regex = r"^the (?:answer|response)'s `(.*)` is not empty$")]
fn json_not_empty(world: &mut World, pointer: String) {
    let json = world.last_answer().json();
    let empty = match json.pointer(&pointer) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    assert!(!empty, "{json}");
}

#[then(regex = r"^the answer contains `(.*)`$")]
fn contains(world: &mut World, text: String) {
    let text = world.fill(&text);
    let answer = world.last_answer();
    assert!(
        answer.text.contains(&text),
        "no `{text}` in {}",
        answer.text
    );
}
