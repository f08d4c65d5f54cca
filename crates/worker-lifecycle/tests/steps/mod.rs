mod hive;
mod in_process;
mod jobs;
mod process;
mod programs;
mod streams;

use std::time::Duration;

use bdd::{Answer, World};
use daemon_shell::ProcessIdentity;
use input_validation::JobId;
use serde_json::Value;
use state_files::{SpawnRecord, WorkerDir};
use tokio::{process::Child, task::JoinHandle};
use worker_contract::{StreamEvent, WorkerClient};

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
    world.node_token()
}

pub fn worker_dir(world: &World, id: &str) -> WorkerDir {
    world.files().worker_dirs().of(&id.parse().unwrap())
}

/// The spawn record, read without the hive.
pub fn record(world: &World, id: &str) -> SpawnRecord {
    let stored = SpawnRecord::read(&worker_dir(world, id)).unwrap();
    stored.intact().expect("an intact spawn record")
}

pub fn process_of(world: &World, id: &str) -> ProcessIdentity {
    record(world, id).process.expect("it was started")
}

pub fn worker(world: &World, id: &str) -> WorkerClient {
    let url = worker_lifecycle::worker_url(record(world, id).port);
    WorkerClient::new(&url, Some(token(world))).unwrap()
}

/// A JSON value as it is written in a table: strings without quotes.
pub fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
