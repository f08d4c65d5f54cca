use std::{collections::BTreeMap, time::Duration};

use bdd::{SseEvent, World, eventually};
use cucumber::{then, when};
use daemon_shell::ProcessIdentity;
use futures::StreamExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::json;

/// What the load did, and what it must not change.
#[derive(Debug, Default)]
struct Load {
    memory: BTreeMap<u32, u64>,
    ends: Vec<End>,
}

/// How one request ended for its client.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With so many terminal marks; 1 is right.
    Answered(usize),
    /// The client went away.
    Left,
}

/// A process may grow by this much under load: allocators keep what they were given once.
const GROWTH: u64 = 48 << 20;

fn memory(world: &World) -> BTreeMap<u32, u64> {
    world
        .processes()
        .into_keys()
        .filter_map(|p: ProcessIdentity| Some((p.pid, p.rss_bytes()?)))
        .collect()
}

#[when("I note the memory of every process")]
fn note_memory(world: &mut World) {
    let memory = memory(world);
    assert_eq!(memory.len(), 3, "queen, hive, worker: {memory:?}");
    world.get::<Load>().memory = memory;
}

#[when(regex = r"^(\d+) clients send (\d+) requests to `(.*)` and cancel (\d+) of them at random$")]
async fn load(world: &mut World, clients: usize, requests: usize, model: String, cancels: usize) {
    let url = format!("{}/v1/chat/completions", world.daemon("queen").unwrap().url);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut random = StdRng::seed_from_u64(140);
    let mut plan: Vec<Option<usize>> = (0..requests)
        .map(|i| (i < cancels).then(|| random.random_range(0..30)))
        .collect();
    plan.shuffle(&mut random);
    let calls = plan.into_iter().enumerate().map(|(i, leave_after)| {
        let body = json!({"model": model, "stream": i % 4 != 0 || leave_after.is_some(),
            "messages": [{"role": "user", "content": format!("request {i}")}]});
        let request = http.post(&url).json(&body);
        async move { one(request, leave_after).await }
    });
    let ends = futures::stream::iter(calls)
        .buffer_unordered(clients)
        .collect();
    world.get::<Load>().ends = bdd::within(Duration::from_secs(120), "the load", ends).await;
}

/// Sends a request and reads it to its end, or goes away after so many pieces.
async fn one(request: reqwest::RequestBuilder, leave_after: Option<usize>) -> End {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let streamed = response.headers()["content-type"] == "text/event-stream";
    if !streamed {
        let whole: serde_json::Value = response.json().await.unwrap();
        assert_eq!(whole["choices"][0]["finish_reason"], "stop", "{whole}");
        return End::Answered(1);
    }
    let mut body = response.bytes_stream();
    let mut text = Vec::new();
    let mut pieces = 0;
    while let Some(piece) = body.next().await {
        if leave_after.is_some_and(|after| pieces >= after) {
            return End::Left;
        }
        pieces += 1;
        text.extend_from_slice(&piece.unwrap());
    }
    let answer = bdd::Answer {
        status: 200,
        headers: reqwest::header::HeaderMap::new(),
        text: String::from_utf8(text).unwrap(),
    };
    let events = answer.events().await;
    let done = |e: &&SseEvent| e.data == "[DONE]";
    assert!(
        events.last().is_some_and(|e| e.data == "[DONE]"),
        "{events:?}"
    );
    End::Answered(events.iter().filter(done).count())
}

#[then("every request ended exactly once")]
fn every_end(world: &mut World) {
    let ends = &world.get::<Load>().ends;
    assert_eq!(ends.len(), 200);
    let left = ends.iter().filter(|e| **e == End::Left).count();
    // A short answer may be over before its client meant to leave.
    assert!((1..=50).contains(&left), "{left} clients left");
    for end in ends {
        assert!(matches!(end, End::Left | End::Answered(1)), "{end:?}");
    }
}

#[then("the worker's slots are all free")]
async fn slots_free(world: &mut World) {
    let queen = world.queen();
    eventually(Duration::from_secs(10), || async {
        let workers = queen.workers().await.map_err(|e| e.to_string())?.workers;
        let taken: Vec<_> = workers
            .iter()
            .filter(|w| w.info.slots_free != w.info.slots_total || w.active_requests != 0)
            .collect();
        if taken.is_empty() && !workers.is_empty() {
            Ok(())
        } else {
            Err(format!("{workers:?}"))
        }
    })
    .await;
}

#[then("no process is new or gone")]
fn same_processes(world: &mut World) {
    let now: Vec<u32> = memory(world).into_keys().collect();
    let before: Vec<u32> = world.get::<Load>().memory.keys().copied().collect();
    assert_eq!(now, before);
}

#[then("the memory of every process is where it was")]
fn same_memory(world: &mut World) {
    let now = memory(world);
    for (pid, before) in &world.get::<Load>().memory {
        assert!(
            now[pid] < before + GROWTH,
            "process {pid} grew from {before} to {} bytes",
            now[pid]
        );
    }
}
