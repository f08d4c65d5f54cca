mod hive;
mod in_process;
mod jobs;
mod process;
mod programs;
mod streams;

use std::time::Duration;

use bdd::{HttpResponse, World};
use daemon_shell::ProcessIdentity;
use input_validation::JobId;
use serde_json::Value;
use state_files::{SpawnRecord, WorkerDir};
use tokio::{process::Child, sync::oneshot};
use worker_contract::{StreamEvent, WorkerClient};

/// State of these steps in addition to the shared World.
#[derive(Default)]
pub struct State {
    /// Duration of the last timed action.
    pub took: Duration,
    /// The job that was accepted last.
    pub job: Option<JobId>,
    /// The hive's event stream so far.
    pub hive_events: std::sync::Arc<std::sync::Mutex<String>>,
    /// All events of a long completion, once it has ended.
    pub completion: Option<oneshot::Receiver<Vec<StreamEvent>>>,
    /// The response to a stop request.
    pub stop: Option<oneshot::Receiver<HttpResponse>>,
    /// A process that is not a worker.
    pub other: Option<Child>,
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
    record(world, id).process.expect("the worker was started")
}

pub fn worker(world: &World, id: &str) -> WorkerClient {
    let url = worker_lifecycle::worker_url(record(world, id).port);
    WorkerClient::new(&url, Some(world.node_token())).unwrap()
}

/// A JSON value as written in a table: strings without quotes.
pub fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
