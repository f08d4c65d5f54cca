//! Streams whose request waits for a worker.

use std::time::Duration;

use cucumber::{then, when};
use serde_json::json;

use super::http::{client, queen_url};
use crate::{World, within};

pub(super) fn link() {}

/// Maximum time for the headers and the first bytes of a stream.
const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Waiting {
    response: Option<reqwest::Response>,
}

#[when(regex = r"^I open a stream at `(.*)` of the queen for `(.*)`$")]
async fn open(world: &mut World, path: String, model: String) {
    let body = json!({"model": model, "stream": true, "max_tokens": 2, "prompt": "x",
        "messages": [{"role": "user", "content": "x"}]});
    let request = client().post(queen_url(world, &path)).json(&body);
    let response = within(SOON, "the headers", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    world.get::<Waiting>().response = Some(response);
}

#[then(regex = r"^its first bytes contain `(.*)`$")]
async fn first_bytes(world: &mut World, text: String) {
    let response = world.get::<Waiting>().response.as_mut();
    let chunk = response.expect("a stream is open").chunk();
    let chunk = within(SOON, "the first bytes", chunk).await.unwrap();
    let first = String::from_utf8(chunk.unwrap_or_default().to_vec()).unwrap();
    assert!(first.contains(&text), "no `{text}` in: {first}");
    assert!(!first.contains("\"choices\""), "not an answer: {first}");
}

#[when("I close the stream")]
fn close(world: &mut World) {
    world.get::<Waiting>().response = None;
}
