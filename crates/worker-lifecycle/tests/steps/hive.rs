use std::{
    fs,
    time::{Duration, Instant},
};

use bdd::{HttpResponse, World, eventually, table};
use cucumber::{gherkin::Step, given, then, when};
use diagnostics::Narration;
use futures_util::StreamExt as _;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use super::{State, plain, process_of, record};

const LIMIT: Duration = Duration::from_secs(10);

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// A request to the hive, without a token.
pub fn request(world: &World, method: Method, path: &str) -> RequestBuilder {
    let hive = world.daemon("hive").expect("a hive is running");
    client().request(method, format!("{}{path}", hive.url))
}

/// Sends a request with the node's token. Remembers its response and how long it took.
pub async fn send(world: &mut World, request: RequestBuilder) {
    let begin = Instant::now();
    let sent = request.bearer_auth(world.node_token()).send().await;
    world.response = Some(HttpResponse::read(sent.unwrap()).await);
    world.get::<State>().took = begin.elapsed();
}

async fn get_json(world: &World, path: &str) -> Value {
    let request = request(world, Method::GET, path).bearer_auth(world.node_token());
    let response = HttpResponse::read(request.send().await.unwrap()).await;
    assert_eq!(response.status, 200, "{}", response.text);
    response.json()
}

async fn entry(world: &World, id: &str) -> Value {
    get_json(world, &format!("/v1/workers/{id}")).await
}

async fn workers(world: &World) -> Vec<Value> {
    let list = get_json(world, "/v1/workers").await;
    list["workers"].as_array().unwrap().clone()
}

/// Waits until a field of a worker's entry has the expected value.
async fn becomes(world: &World, id: &str, field: &str, expected: &str) {
    eventually(LIMIT, || async {
        let found = entry(world, id).await;
        if plain(&found[field]) == expected {
            Ok(())
        } else {
            Err(format!("{field} is not {expected}: {found}"))
        }
    })
    .await;
}

#[given("a hive")]
async fn a_hive(world: &mut World) {
    a_hive_with(world, String::new()).await;
}

/// Notes `{hive_pid}` and `{hive_url}`.
#[given(regex = r"^a hive with `(.*)`$")]
async fn a_hive_with(world: &mut World, args: String) {
    let hive = world.start(&format!("rbee-hive {args}"));
    world.running.insert("hive".into(), hive);
    let record = world.await_daemon("hive").await;
    let url = format!("{}/v1/health", record.url);
    eventually(LIMIT, || async {
        client().get(&url).send().await?.error_for_status()
    })
    .await;
    let pid = record.process.pid.to_string();
    world.noted.insert("hive_pid".into(), pid);
    world.noted.insert("hive_url".into(), record.url);
}

#[when("another hive starts in the same home")]
async fn another_hive(world: &mut World) {
    a_hive(world).await;
}

#[when(regex = r"^I GET `(.*)` from the hive$")]
async fn get(world: &mut World, path: String) {
    let request = request(world, Method::GET, &path);
    send(world, request).await;
}

#[when(regex = r"^I GET `(.*)` from the hive without a token$")]
async fn get_without_token(world: &mut World, path: String) {
    call_without_token(world, "GET".into(), path).await;
}

#[when(regex = r"^I (GET|POST|DELETE) `(.*)` of the hive without a token$")]
async fn call_without_token(world: &mut World, method: String, path: String) {
    let request = request(world, method.parse().unwrap(), &path);
    world.response = Some(HttpResponse::read(request.send().await.unwrap()).await);
}

#[when(regex = r"^I (GET|POST|DELETE) `(.*)` of the hive with the token `(.*)`$")]
async fn call_with_token(world: &mut World, method: String, path: String, token: String) {
    let request = request(world, method.parse().unwrap(), &path).bearer_auth(token);
    world.response = Some(HttpResponse::read(request.send().await.unwrap()).await);
}

#[when(regex = r"^I DELETE `(.*)` of the hive$")]
async fn delete(world: &mut World, path: String) {
    let request = request(world, Method::DELETE, &path);
    send(world, request).await;
}

#[when(regex = r"^I POST to `(.*)` of the hive$")]
async fn post(world: &mut World, path: String, step: &Step) {
    let body = step.docstring.as_deref().expect("a body").trim();
    let request = request(world, Method::POST, &path)
        .header("content-type", "application/json")
        .body(body.to_owned());
    send(world, request).await;
}

#[when(regex = r"^I POST (\d+) bytes of (\S+) to `(.*)` of the hive$")]
async fn post_bytes(world: &mut World, count: usize, content_type: String, path: String) {
    let request = request(world, Method::POST, &path)
        .header("content-type", content_type)
        .body(vec![b' '; count]);
    send(world, request).await;
}

#[then(regex = r"^it took less than (\d+) s$")]
fn took(world: &mut World, seconds: u64) {
    let took = world.get::<State>().took;
    assert!(!took.is_zero(), "nothing was timed");
    assert!(took < Duration::from_secs(seconds), "{took:?}");
}

#[then("the hive lists no worker")]
async fn lists_none(world: &mut World) {
    assert_eq!(workers(world).await, Vec::<Value>::new());
}

#[then(regex = r"^the hive lists exactly (.+)$")]
async fn lists_exactly(world: &mut World, expected: String) {
    let workers = workers(world).await;
    let ids: Vec<&str> = workers
        .iter()
        .map(|w| w["worker_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.join(", "), expected);
}

#[when(regex = r"^the hive lists (\S+) as (running|exited)$")]
#[then(regex = r"^the hive lists (\S+) as (running|exited)$")]
async fn lists_as(world: &mut World, id: String, state: String) {
    becomes(world, &id, "state", &state).await;
    let listed = workers(world).await;
    let listed = listed.iter().find(|w| w["worker_id"] == id.as_str());
    assert_eq!(listed.expect("it is listed")["state"], state.as_str());
}

#[then(regex = r"^the hive reports of (\S+)$")]
async fn reports(world: &mut World, id: String, step: &Step) {
    for row in table(step) {
        becomes(world, &id, &row[0], &row[1]).await;
    }
}

#[then(regex = r"^the last exit of (\S+) is `(.*)`$")]
async fn last_exit(world: &mut World, id: String, expected: String) {
    becomes(world, &id, "last_exit", &expected).await;
}

#[then(regex = r"^the pid and the port of (\S+) are those in the spawn response$")]
async fn same_pid(world: &mut World, id: String) {
    let entry = entry(world, &id).await;
    let response = world.last_response().json();
    assert!(entry["port"].as_u64().unwrap() > 0, "{entry}");
    assert_eq!(
        (&entry["pid"], &entry["port"]),
        (&response["pid"], &response["port"])
    );
    assert_eq!(entry["pid"], process_of(world, &id).pid);
}

#[then(regex = r"^the hive reports the memory of (\S+)$")]
async fn memory(world: &mut World, id: String) {
    let entry = entry(world, &id).await;
    assert!(entry["rss_bytes"].as_u64().unwrap() > 1 << 20, "{entry}");
}

#[then(regex = r"^the uptime of (\S+) increases$")]
async fn uptime(world: &mut World, id: String) {
    let uptime = async || entry(world, &id).await["uptime_seconds"].as_u64().unwrap();
    let before = uptime().await;
    eventually(LIMIT, || async {
        let now = uptime().await;
        if now > before {
            Ok(())
        } else {
            Err(format!("{now} s after {before} s"))
        }
    })
    .await;
}

#[when("I note the hive's list of workers")]
async fn note_list(world: &mut World) {
    let workers = workers(world).await;
    assert!(!workers.is_empty());
    world.noted.insert("list".into(), without_clock(workers));
}

#[then("the hive's list of workers is unchanged")]
async fn same_list(world: &mut World) {
    let list = without_clock(workers(world).await);
    assert_eq!(list, world.noted["list"]);
}

/// The entries without the fields that change while a worker is running.
fn without_clock(mut workers: Vec<Value>) -> String {
    for worker in &mut workers {
        let fields = worker.as_object_mut().unwrap();
        fields.remove("uptime_seconds");
        fields.remove("rss_bytes");
    }
    serde_json::to_string_pretty(&workers).unwrap()
}

#[then("the response has cores, memory and disk")]
fn has_resources(world: &mut World) {
    let json = world.last_response().json();
    for pointer in [
        "/cpu/cores",
        "/ram/total_bytes",
        "/ram/available_bytes",
        "/disk/total_bytes",
        "/devices/0/memory_total_bytes",
    ] {
        let number = json.pointer(pointer).and_then(Value::as_u64);
        assert!(number.is_some_and(|n| n > 0), "{pointer}: {json}");
    }
}

#[given("I follow the events of the hive")]
async fn follow(world: &mut World) {
    let request = request(world, Method::GET, "/v1/events").bearer_auth(world.node_token());
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let sink = world.get::<State>().hive_events.clone();
    world.spawn(async move {
        let mut bytes = response.bytes_stream();
        while let Some(Ok(part)) = bytes.next().await {
            sink.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&part));
        }
    });
}

/// Messages of the narrations in an event stream. Its last event may be incomplete.
pub fn narrations(stream: &str) -> Vec<String> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<Narration>(data).ok())
        .map(|narration| narration.message)
        .collect()
}

#[then(regex = r"^the hive narrates `(.*)`$")]
async fn hive_narrates(world: &mut World, text: String) {
    note_port(world);
    let text = world.fill(&text);
    let events = world.get::<State>().hive_events.clone();
    eventually(LIMIT, || async {
        let narrations = narrations(&events.lock().unwrap());
        if narrations.contains(&text) {
            Ok(())
        } else {
            Err(format!("no `{text}` in {narrations:#?}"))
        }
    })
    .await;
}

/// Notes the port of w-1 as `{w-1_port}`.
fn note_port(world: &mut World) {
    let port = record(world, "w-1").port.to_string();
    world.noted.insert("w-1_port".into(), port);
}

#[then(regex = r"^the log is `(.*)`$")]
fn log_is(world: &mut World, lines: String) {
    let response = world.last_response();
    assert_eq!(response.status, 200, "{}", response.text);
    let found: Vec<&str> = response.text.lines().collect();
    assert_eq!(found.join("|"), lines);
}

/// The log of a worker, which is not empty.
async fn log_of(world: &mut World, id: &str) -> String {
    get(world, format!("/v1/workers/{id}/logs")).await;
    let response = world.last_response();
    assert_eq!(response.status, 200, "{}", response.text);
    assert!(!response.text.is_empty());
    response.text.clone()
}

#[when(regex = r"^I note the log of (\S+)$")]
async fn note_log(world: &mut World, id: String) {
    let log = log_of(world, &id).await;
    world.noted.insert("log".into(), log);
}

#[then(regex = r"^the file `(.*)` begins with the noted log$")]
fn begins(world: &mut World, path: String) {
    let text = fs::read_to_string(world.fill(&path)).unwrap();
    let log = &world.noted["log"];
    assert!(text.starts_with(log.as_str()), "{text}\n---\n{log}");
}

#[then(regex = r"^the log of (\S+) is a new one$")]
async fn new_log(world: &mut World, id: String) {
    let log = log_of(world, &id).await;
    assert!(!log.starts_with(world.noted["log"].as_str()), "{log}");
}
