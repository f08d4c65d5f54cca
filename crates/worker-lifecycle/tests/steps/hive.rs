use std::{
    fs,
    time::{Duration, Instant},
};

use bdd::{Answer, World, eventually};
use cucumber::{gherkin::Step, given, then, when};
use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::{Seen, plain, process_of, token};

const SOON: Duration = Duration::from_secs(10);

pub fn request(world: &World, method: Method, path: &str) -> RequestBuilder {
    let url = format!("{}{path}", world.daemon("hive").expect("a hive runs").url);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.request(method, url)
}

/// Sends a request with the node's token, and remembers its answer and how long it took.
pub async fn send(world: &mut World, request: RequestBuilder) {
    let begin = Instant::now();
    let sent = request.bearer_auth(token(world)).send().await.unwrap();
    world.answer = Some(Answer::read(sent).await);
    world.get::<Seen>().took = begin.elapsed();
}

async fn get_json(world: &World, path: &str) -> Value {
    let request = request(world, Method::GET, path).bearer_auth(token(world));
    let answer = Answer::read(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

pub async fn entry(world: &World, id: &str) -> Value {
    get_json(world, &format!("/v1/workers/{id}")).await
}

async fn workers(world: &World) -> Vec<Value> {
    let list = get_json(world, "/v1/workers").await;
    list["workers"].as_array().unwrap().clone()
}

/// Waits until a field of a worker's entry is as expected.
async fn becomes(world: &World, id: &str, field: &str, expected: &str) {
    eventually(SOON, || async {
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

#[given(regex = r"^a hive with `(.*)`$")]
async fn a_hive_with(world: &mut World, args: String) {
    let hive = world.start(&format!("rbee-hive {args}"));
    world.running.insert("hive".into(), hive);
    let record = world.await_daemon("hive").await;
    let url = format!("{}/v1/health", record.url);
    eventually(SOON, || async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(&url).send().await.map(drop)
    })
    .await;
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
async fn get_public(world: &mut World, path: String) {
    let sent = request(world, Method::GET, &path).send().await.unwrap();
    world.answer = Some(Answer::read(sent).await);
}

#[when(regex = r"^I GET `(.*)` from the hive with the token `(.*)`$")]
async fn get_with(world: &mut World, path: String, token: String) {
    let request = request(world, Method::GET, &path).bearer_auth(token);
    world.answer = Some(Answer::read(request.send().await.unwrap()).await);
}

#[when(regex = r"^I DELETE `(.*)` of the hive$")]
async fn delete(world: &mut World, path: String) {
    let request = request(world, Method::DELETE, &path);
    send(world, request).await;
}

#[when(regex = r"^I POST to `(.*)` of the hive$")]
async fn post(world: &mut World, path: String, step: &Step) {
    let body = step.docstring.as_deref().unwrap_or_default().trim();
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
    let took = world.get::<Seen>().took;
    assert!(took < Duration::from_secs(seconds), "{took:?}");
}

#[then(regex = r"^the answer's error hints `(.*)`$")]
fn hints(world: &mut World, text: String) {
    let json = world.last_answer().json();
    let hint = json["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains(&text), "{json}");
}

#[then("the hive lists no worker")]
async fn lists_none(world: &mut World) {
    assert_eq!(workers(world).await, Vec::<Value>::new());
}

#[then(regex = r"^the hive lists exactly (.+)$")]
async fn lists_exactly(world: &mut World, expected: String) {
    let workers = workers(world).await;
    let names: Vec<&str> = workers
        .iter()
        .map(|w| w["worker_id"].as_str().unwrap())
        .collect();
    assert_eq!(names.join(", "), expected);
}

#[when(regex = r"^the hive lists (\S+) as (running|exited)$")]
#[then(regex = r"^the hive lists (\S+) as (running|exited)$")]
async fn lists_as(world: &mut World, id: String, state: String) {
    becomes(world, &id, "state", &state).await;
    let listed = workers(world).await;
    let listed = listed.iter().find(|w| w["worker_id"] == id.as_str());
    assert_eq!(listed.expect("it is listed")["state"], state.as_str());
}

#[then(regex = r"^the hive tells of (\S+)$")]
async fn tells(world: &mut World, id: String, step: &Step) {
    for row in &step.table.as_ref().expect("a table").rows {
        becomes(world, &id, &row[0], &row[1]).await;
    }
}

#[then(regex = r"^the last exit of (\S+) is `(.*)`$")]
async fn last_exit(world: &mut World, id: String, expected: String) {
    becomes(world, &id, "last_exit", &expected).await;
}

#[then(regex = r"^the pid and the port of (\S+) are those that the spawn answered$")]
async fn same_pid(world: &mut World, id: String) {
    let entry = entry(world, &id).await;
    let answer = world.last_answer().json();
    assert_eq!(
        (&entry["pid"], &entry["port"]),
        (&answer["pid"], &answer["port"])
    );
    assert_eq!(entry["pid"], process_of(world, &id).pid);
}

#[then(regex = r"^the memory of (\S+) is told$")]
async fn memory(world: &mut World, id: String) {
    let entry = entry(world, &id).await;
    assert!(entry["rss_bytes"].as_u64().unwrap() > 1 << 20, "{entry}");
}

#[then(regex = r"^the uptime of (\S+) counts up$")]
async fn uptime(world: &mut World, id: String) {
    let before = entry(world, &id).await["uptime_seconds"].as_u64().unwrap();
    let after = (before + 1).to_string();
    becomes(world, &id, "uptime_seconds", &after).await;
}

#[when("I note the list of the hive")]
async fn note_list(world: &mut World) {
    let list = without_clock(workers(world).await);
    assert!(!list.is_empty());
    world.noted.insert("list".into(), list);
}

#[then("the list of the hive is the noted one")]
async fn same_list(world: &mut World) {
    let list = without_clock(workers(world).await);
    assert_eq!(list, world.noted["list"]);
}

/// The entries without what changes while a worker lives.
fn without_clock(mut workers: Vec<Value>) -> String {
    for worker in &mut workers {
        let fields = worker.as_object_mut().unwrap();
        fields.remove("uptime_seconds");
        fields.remove("rss_bytes");
    }
    serde_json::to_string_pretty(&workers).unwrap()
}

#[then("the answer counts cores, memory and disk")]
fn counts(world: &mut World) {
    let json = world.last_answer().json();
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
    let request = request(world, Method::GET, "/v1/events").bearer_auth(token(world));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let sink = world.get::<Seen>().hive_events.clone();
    world.spawn(async move {
        let mut bytes = answer.bytes_stream();
        while let Some(Ok(part)) = bytes.next().await {
            sink.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&part));
        }
    });
}

#[then(regex = r"^an event of the hive tells `(.*)`$")]
async fn hive_tells(world: &mut World, text: String) {
    let events = world.get::<Seen>().hive_events.clone();
    eventually(SOON, || async {
        let events = events.lock().unwrap();
        if events.contains(&text) {
            Ok(())
        } else {
            Err(format!("no `{text}` in:\n{events}"))
        }
    })
    .await;
}

#[then(regex = r"^the file `(.*)` is (there|not there)$")]
fn file(world: &mut World, path: String, verb: String) {
    let path = world.fill(&path);
    assert_eq!(fs::exists(&path).unwrap(), verb == "there", "{path}");
}

#[then(regex = r"^the log is `(.*)`$")]
fn log_is(world: &mut World, lines: String) {
    let answer = world.last_answer();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let found: Vec<&str> = answer.text.lines().collect();
    assert_eq!(found.join("|"), lines);
}

#[when(regex = r"^I note the log of (\S+)$")]
async fn note_log(world: &mut World, id: String) {
    get(world, format!("/v1/workers/{id}/logs")).await;
    let log = world.last_answer().text.clone();
    assert!(!log.is_empty());
    world.noted.insert("log".into(), log);
}

#[then(regex = r"^the file `(.*)` begins with the noted log$")]
fn begins(world: &mut World, path: String) {
    let text = fs::read_to_string(world.fill(&path)).unwrap();
    let log = &world.noted["log"];
    assert!(text.starts_with(log.as_str()), "{text}\n---\n{log}");
}

#[then(regex = r"^the log of (\S+) is another one$")]
async fn other_log(world: &mut World, id: String) {
    get(world, format!("/v1/workers/{id}/logs")).await;
    let log = &world.noted["log"];
    assert!(!world.last_answer().text.starts_with(log.as_str()));
}
