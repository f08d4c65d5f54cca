use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use cluster::Cluster;
use daemon_shell::Token;
use input_validation::{Generation, NodeName};
use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval_at},
};
use worker_contract::{KvCacheUse, SamplingValues, WorkerHeartbeat, WorkerInfo, WorkerStatus};

use super::hives::Hive;

/// Time between the heartbeats of a worker.
const INTERVAL: Duration = Duration::from_secs(5);
/// Models that the workers serve.
const MODELS: u32 = 100;

/// The state of worker `number` on a node.
pub fn info(number: u32, node: &NodeName) -> Result<WorkerInfo> {
    Ok(WorkerInfo {
        id: format!("worker-{number}").parse()?,
        generation: Generation(1),
        hive_id: node.clone(),
        model_id: model(number).parse()?,
        device: "CPU-0".parse()?,
        port: u16::try_from(10_000 + number % 50_000)?,
        pid: number + 2,
        status: WorkerStatus::Ready,
        implementation: "rbee-candle".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: Vec::new(),
        slots_total: 8,
        slots_free: 8,
        queue_depth: 0,
        context_length: 8192,
        sampling: SamplingValues::default(),
        memory_bytes: 1 << 30,
        kv_cache: KvCacheUse {
            total: 65_536,
            used: 0,
        },
        prefix_digest: None,
        last_step_ms: None,
    })
}

/// The model of worker `number`.
pub fn model(number: u32) -> String {
    format!("hf:org/model-{}:Q8_0", number % MODELS)
}

/// Workers that send heartbeats until this is dropped.
pub struct Workers {
    _tasks: JoinSet<()>,
    sent: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Workers {
    /// Starts `count` workers whose heartbeats are spread evenly over the interval.
    pub async fn start(queen: &Cluster, hives: &[Hive], count: u32) -> Result<Self> {
        let address = queen.client.base().trim_start_matches("http://").to_owned();
        let address: Arc<str> = address.trim_end_matches('/').into();
        let (sent, failure) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let mut tasks = JoinSet::new();
        let begin = Instant::now();
        for (number, hive) in (0..count).zip(hives.iter().cycle()) {
            let sender = Sender {
                address: Arc::clone(&address),
                authorization: authorization(&hive.token),
                heartbeat: WorkerHeartbeat {
                    worker: info(number, &hive.name)?,
                    timestamp: Timestamp::now(),
                    sequence: 0,
                },
                sent: Arc::clone(&sent),
            };
            let (first, failure) = (begin + INTERVAL * number / count, Arc::clone(&failure));
            tasks.spawn(async move {
                if let Err(error) = sender.run(first).await {
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert_with(|| format!("{error:#}"));
                }
            });
        }
        tokio::time::sleep(INTERVAL).await;
        let workers = Self {
            _tasks: tasks,
            sent,
            failure,
        };
        workers.check()?;
        Ok(workers)
    }

    /// Number of heartbeats that the queen has accepted.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Fails if a worker has failed.
    pub fn check(&self) -> Result<()> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            Some(failure) => bail!("a worker: {failure}"),
            None => Ok(()),
        }
    }
}

fn authorization(token: &Token) -> String {
    format!("authorization: Bearer {}\r\n", token.expose())
}

struct Sender {
    address: Arc<str>,
    authorization: String,
    heartbeat: WorkerHeartbeat,
    sent: Arc<AtomicU64>,
}

impl Sender {
    /// Sends heartbeats over one connection.
    async fn run(mut self, first: Instant) -> Result<()> {
        let mut interval = interval_at(first, INTERVAL);
        let mut connection = None;
        let mut response = vec![0; 4096];
        loop {
            interval.tick().await;
            let connection = match &mut connection {
                Some(connection) => connection,
                None => connection.insert(TcpStream::connect(&*self.address).await?),
            };
            let body = serde_json::to_vec(&self.heartbeat)?;
            let mut request = format!(
                "POST /v1/worker-heartbeats HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                self.address,
                self.authorization,
                body.len()
            )
            .into_bytes();
            request.extend(body);
            connection.write_all(&request).await?;
            let read = connection.read(&mut response).await?;
            let text = String::from_utf8_lossy(response.get(..read).context("too long")?);
            ensure!(text.starts_with("HTTP/1.1 204 "), "{text}");
            self.sent.fetch_add(1, Ordering::Relaxed);
            self.heartbeat.sequence += 1;
        }
    }
}
