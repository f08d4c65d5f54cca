use bdd::{HttpResponse, World, within};
use cucumber::{given, when};
use jiff::{SignedDuration, Timestamp};
use queen_contract::Priority;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::{HOLDER, LIMIT, MODEL, events, is_token, is_waiting, queen_url, send};

#[given(regex = r"^a queen with `(\w+)=(.*)`$")]
async fn queen_with(world: &mut World, name: String, value: String) {
    world.environment.push((name, value));
    let finished = world.run("rbee-keeper queen start").await.clone();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    world.await_daemon("queen").await;
    world.await_daemon("hive").await;
}

#[given("a request that holds the only slot of its model")]
async fn hold(world: &mut World) {
    send(world, HOLDER, HOLDER, MODEL, Priority::Interactive, 100_000).await;
    events(world, HOLDER).until("a token", is_token).await;
}

#[given("requests that took two seconds each")]
async fn measured(world: &mut World) {
    for n in 0..3 {
        let id = format!("measured-{n}");
        send(world, HOLDER, &id, MODEL, Priority::Interactive, 40).await;
        events(world, &id).read_to_end().await;
    }
}

/// Each request waits before the next one is sent.
#[when(regex = r"^the client (\w+) sends the (batch )?requests ([a-z0-9, -]+)$")]
async fn send_all(world: &mut World, client: String, batch: String, ids: String) {
    let priority = if batch.is_empty() {
        Priority::Interactive
    } else {
        Priority::Batch
    };
    for id in ids.split(", ") {
        send(world, &client, id, MODEL, priority, 1).await;
        events(world, id).until("wait", is_waiting).await;
    }
}

#[when(
    regex = r"^the client (\w+) asks a model that takes (\d+) ms to load, by the request (\S+)$"
)]
async fn cold(world: &mut World, client: String, millis: u64, id: String) {
    let model = format!("mock:load_ms={millis},length=1");
    send(world, &client, &id, &model, Priority::Interactive, 1).await;
}

#[when("the slot becomes free")]
async fn free_slot(world: &mut World) {
    cancel(world, HOLDER.to_owned()).await;
    events(world, HOLDER).read_to_end().await;
}

#[when(regex = r"^I cancel the waiting request (\S+)$")]
async fn cancel(world: &mut World, id: String) {
    let url = format!("{}/v1/infer/{id}", queen_url(world));
    let response = http().delete(url).send().await.unwrap();
    assert_eq!(response.status(), 204);
}

fn http() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn chat(world: &World, more: Value) -> RequestBuilder {
    let mut body = json!({"model": MODEL, "max_tokens": 1,
        "messages": [{"role": "user", "content": "count"}]});
    let fields = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    let url = format!("{}/v1/chat/completions", queen_url(world));
    http().post(url).json(&body)
}

async fn respond(world: &mut World, request: RequestBuilder) {
    let response = async { HttpResponse::read(request.send().await.unwrap()).await };
    world.response = Some(within(LIMIT, "a response", response).await);
}

/// Sends a request in the background.
fn wait_for(world: &mut World, request: RequestBuilder) {
    world.spawn(async move {
        // It waits until the queen is stopped.
        let _ = request.send().await;
    });
}

#[when(regex = r"^the client (\w+) sends a chat$")]
async fn send_chat(world: &mut World, client: String) {
    let request = chat(world, json!({})).bearer_auth(client);
    respond(world, request).await;
}

#[when(regex = r"^the client (\w+) sends a chat with a deadline in (\d+) ms$")]
async fn send_with_deadline(world: &mut World, client: String, millis: i64) {
    let deadline = Timestamp::now() + SignedDuration::from_millis(millis);
    let request = chat(world, json!({})).bearer_auth(client);
    let request = request.header("x-request-deadline", deadline.to_string());
    respond(world, request).await;
}

#[when(regex = r"^I send a chat with the header `(\S+): (.*)`$")]
async fn send_with_header(world: &mut World, name: String, value: String) {
    let request = chat(world, json!({})).header(name, value);
    respond(world, request).await;
}

#[when(regex = r"^a request waits that is one for a batch by (.*)$")]
async fn batch_by(world: &mut World, how: String) {
    let request = match how.as_str() {
        "the header x-request-priority" => {
            chat(world, json!({})).header("x-request-priority", "batch")
        }
        "OpenAI's service_tier" => chat(world, json!({"service_tier": "flex"})),
        "vLLM's priority" => chat(world, json!({"priority": 1})),
        "the field priority of /v1/infer" => {
            send(world, "alice", "batch", MODEL, Priority::Batch, 1).await;
            return;
        }
        "the keeper's --batch" => {
            let line = format!("rbee-keeper infer count --batch --model {MODEL}");
            let running = world.start(&line);
            world.running.insert("keeper".into(), running);
            return;
        }
        other => panic!("unknown: {other}"),
    };
    wait_for(world, request);
}

#[when(regex = r"^a request waits with service_tier flex and the header `(\S+): (.*)`$")]
fn header_and_body(world: &mut World, name: String, value: String) {
    let request = chat(world, json!({"service_tier": "flex"})).header(name, value);
    wait_for(world, request);
}

#[when(regex = r"^I start the keeper with a request for the model as (\w+)$")]
fn keeper(world: &mut World, name: String) {
    let line = format!("rbee-keeper infer count --model {MODEL}");
    let running = world.start(&line);
    world.running.insert(name, running);
}
