//! A hive that spawns fake workers, or fails as the test sets.

use std::{
    convert::Infallible,
    fs,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use daemon_shell::ProcessIdentity;
use diagnostics::{Code, Diagnostic, ErrorBody, Narration};
use futures_util::{StreamExt as _, stream};
use hive_contract::{
    API_VERSION, JobEvent, SpawnRequest, SpawnResponse, WorkerProcess, WorkerProcessList,
    WorkerState,
};
use input_validation::{NodeName, WorkerId};
use jiff::Timestamp;
use queen_contract::QueenClient;
use serde_json::{Value, json};
use state_files::{DaemonRecord, Home};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::fake_worker::{Behavior, FakeWorker};

#[derive(Debug)]
pub struct FakeHive {
    home: Arc<TempDir>,
    spawns: Mutex<Vec<SpawnRequest>>,
    workers: Mutex<Vec<Arc<FakeWorker>>>,
    /// The error of the next spawns.
    failure: Mutex<Option<Diagnostic>>,
    /// The behavior of the next workers.
    behavior: Mutex<Behavior>,
}

impl FakeHive {
    /// Starts a hive and writes its record to `home`, where a queen finds it.
    pub async fn start(home: Arc<TempDir>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hive = Arc::new(Self {
            home: Arc::clone(&home),
            spawns: Mutex::default(),
            workers: Mutex::default(),
            failure: Mutex::default(),
            behavior: Mutex::new(Behavior::Complete { tokens: 5 }),
        });
        let app = Router::new()
            .route("/v1/health", get(health))
            .route("/v1/models", get(models))
            .route("/v1/capabilities", get(capabilities))
            .route("/v1/workers", get(list))
            .route("/v1/workers/spawn", post(spawn))
            .route("/v1/workers/{id}", get(show).delete(stop))
            .with_state(Arc::clone(&hive));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let home = Home::open(Some(home.path().to_owned())).unwrap();
        DaemonRecord {
            process: ProcessIdentity::own(),
            url,
            version: "0".into(),
            api_version: API_VERSION,
            started_at: Timestamp::now(),
        }
        .write(&home.hive_record())
        .unwrap();
        hive
    }

    pub fn spawns(&self) -> Vec<SpawnRequest> {
        self.spawns.lock().unwrap().clone()
    }

    pub fn last_worker(&self) -> Arc<FakeWorker> {
        Arc::clone(self.workers.lock().unwrap().last().unwrap())
    }

    pub fn fail_spawns(&self, error: Option<Diagnostic>) {
        *self.failure.lock().unwrap() = error;
    }

    pub fn behave(&self, behavior: Behavior) {
        *self.behavior.lock().unwrap() = behavior;
    }

    fn entries(&self) -> Vec<WorkerProcess> {
        let workers = self.workers.lock().unwrap();
        workers
            .iter()
            .map(|worker| {
                let info = worker.info.lock().unwrap().clone();
                let exited = worker.exited.is_cancelled();
                WorkerProcess {
                    worker_id: info.id,
                    generation: info.generation,
                    model: info.model_id,
                    device: info.device,
                    port: info.port,
                    pid: info.pid,
                    state: if exited {
                        WorkerState::Exited
                    } else {
                        WorkerState::Running
                    },
                    started_at: Timestamp::now(),
                    uptime_seconds: 0,
                    rss_bytes: 0,
                    vram_bytes: None,
                    restarts: 0,
                    engine: None,
                    last_exit: exited.then(|| "signal 9".to_owned()),
                    ended_by_itself: exited,
                    part_of: None,
                }
            })
            .collect()
    }
}

async fn health() -> Json<Value> {
    Json(
        json!({"status": "ok", "hive_id": "local", "version": "0", "api_version": API_VERSION,
        "pid": 1}),
    )
}

async fn models() -> Json<Value> {
    Json(
        json!({"models": [{"model": "builtin:haiku", "format": "gguf", "size_bytes": 1,
        "architecture": "llama", "quantization": "F16", "context_length": 512, "parameters": 1}]}),
    )
}

async fn capabilities() -> Json<Value> {
    Json(
        json!({"hostname": "here", "devices": [{"id": "CPU-0", "backend": "cpu", "name": "cpu",
        "memory_total_bytes": 2, "memory_free_bytes": 1}],
        "cpu": {"name": "cpu", "cores": 1, "features": []},
        "ram": {"total_bytes": 2, "available_bytes": 1},
        "disk": {"total_bytes": 2, "free_bytes": 1}, "worker_binaries": []}),
    )
}

async fn list(State(hive): State<Arc<FakeHive>>) -> Json<WorkerProcessList> {
    Json(WorkerProcessList {
        workers: hive.entries(),
    })
}

async fn show(State(hive): State<Arc<FakeHive>>, Path(id): Path<WorkerId>) -> Response {
    let entry = hive.entries().into_iter().rfind(|w| w.worker_id == id);
    entry.map_or_else(
        || {
            let error = Diagnostic::new(Code::WorkerNotFound, "the worker does not exist");
            (StatusCode::NOT_FOUND, Json(ErrorBody::from(error))).into_response()
        },
        |entry| Json(entry).into_response(),
    )
}

async fn stop(State(hive): State<Arc<FakeHive>>, Path(id): Path<WorkerId>) -> StatusCode {
    for worker in hive.workers.lock().unwrap().iter() {
        if worker.info.lock().unwrap().id == id {
            worker.exited.cancel();
        }
    }
    StatusCode::NO_CONTENT
}

async fn spawn(State(hive): State<Arc<FakeHive>>, Json(request): Json<SpawnRequest>) -> Response {
    hive.spawns.lock().unwrap().push(request.clone());
    let narration =
        stream::once(async { JobEvent::Narration(Narration::info("hive", "spawn", "spawning")) });
    let result = stream::once(async move {
        let failure = hive.failure.lock().unwrap().clone();
        if let Some(error) = failure {
            JobEvent::Error(error)
        } else {
            let spawned = start_worker(&hive, &request).await;
            JobEvent::Result(serde_json::to_value(spawned).unwrap())
        }
    });
    let body = narration.chain(result).map(|event| {
        let data = event.data().unwrap();
        Ok::<_, Infallible>(format!("event: {}\ndata: {data}\n\n", event.name()))
    });
    let events = [("content-type", "text/event-stream")];
    (events, Body::from_stream(body)).into_response()
}

/// Starts a worker, which registers with the queen.
async fn start_worker(hive: &Arc<FakeHive>, request: &SpawnRequest) -> SpawnResponse {
    let worker = FakeWorker::start(request.worker_id.as_str(), request.generation.0, 2).await;
    worker.info.lock().unwrap().model_id = request.model.clone();
    worker.behave(hive.behavior.lock().unwrap().clone());
    let token_file = Home::at(hive.home.path()).node_token(&NodeName::local());
    let token = fs::read_to_string(token_file).unwrap();
    let queen = QueenClient::new(&request.queen_url, Some(token)).unwrap();
    queen.heartbeat(&worker.heartbeat()).await.unwrap();
    hive.workers.lock().unwrap().push(Arc::clone(&worker));
    let port = worker.info.lock().unwrap().port;
    SpawnResponse {
        worker_id: request.worker_id.clone(),
        pid: 1,
        port,
        generation: request.generation,
    }
}
