use std::{collections::BTreeMap, time::Duration};

use bdd::{HttpResponse, World, eventually, within};
use cucumber::{then, when};
use daemon_shell::ProcessIdentity;
use futures::StreamExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::json;

#[derive(Debug, Default)]
struct Load {
    /// Resident bytes by pid, before the load.
    memory: BTreeMap<u32, u64>,
    clients: Vec<Client>,
    /// Finished requests before the load.
    outcomes_before: Outcomes,
}

/// A client of one request.
#[derive(Debug)]
struct Client {
    /// Number of chunks of the body after which the client disconnects.
    disconnect_after: Option<usize>,
    end: End,
}

/// How a response ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With its only end mark, as the last event.
    Complete,
    /// The client disconnected before an end mark or an error.
    Disconnected,
}

/// Finished requests, as the queen counts them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Outcomes {
    completed: usize,
    cancelled: usize,
    failed: usize,
}

/// Minimum number of chunks of a streaming response: the head, and two batches of at most 32
/// events with the 40 tokens.
const MIN_CHUNKS: usize = 3;

fn memory(world: &World) -> BTreeMap<u32, u64> {
    world
        .processes()
        .into_keys()
        .filter_map(|p: ProcessIdentity| Some((p.pid, p.rss_bytes()?)))
        .collect()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn outcomes(url: &str) -> Outcomes {
    let response = http().get(format!("{url}/metrics")).send().await.unwrap();
    let text = response.text().await.unwrap();
    let count = |outcome: &str| {
        let name = format!("rbee_queen_requests_total{{outcome=\"{outcome}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        let value = line.unwrap_or_else(|| panic!("no {name}in:\n{text}"));
        value.parse().unwrap()
    };
    Outcomes {
        completed: count("completed"),
        cancelled: count("cancelled"),
        failed: count("failed"),
    }
}

#[when("I note the memory of every process")]
fn note_memory(world: &mut World) {
    let memory = memory(world);
    assert_eq!(memory.len(), 3, "queen, hive, worker: {memory:?}");
    world.get::<Load>().memory = memory;
}

#[when(regex = r"^(\d+) clients send (\d+) requests to `(.*)` and cancel (\d+) of them at random$")]
async fn load(world: &mut World, clients: usize, requests: usize, model: String, cancels: usize) {
    let queen = world.daemon("queen").unwrap().url;
    world.get::<Load>().outcomes_before = outcomes(&queen).await;
    let url = format!("{queen}/v1/chat/completions");
    let http = http();
    let mut random = StdRng::seed_from_u64(140);
    let mut plan: Vec<Option<usize>> = (0..requests)
        .map(|i| (i < cancels).then(|| random.random_range(0..30)))
        .collect();
    plan.shuffle(&mut random);
    let calls = plan.into_iter().enumerate().map(|(i, disconnect_after)| {
        let body = json!({"model": model, "stream": i % 4 != 0 || disconnect_after.is_some(),
            "messages": [{"role": "user", "content": format!("request {i}")}]});
        let request = http.post(&url).json(&body);
        async move {
            let end = send(request, disconnect_after).await;
            Client {
                disconnect_after,
                end,
            }
        }
    });
    let clients = futures::stream::iter(calls)
        .buffer_unordered(clients)
        .collect();
    let clients: Vec<Client> = within(Duration::from_secs(120), "the load", clients).await;
    assert_eq!(clients.len(), requests);
    let disconnecting = clients.iter().filter(|c| c.disconnect_after.is_some());
    assert_eq!(disconnecting.count(), cancels);
    world.get::<Load>().clients = clients;
}

/// Sends a request and reads the response to its end, or up to `disconnect_after` chunks.
async fn send(request: reqwest::RequestBuilder, disconnect_after: Option<usize>) -> End {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    if response.headers()["content-type"] != "text/event-stream" {
        let document: serde_json::Value = response.json().await.unwrap();
        assert_eq!(
            document["choices"][0]["finish_reason"], "stop",
            "{document}"
        );
        return End::Complete;
    }
    let mut body = response.bytes_stream();
    let mut text = Vec::new();
    let mut chunks = 0;
    let disconnected = loop {
        if disconnect_after == Some(chunks) {
            break true;
        }
        let Some(chunk) = body.next().await else {
            break false;
        };
        chunks += 1;
        text.extend_from_slice(&chunk.unwrap());
    };
    drop(body);
    let response = HttpResponse {
        status: 200,
        headers: reqwest::header::HeaderMap::new(),
        text: String::from_utf8(text).unwrap(),
    };
    let events = response.events().await;
    let marks = events.iter().filter(|e| e.data == "[DONE]").count();
    for event in events.iter().filter(|e| e.data != "[DONE]") {
        assert!(event.json()["error"].is_null(), "{event:?}");
    }
    match marks {
        0 if disconnected => End::Disconnected,
        1 if events.last().is_some_and(|e| e.data == "[DONE]") => End::Complete,
        _ => panic!("{marks} end marks: {events:?}"),
    }
}

#[then("every request ended exactly once")]
async fn every_end(world: &mut World) {
    let queen = world.daemon("queen").unwrap().url;
    let load = world.get::<Load>();
    let requests = load.clients.len();
    for client in &load.clients {
        match client.disconnect_after {
            None => assert_eq!(client.end, End::Complete, "{client:?}"),
            Some(chunks) if chunks < MIN_CHUNKS => {
                assert_eq!(client.end, End::Disconnected, "{client:?}");
            }
            // The response may have fewer chunks.
            Some(_) => {}
        }
    }
    let disconnected = load
        .clients
        .iter()
        .filter(|c| c.end == End::Disconnected)
        .count();

    let before = load.outcomes_before;
    let ended = eventually(Duration::from_secs(10), || async {
        let now = outcomes(&queen).await;
        let ended = Outcomes {
            completed: now.completed - before.completed,
            cancelled: now.cancelled - before.cancelled,
            failed: now.failed - before.failed,
        };
        if ended.completed + ended.cancelled + ended.failed >= requests {
            Ok(ended)
        } else {
            Err(format!("{ended:?}"))
        }
    })
    .await;
    // The queen may complete a request before it notices that the client has disconnected.
    assert!(
        (1..=disconnected).contains(&ended.cancelled),
        "{ended:?}, {disconnected} clients disconnected"
    );
    let expected = Outcomes {
        completed: requests - ended.cancelled,
        cancelled: ended.cancelled,
        failed: 0,
    };
    assert_eq!(ended, expected);
}

#[then("all slots of the worker are free")]
async fn slots_free(world: &mut World) {
    let queen = world.queen();
    eventually(Duration::from_secs(10), || async {
        let workers = queen.workers().await.map_err(|e| e.to_string())?.workers;
        let busy: Vec<_> = workers
            .iter()
            .filter(|w| w.info.slots_free != w.info.slots_total || w.active_requests != 0)
            .collect();
        if busy.is_empty() && !workers.is_empty() {
            Ok(())
        } else {
            Err(format!("{workers:?}"))
        }
    })
    .await;
}

/// Allocators keep some of the freed memory.
#[then(regex = r"^the memory of every process has grown by less than (\d+) MiB$")]
fn memory_growth(world: &mut World, limit: u64) {
    let now = memory(world);
    for (pid, before) in &world.get::<Load>().memory {
        assert!(
            now[pid] < before + (limit << 20),
            "the memory of process {pid} grew from {before} to {} bytes",
            now[pid]
        );
    }
}
