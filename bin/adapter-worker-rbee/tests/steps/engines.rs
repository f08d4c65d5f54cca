//! What the simulated engine received, and engines of other owners.

use std::fs;

use bdd::{ReservedPort, World, binary, eventually};
use cucumber::{given, then, when};
use serde_json::Value;
use worker_contract::WorkerStatus;

use super::{
    LIMIT,
    outputs::Last,
    workers::{self, engine_log},
};

/// The engine that the scenario has started itself.
#[derive(Debug, Default)]
struct Engine {
    protocol: String,
    port: u16,
    key: String,
}

/// Lines of the engine's log.
fn log(world: &World) -> Vec<Value> {
    let text = fs::read_to_string(engine_log(world)).unwrap_or_default();
    // The last line may be incomplete.
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Bodies of the requests that the engine received.
pub fn bodies(world: &World) -> Vec<Value> {
    let lines = log(world).into_iter();
    lines
        .map(|line| line["body"].clone())
        .filter(|body| !body.is_null())
        .collect()
}

#[then(regex = r"^the engine received `(\w+)` = `(.*)`$")]
fn received(world: &mut World, field: String, value: String) {
    let expected: Value = serde_json::from_str(&value).unwrap();
    let bodies = bodies(world);
    assert_eq!(bodies.last().unwrap()[&field], expected, "{bodies:?}");
}

#[then(regex = r"^the engine received the tools? ([\w, ]+)$")]
fn received_tools(world: &mut World, names: String) {
    let bodies = bodies(world);
    let tools = bodies.last().unwrap()["tools"].as_array().unwrap();
    let tools = tools.iter().map(|tool| tool["function"]["name"].as_str());
    let expected: Vec<Option<&str>> = names.split(", ").map(Some).collect();
    assert_eq!(tools.collect::<Vec<_>>(), expected);
}

#[then(regex = r"^the engine received its prompt and (\d+) tokens more than before$")]
fn received_more(world: &mut World, count: usize) {
    let bodies = bodies(world);
    let prompt = bodies.last().unwrap()["prompt"].as_array().unwrap();
    let last = world.get::<Last>();
    let length = last.end().usage.prompt_tokens as usize;
    assert_eq!(prompt.len(), length + count);
    let ids = &last.earlier_ids;
    let end = &prompt[length..];
    let end: Vec<u64> = end.iter().filter_map(Value::as_u64).collect();
    let expected: Vec<u64> = ids[..count].iter().map(|id| u64::from(*id)).collect();
    assert_eq!(end, expected);
}

#[then(regex = r"^the engine (converted|did not convert) the prompt for the worker first$")]
fn converted(world: &mut World, expected: String) {
    let log = log(world);
    let paths = log.iter().filter_map(|line| line["path"].as_str());
    // The calls before it are those of the start.
    let paths: Vec<&str> = paths
        .skip_while(|path| *path != "/apply-template")
        .collect();
    assert_eq!(paths.last(), Some(&"/completion"), "{paths:?}");
    let is_converted = paths.contains(&"/tokenize");
    assert_eq!(is_converted, expected == "converted", "{paths:?}");
}

#[then(regex = r"^the engine notices that its client left( again)?$")]
async fn notices(world: &mut World, again: String) {
    let expected = if again.is_empty() { 1 } else { 2 };
    eventually(LIMIT, || async {
        let left = log(world)
            .iter()
            .filter(|line| line["disconnected"] == true)
            .count();
        if left >= expected {
            Ok(())
        } else {
            Err(format!("it noticed {left}"))
        }
    })
    .await;
}

#[then(regex = r"^the engine was started (\d+) times$")]
fn was_started(world: &mut World, count: usize) {
    let stdout = world.running["worker"].stdout() + &world.running["worker"].stderr();
    assert_eq!(stdout.matches("engine started").count(), count, "{stdout}");
}

fn start(world: &mut World) {
    let Engine {
        protocol,
        port,
        key,
    } = world.get::<Engine>();
    let arguments: Vec<String> = [protocol.as_str(), "--port", &port.to_string(), "--key", key]
        .map(str::to_owned)
        .to_vec();
    let mut command = world.command("engine-sim", &arguments);
    let running = world.start_command(&mut command);
    world.running.insert("engine".into(), running);
}

async fn await_engine(world: &World) {
    let engine = &world.running["engine"];
    eventually(LIMIT, || async {
        let stdout = engine.stdout();
        if stdout.contains("listening") {
            Ok(())
        } else {
            Err(engine.stderr())
        }
    })
    .await;
}

#[given(regex = r"^an engine ([a-z-]+) with the key `(.*)`$")]
async fn with_key(world: &mut World, protocol: String, key: String) {
    let _ = binary("engine-sim");
    let reserved = ReservedPort::any();
    *world.get::<Engine>() = Engine {
        protocol,
        port: reserved.port(),
        key,
    };
    world.reserved_ports.push(reserved);
    start(world);
    await_engine(world).await;
}

#[when("the engine is started again")]
async fn again(world: &mut World) {
    start(world);
    await_engine(world).await;
}

fn attach(world: &mut World, with_key: bool) {
    let (url, protocol, key) = {
        let engine = world.get::<Engine>();
        let url = format!("http://127.0.0.1:{}", engine.port);
        (url, engine.protocol.clone(), engine.key.clone())
    };
    let mut words = ["--engine", &protocol, "--attach", &url]
        .map(str::to_owned)
        .to_vec();
    if with_key {
        let file = world.dir().join("key");
        fs::write(&file, key).unwrap();
        words.extend([
            "--engine-key-file".to_owned(),
            file.to_string_lossy().into_owned(),
        ]);
    }
    workers::start(world, "m", &words);
}

#[given("a worker attached to it, with the key in a file")]
async fn attached(world: &mut World) {
    attach(world, true);
    workers::await_status(world, WorkerStatus::Ready).await;
}

#[when("I attach a worker to it without the key")]
fn attached_without_key(world: &mut World) {
    attach(world, false);
}

#[then(regex = r"^`(.*)` is in no argument and no log of the worker$")]
fn not_shown(world: &mut World, secret: String) {
    let lines = world.processes().into_values();
    let of_worker: Vec<String> = lines
        .filter(|line| line.contains("adapter-worker"))
        .collect();
    assert!(!of_worker.is_empty());
    let worker = &world.running["worker"];
    let shown = of_worker.join("\n") + &worker.stdout() + &worker.stderr();
    assert!(!shown.contains(&secret), "{shown}");
}
