mod hive;
mod in_process;
mod jobs;
mod process;
mod programs;
mod streams;

use std::{fs, path::PathBuf, time::Duration};

use bdd::{Answer, World};
use daemon_shell::ProcessIdentity;
use input_validation::JobId;
use serde_json::Value;
use tokio::{process::Child, task::JoinHandle};
use worker_contract::{StreamEvent, WorkerClient};
use worker_lifecycle::SpawnRecord;

/// What the steps of these features remember beside the shared World.
#[derive(Default)]
pub struct Seen {
    /// How long the last timed action took.
    pub took: Duration,
    /// The job that was accepted last.
    pub job: Option<JobId>,
    /// What the hive's event stream has brought so far.
    pub hive_events: std::sync::Arc<std::sync::Mutex<String>>,
    /// A long answer that streams.
    pub stream: Option<JoinHandle<Vec<StreamEvent>>>,
    /// A call that waits for its answer.
    pub stopping: Option<JoinHandle<Answer>>,
    /// A program that is no worker.
    pub other: Option<Child>,
    /// Ports that this test holds.
    pub held: Vec<std::net::TcpListener>,
}

pub fn token(world: &World) -> String {
    let file = world.home().join("keys/node-local.token");
    fs::read_to_string(file).unwrap().trim().to_owned()
}

pub fn folder(world: &World, id: &str) -> PathBuf {
    world.home().join("run/workers").join(id)
}

/// What `spawn.json` says, read past the hive.
pub fn record(world: &World, id: &str) -> SpawnRecord {
    let bytes = fs::read(folder(world, id).join("spawn.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

pub fn process_of(world: &World, id: &str) -> ProcessIdentity {
    record(world, id).process.expect("it was started")
}

pub fn worker(world: &World, id: &str) -> WorkerClient {
    let url = format!("http://127.0.0.1:{}", record(world, id).port);
    WorkerClient::new(&url, Some(token(world))).unwrap()
}

/// A JSON value as it is written in a table: strings without quotes.
pub fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
