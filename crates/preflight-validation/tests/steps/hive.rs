//! The real hive on a mock machine.

use std::{fs, path::Path, time::Duration};

use bdd::{HttpResponse, World, eventually};
use cucumber::{gherkin::Step, given, then, when};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::{State, machine};

const LIMIT: Duration = Duration::from_secs(20);

fn request(world: &World, method: Method, path: &str) -> RequestBuilder {
    let hive = world.daemon("hive").expect("a hive is running");
    let client = Client::builder().no_proxy().build().unwrap();
    client
        .request(method, format!("{}{path}", hive.url))
        .bearer_auth(world.node_token())
}

async fn post(world: &mut World, path: &str, body: &Value) {
    let sent = request(world, Method::POST, path).json(body).send().await;
    world.response = Some(HttpResponse::read(sent.unwrap()).await);
}

#[given("a hive on this machine")]
async fn a_hive(world: &mut World) {
    a_hive_with(world, String::new()).await;
}

#[given(regex = r"^a hive on this machine with `(.*)`$")]
async fn a_hive_with(world: &mut World, arguments: String) {
    machine::write(world);
    let hive = world.start(&format!(
        "rbee-hive --mock-devices {{dir}}/devices.json {arguments}"
    ));
    world.running.insert("hive".into(), hive);
    world.await_daemon("hive").await;
    eventually(LIMIT, || async {
        let health = request(world, Method::GET, "/v1/health").send();
        health.await?.error_for_status()
    })
    .await;
}

/// A repository with the built-in model.
#[given(regex = r"^a model hub with a model (\S+)$")]
async fn hub(world: &mut World, repository: String) {
    let dir = world.dir().join("hub").join(repository);
    fs::create_dir_all(&dir).unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku");
    let model = models.join("rbee-haiku-tiny-q8_0.gguf");
    fs::copy(model, dir.join("model-Q8_0.gguf")).unwrap();
    let hub = world.start("sim hub --dir {dir}/hub --port-file {dir}/hub.port");
    world.running.insert("hub".into(), hub);
    let file = world.dir().join("hub.port");
    let port = eventually(LIMIT, || async {
        fs::read_to_string(&file).and_then(|text| {
            let port = text.trim().parse::<u16>();
            port.map_err(std::io::Error::other)
        })
    })
    .await;
    let endpoint = format!("http://127.0.0.1:{port}");
    world.environment.push(("HF_ENDPOINT".into(), endpoint));
}

#[when("I check a worker")]
async fn check(world: &mut World, step: &Step) {
    let body = step.docstring.as_deref().expect("a request");
    let body: Value = serde_json::from_str(body).unwrap();
    run_checks(world, body).await;
}

async fn run_checks(world: &mut World, body: Value) {
    post(world, "/v1/preflight", &body).await;
    let response = world.last_response();
    assert_eq!(response.status, 200, "{}", response.text);
    let report = serde_json::from_str(&response.text).unwrap();
    let state = world.get::<State>();
    state.report = report;
    state.request = body;
    state.named = None;
}

#[when("I check the worker with the context that the hint suggests")]
async fn check_suggestion(world: &mut World) {
    let state = world.get::<State>();
    let check = state.named.as_ref().expect("a check");
    let hint = check.hint.as_deref().expect("a hint");
    let rest = hint.split("`--context ").nth(1).expect("a context");
    let tokens: u32 = rest.split('`').next().unwrap().parse().unwrap();
    let mut body = state.request.clone();
    body["context_length"] = tokens.into();
    run_checks(world, body).await;
}

#[when(regex = r"^I spawn `(.*)` on (\S+)$")]
async fn spawn(world: &mut World, model: String, device: String) {
    spawn_with(world, &model, &device, json!({})).await;
}

#[when(regex = r"^I spawn `(.*)` on (\S+) with a context of (\d+) tokens$")]
async fn spawn_with_context(world: &mut World, model: String, device: String, tokens: u32) {
    spawn_with(world, &model, &device, json!({"context_length": tokens})).await;
}

#[when(regex = r"^I spawn `(.*)` on (\S+) with a context of (\d+) tokens and (\d+) slots$")]
async fn spawn_with_slots(
    world: &mut World,
    model: String,
    device: String,
    tokens: u32,
    slots: u32,
) {
    let further = json!({"context_length": tokens, "slots": slots});
    spawn_with(world, &model, &device, further).await;
}

#[then("the worker is started with the KV cache of the check")]
fn has_kv_cache(world: &mut World) {
    let check = world.get::<State>().named.clone().expect("a check");
    let bytes = check.details.unwrap()["kv_cache_bytes"].as_u64().unwrap();
    assert!(bytes > 0);
    let argument = format!("--kv-cache-bytes {bytes}");
    let lines = world.processes();
    let has = lines.values().any(|line| line.contains(&argument));
    assert!(has, "no `{argument}` in {lines:?}");
}

#[when(regex = r"^I spawn `(.*)` on (\S+) and wait until it is ready$")]
async fn spawn_ready(world: &mut World, model: String, device: String) {
    spawn_with(world, &model, &device, json!({"wait_ready": true})).await;
}

async fn spawn_with(world: &mut World, model: &str, device: &str, further: Value) {
    let mut body = json!({
        "worker_id": "w-1", "generation": 1, "model": model, "device": device,
        // Nothing listens there: the worker needs no queen to load.
        "queen_url": "http://127.0.0.1:1",
    });
    let fields = further.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    post(world, "/v1/workers/spawn", &body).await;
}

async fn workers(world: &World) -> Value {
    let sent = request(world, Method::GET, "/v1/workers").send().await;
    let response = HttpResponse::read(sent.unwrap()).await;
    assert_eq!(response.status, 200, "{}", response.text);
    response.json()["workers"].clone()
}

#[then("the hive has no worker")]
async fn no_worker(world: &mut World) {
    assert_eq!(workers(world).await, json!([]));
}

#[then(regex = r"^the worker runs on (\S+)$")]
async fn runs_on(world: &mut World, device: String) {
    let workers = workers(world).await;
    assert_eq!(workers[0]["state"], "running", "{workers}");
    assert_eq!(workers[0]["device"], device, "{workers}");
    let argv = world.processes();
    let arguments = format!("--device {device}");
    let runs = argv.values().any(|line| line.contains(&arguments));
    assert!(runs, "no `{arguments}` in {argv:?}");
}

#[then("no worker process runs")]
fn no_worker_process(world: &mut World) {
    let running = world.processes();
    let workers: Vec<&String> = running
        .values()
        .filter(|line| line.contains("worker-rbee"))
        .collect();
    assert!(workers.is_empty(), "{workers:?}");
}

#[then(regex = r"^no line of the output is longer than (\d+) characters$")]
fn narrow(world: &mut World, limit: usize) {
    for line in world.last().stdout.lines() {
        assert!(line.chars().count() <= limit, "{line}");
    }
}
