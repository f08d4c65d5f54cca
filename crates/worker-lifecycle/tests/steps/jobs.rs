use std::{collections::BTreeSet, time::Duration};

use bdd::{HttpResponse, SseEvent, World, within};
use cucumber::{given, then, when};
use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{
    State,
    hive::{narrations, request, send},
    plain,
};

#[given(regex = r"^the worker (\S+)$")]
async fn a_worker(world: &mut World, id: String) {
    let model = "mock:tokens_per_second=40,length=100".to_owned();
    spawn(
        world,
        model,
        id,
        String::new(),
        String::new(),
        String::new(),
    )
    .await;
    let response = world.last_response();
    assert_eq!(response.status, 200, "{}", response.text);
}

#[when(
    regex = r"^I spawn `(.*)` as (\S+)(?: on (\S+))?(?: in generation (\d+))?(?: (without waiting|as a stream|in the background))?$"
)]
async fn spawn(
    world: &mut World,
    model: String,
    id: String,
    device: String,
    generation: String,
    how: String,
) {
    let or = |text: String, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text
        }
    };
    let body = json!({
        "worker_id": id,
        "generation": or(generation, "1").parse::<u64>().unwrap(),
        "model": model,
        "device": or(device, "CPU-0"),
        // Nothing listens there: a worker serves without a queen.
        "queen_url": "http://127.0.0.1:1",
        "wait_ready": how != "without waiting",
    });
    let request = request(world, Method::POST, "/v1/workers/spawn").json(&body);
    let request = match how.as_str() {
        "as a stream" => request.header(header::ACCEPT, "text/event-stream"),
        "in the background" => request.header("prefer", "respond-async"),
        _ => request,
    };
    send(world, request).await;
    if how == "in the background" {
        let response = world.last_response();
        let job = response.json()["job_id"].as_str().map(str::parse);
        world.get::<State>().job = Some(job.expect("a job").unwrap());
    }
}

fn job_path(world: &mut World) -> String {
    let job = world.get::<State>().job.clone();
    format!("/v1/jobs/{}", job.expect("a job was accepted"))
}

/// The job's events, read until the stream ends.
async fn job_events(world: &mut World) -> Vec<SseEvent> {
    let path = format!("{}/events", job_path(world));
    let request = request(world, Method::GET, &path).bearer_auth(world.node_token());
    let read = async { HttpResponse::read(request.send().await.unwrap()).await };
    let response = within(Duration::from_secs(20), "the job's events", read).await;
    assert_eq!(response.status, 200, "{}", response.text);
    response.events().await
}

#[when("I cancel the job")]
async fn cancel(world: &mut World) {
    let path = job_path(world);
    let request = request(world, Method::DELETE, &path);
    send(world, request).await;
    assert_eq!(world.last_response().status, 204);
}

#[then(regex = r"^the events are (narration|narration and progress), then one result$")]
async fn stream_order(world: &mut World, expected: String) {
    let events = world.last_response().events().await;
    let (last, others) = events.split_last().expect("events");
    assert_eq!(last.name, "result", "{events:?}");
    let names: BTreeSet<&str> = others.iter().map(|e| e.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    assert_eq!(names.join(" and "), expected, "{events:?}");
}

#[then("the progress increases up to its total")]
async fn progress_increases(world: &mut World) {
    let events = world.last_response().events().await;
    let progress: Vec<Value> = events
        .iter()
        .filter(|e| e.name == "progress")
        .map(SseEvent::json)
        .collect();
    let done: Vec<u64> = progress
        .iter()
        .map(|p| p["done"].as_u64().unwrap())
        .collect();
    assert!(done.len() >= 3, "{progress:?}");
    assert!(done.is_sorted(), "{progress:?}");
    let last = progress.last().unwrap();
    assert_eq!(last["done"], last["total"]);
}

#[then(regex = r"^the last event's `(.*)` is `(.*)`$")]
async fn last_event(world: &mut World, pointer: String, expected: String) {
    let events = world.last_response().events().await;
    let last = events.last().expect("events").json();
    let found = plain(last.pointer(&pointer).unwrap_or(&Value::Null));
    assert_eq!(found, world.fill(&expected), "{last}");
}

#[then(regex = r"^the job narrates `(.*)`$")]
fn job_narrates(world: &mut World, text: String) {
    let text = world.fill(&text);
    let narrations = narrations(&world.last_response().text);
    assert!(narrations.contains(&text), "no `{text}` in {narrations:#?}");
}

#[then(regex = r"^an event of the job contains `(.*)`$")]
fn event_contains(world: &mut World, text: String) {
    let narrations = narrations(&world.last_response().text);
    assert!(
        narrations.iter().any(|n| n.contains(&text)),
        "no `{text}` in {narrations:#?}"
    );
}

#[then(regex = r"^the job's events end with `(.*)`$")]
async fn end_with(world: &mut World, name: String) {
    let events = job_events(world).await;
    assert_eq!(events.last().expect("events").name, name, "{events:?}");
    let terminal = |e: &&SseEvent| matches!(e.name.as_str(), "result" | "error" | "cancelled");
    assert_eq!(events.iter().filter(terminal).count(), 1, "{events:?}");
    world
        .noted
        .insert("job_events".into(), without_progress(&events));
}

/// The events except progress, of which only the newest is kept for later readers.
fn without_progress(events: &[SseEvent]) -> String {
    let kept: Vec<_> = events.iter().filter(|e| e.name != "progress").collect();
    format!("{kept:?}")
}

#[then("the job's events are the same when read again, progress aside")]
async fn replayed(world: &mut World) {
    let replayed = job_events(world).await;
    assert_eq!(without_progress(&replayed), world.noted["job_events"]);
    for _ in 0..3 {
        let again = job_events(world).await;
        assert_eq!(format!("{again:?}"), format!("{replayed:?}"));
    }
}

#[then(regex = r"^the job is (\w+)$")]
async fn job_state(world: &mut World, state: String) {
    let path = job_path(world);
    let request = request(world, Method::GET, &path);
    send(world, request).await;
    assert_eq!(world.last_response().json()["state"], state.as_str());
}
