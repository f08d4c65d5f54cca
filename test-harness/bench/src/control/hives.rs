use std::sync::Arc;

use anyhow::Result;
use axum::{Json, Router, extract::State, routing::get};
use cluster::Cluster;
use daemon_shell::Token;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hive_contract::{
    API_VERSION, Capabilities, Cpu, Device, Disk, HiveHealth, InstalledModelList, Ram,
    WorkerProcessList,
};
use input_validation::{Backend, DeviceId, NodeName};
use tokio::net::TcpListener;

/// Memory of each machine, in bytes.
const MEMORY: u64 = 64 << 30;
/// Nodes that are added at the same time.
const AT_ONCE: usize = 16;

/// A simulated hive.
pub struct Hive {
    pub name: NodeName,
    pub token: Token,
    url: String,
}

/// Starts hives, each with a port of its own.
pub async fn start(count: u32) -> Result<Vec<Hive>> {
    let mut hives = Vec::new();
    for number in 0..count {
        let name: NodeName = format!("node-{number}").parse()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        hives.push(Hive {
            name: name.clone(),
            token: Token::generate()?,
            url: format!("http://{}", listener.local_addr()?),
        });
        let router = Router::new()
            .route("/v1/health", get(health))
            .route("/v1/capabilities", get(capabilities))
            .route("/v1/models", get(models))
            .route("/v1/workers", get(workers))
            .with_state(Arc::new(name));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    Ok(hives)
}

/// Adds the hives to the queen.
pub async fn add(queen: &Cluster, hives: &[Hive]) -> Result<()> {
    stream::iter(hives)
        .map(|hive| queen.add_url(&hive.name, &hive.token, &hive.url))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn health(State(name): State<Arc<NodeName>>) -> Json<HiveHealth> {
    Json(HiveHealth {
        status: "ok".to_owned(),
        hive_id: NodeName::clone(&name),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API_VERSION,
        pid: std::process::id(),
    })
}

async fn capabilities(State(name): State<Arc<NodeName>>) -> Json<Capabilities> {
    Json(Capabilities {
        hostname: name.to_string(),
        devices: vec![Device {
            id: DeviceId::Cpu(0),
            backend: Backend::Cpu,
            name: "simulated".to_owned(),
            memory_total_bytes: MEMORY,
            memory_free_bytes: MEMORY,
            driver: None,
            compute_capability: None,
            processes: Vec::new(),
        }],
        cpu: Cpu {
            name: "simulated".to_owned(),
            cores: 16,
            features: Vec::new(),
        },
        ram: Ram {
            total_bytes: MEMORY,
            available_bytes: MEMORY,
        },
        disk: Disk {
            total_bytes: MEMORY,
            free_bytes: MEMORY,
        },
        problems: Vec::new(),
        worker_binaries: vec!["llm-cpu-worker-rbee".to_owned()],
        engines: Vec::new(),
        power: hive_contract::Power::default(),
    })
}

async fn models() -> Json<InstalledModelList> {
    Json(InstalledModelList {
        models: Vec::new(),
        aliases: Vec::new(),
        notices: Vec::new(),
    })
}

async fn workers() -> Json<WorkerProcessList> {
    Json(WorkerProcessList {
        workers: Vec::new(),
    })
}
