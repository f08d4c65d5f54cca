//! Scenarios with llama.cpp's own server.

use std::{env, fs, time::Duration};

use bdd::{World, eventually};
use cucumber::{given, then, when};
use daemon_shell::{ProcessIdentity, Signal};
use serde_json::{Value, json};
use worker_contract::{StreamEvent, WorkerStatus};

use super::{
    outputs::Last,
    requests::{follow, request, send},
    workers::{await_status, client, start},
};

/// Environment variables with the program, its chat templates of well-known models, and the models.
const SERVER: &str = "RBEE_LLAMA_SERVER";
const TEMPLATES: &str = "RBEE_LLAMA_TEMPLATES";
const MODELS: [(&str, &str); 2] = [
    ("embedded", "RBEE_EMBEDDED_MODEL"),
    ("SmolLM2", "RBEE_SMOLLM2_MODEL"),
];

/// Request for an output that lasts.
const LONG: &str = "Tell me a long story about the sea, with many ships and many storms.";

/// Fields of a request that ends with the context: at a high temperature, an end token is unlikely.
fn long(id: &str) -> Value {
    json!({"request_id": id, "max_tokens": null, "sampling": {"temperature": 4.0, "seed": 1}})
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is set by `cargo xtask outside engines`"))
}

#[given(regex = r"^a worker with llama.cpp's server and the model (\w+)$")]
async fn with_server(world: &mut World, model: String) {
    start_server(world, &model, &[]).await;
}

#[given(regex = r"^a worker with llama.cpp's server, the model (\w+) and the template (\S+)$")]
async fn with_template(world: &mut World, model: String, template: String) {
    let file = format!("{}/{template}.jinja", variable(TEMPLATES));
    start_server(world, &model, &["--chat-template-file", &file]).await;
}

async fn start_server(world: &mut World, model: &str, more: &[&str]) {
    let (_, name) = MODELS.iter().find(|(known, _)| *known == model).unwrap();
    let mut words: Vec<String> = ["--engine", "llama-cpp", "--"].map(str::to_owned).to_vec();
    words.push(variable(SERVER));
    words.extend(
        [
            "-m",
            "{model}",
            "--port",
            "{port}",
            "-np",
            "{slots}",
            "-c",
            "2048",
            "--metrics",
        ]
        .map(str::to_owned),
    );
    words.extend(more.iter().map(ToString::to_string));
    start(world, &variable(name), &words);
    await_status(world, WorkerStatus::Ready).await;
}

/// The running server, and its port.
fn server(world: &World) -> (ProcessIdentity, u16) {
    let program = variable(SERVER);
    let (identity, line) = world
        .processes()
        .into_iter()
        .find(|(_, line)| line.starts_with(&program))
        .expect("the server runs");
    let mut words = line.split(' ').skip_while(|word| *word != "--port").skip(1);
    (identity, words.next().unwrap().parse().unwrap())
}

#[when(regex = r"^I ask for a long output, and leave after (\d+) tokens$")]
async fn leave(world: &mut World, tokens: usize) {
    let request = request(world, LONG, &long("left"));
    follow(world, request, tokens, false).await;
    let last = world.get::<Last>();
    assert_eq!(last.tokens().len(), tokens, "{:?}", last.refusal);
}

#[then(regex = r"^all slots of llama.cpp are free within (\d+) s$")]
async fn slots_free(world: &mut World, seconds: u64) {
    let (_, port) = server(world);
    eventually(Duration::from_secs(seconds), || async {
        let url = format!("http://127.0.0.1:{port}/slots");
        let slots = reqwest::get(url).await.map_err(|e| e.to_string())?;
        let slots: Vec<Value> = slots.json().await.map_err(|e| e.to_string())?;
        let busy = slots
            .iter()
            .filter(|slot| slot["is_processing"] != false)
            .count();
        if busy == 0 {
            Ok(())
        } else {
            Err(format!("{busy} slots are busy"))
        }
    })
    .await;
}

#[when("llama.cpp's server is killed during an output")]
async fn killed(world: &mut World) {
    let (identity, _) = server(world);
    let request = request(world, LONG, &long("killed"));
    let worker = client(world);
    let mut stream = std::pin::pin!(
        worker
            .infer_stream(&request, http::HeaderMap::new())
            .await
            .unwrap()
    );
    let mut events = Vec::new();
    while let Some(event) = futures_util::StreamExt::next(&mut stream).await {
        let event = event.unwrap();
        if matches!(&event, StreamEvent::Token(token) if token.i == 1) {
            identity.signal(Signal::Kill).unwrap();
        }
        events.push(event);
    }
    assert!(fs::exists(variable(SERVER)).unwrap());
    world.get::<Last>().events = events;
}

#[when("I ask for JSON with at most 8 tokens of reasoning")]
async fn ask_for_json(world: &mut World) {
    let schema = json!({"type": "object", "properties": {"n": {"enum": [1, 2]}},
        "required": ["n"], "additionalProperties": false});
    let more = json!({"reasoning": {"max_tokens": 8}, "constraint": {"json_schema": schema}});
    let request = request(world, "What is one plus one?", &more);
    send(world, request).await;
}

#[then(regex = r"^the reasoning has ended after at most (\d+) tokens$")]
fn reasoning_ended(world: &mut World, most: u32) {
    let usage = world.get::<Last>().end().usage;
    assert!((1..=most).contains(&usage.reasoning_tokens), "{usage:?}");
    assert!(
        usage.reasoning_tokens < usage.completion_tokens,
        "{usage:?}"
    );
}

#[then("the output is JSON with a number")]
fn is_json(world: &mut World) {
    let text = world.get::<Last>().text();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(value["n"].is_i64(), "{text}");
}

/// A small model repeats what it sees.
#[when(regex = r"^I ask for a call like those before, which (may|must) be made$")]
async fn ask_for_call(world: &mut World, how: String) {
    let tool = |name: &str| {
        json!({"name": name, "parameters": {"type": "object", "required": ["zone"],
            "properties": {"zone": {"type": "string", "enum": ["utc", "local"]}}}})
    };
    let mut messages = Vec::new();
    for zone in ["utc", "local", "utc"] {
        let call =
            json!({"id": "c", "name": "get_time", "arguments": json!({"zone": zone}).to_string()});
        messages.push(json!({"role": "user", "content": format!("time {zone}")}));
        messages.push(json!({"role": "assistant", "content": "", "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": "c", "content": "12:00"}));
    }
    messages.push(json!({"role": "user", "content": "time local"}));
    let mut more = json!({"input": {"messages": messages}, "max_tokens": 100,
        "tools": [tool("get_time"), tool("other")]});
    if how == "must" {
        more["tool_choice"] = json!({"named": "get_time"});
    }
    let request = request(world, &how, &more);
    send(world, request).await;
}

#[then(regex = r"^every token has (\d+) alternatives, the likeliest first$")]
fn has_alternatives(world: &mut World, count: usize) {
    let last = world.get::<Last>();
    last.end();
    assert!(!last.tokens().is_empty());
    for token in last.tokens() {
        let logprob = token.logprob.as_ref().expect("a log probability");
        let top = &logprob.top;
        assert_eq!((top.len(), top[0].id), (count, token.id), "{token:?}");
        assert!(
            top.windows(2)
                .all(|pair| pair[0].logprob >= pair[1].logprob),
            "{top:?}"
        );
    }
}
