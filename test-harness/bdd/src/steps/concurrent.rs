//! Requests that are sent at the same time.

use cucumber::{then, when};
use futures::future::join_all;
use serde_json::json;

use super::http::{client, post_json, queen_url, send};
use crate::{HttpResponse, World};

pub(super) fn link() {}

/// Responses to the requests.
#[derive(Debug, Default)]
struct Responses(Vec<HttpResponse>);

#[when(regex = r"^(\d+) requests are sent to the worker itself at the same time$")]
async fn to_worker(world: &mut World, count: usize) {
    let workers = world.queen().workers().await.unwrap().workers;
    let [worker] = &workers[..] else {
        panic!("not exactly one worker: {workers:?}");
    };
    let token = world.node_token();
    let url = format!("http://127.0.0.1:{}/v1/infer", worker.info.port);
    let requests = (0..count).map(|i| {
        let body = json!({"request_id": format!("direct-{i}"), "stream": false,
            "input": {"prompt": "count"}});
        send(client().post(&url).bearer_auth(&token).json(&body))
    });
    world.get::<Responses>().0 = join_all(requests).await;
}

#[then(regex = r"^(\d+) of them succeeds and (\d+) are rejected with ([A-Z_]+)$")]
fn some_rejected(world: &mut World, succeeded: usize, rejected: usize, code: String) {
    let responses = &world.get::<Responses>().0;
    let good = responses.iter().filter(|r| r.status == 200).count();
    let bad = responses
        .iter()
        .filter(|r| r.status == 503 && r.json()["error"]["code"] == code.as_str())
        .count();
    assert_eq!((good, bad), (succeeded, rejected), "{responses:?}");
}

#[when(
    regex = r"^(\d+) requests for `(.*)` with the same system prompt of (\d+) tokens are sent at the same time$"
)]
async fn with_system_prompt(world: &mut World, count: usize, model: String, tokens: usize) {
    let url = queen_url(world, "/v1/chat/completions");
    // The mock engine's tokens are bytes.
    let system = &"Answer as a sailor would. ".repeat(tokens)[..tokens];
    let requests = (0..count).map(|i| {
        let body = json!({"model": model, "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": format!("question {i:02}")}]});
        post_json(url.clone(), body)
    });
    world.get::<Responses>().0 = join_all(requests).await;
}

#[then("all of them succeed")]
fn all_succeed(world: &mut World) {
    let responses = &world.get::<Responses>().0;
    assert!(!responses.is_empty());
    assert!(responses.iter().all(|r| r.status == 200), "{responses:?}");
}

/// One request computes the system prompt. Each of the others computes at most the tokens that
/// follow it.
#[then(regex = r"^the system prompt of (\d+) tokens was computed once$")]
fn computed_once(world: &mut World, system: u64) {
    let responses = &world.get::<Responses>().0;
    let (prompts, mut computed): (Vec<u64>, Vec<u64>) = responses
        .iter()
        .map(|response| {
            let usage = response.json()["usage"].clone();
            let prompt = usage["prompt_tokens"].as_u64().unwrap();
            let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
            (prompt, prompt - cached.unwrap())
        })
        .unzip();
    let prompt = prompts[0];
    assert!(prompt > system, "{prompts:?}");
    assert!(prompts.iter().all(|p| *p == prompt), "{prompts:?}");
    computed.sort_unstable_by(|a, b| b.cmp(a));
    assert!((system..=prompt).contains(&computed[0]), "{computed:?}");
    let others = 1..=prompt - system;
    assert!(
        computed[1..].iter().all(|c| others.contains(c)),
        "{computed:?}"
    );
}
