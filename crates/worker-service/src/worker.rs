use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use daemon_shell::ProcessIdentity;
use diagnostics::{Code, Diagnostic};
use inference_execution::Runtime;
use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use worker_contract::{Capability, KvCacheUse, LoadProgress, WorkerInfo, WorkerStatus};

/// Who a worker is; nothing here changes while it runs.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name.
    pub id: WorkerId,
    /// Which spawn of this name it is.
    pub generation: Generation,
    /// The node it runs on.
    pub hive_id: NodeName,
    /// The model as clients name it.
    pub model: ModelRef,
    /// Where it computes.
    pub device: DeviceId,
    /// Where it listens.
    pub port: u16,
    /// The engine: `rbee-candle`.
    pub implementation: String,
    /// The program's version.
    pub version: String,
    /// Requests it will run at once, told while it loads.
    pub slots: u32,
}

/// A worker as its HTTP interface sees it. Clones are the same worker.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    config: WorkerConfig,
    /// Absent while the model is loaded.
    runtime: OnceLock<Runtime>,
    loaded: AtomicU64,
    to_load: AtomicU64,
    stopped: AtomicBool,
    shutdown: CancellationToken,
    changes: watch::Sender<u64>,
    first_token_seconds: Histogram,
}

impl Worker {
    /// A worker that loads its model.
    pub fn loading(config: WorkerConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            runtime: OnceLock::new(),
            loaded: AtomicU64::new(0),
            to_load: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            shutdown: CancellationToken::new(),
            changes: watch::Sender::new(0),
            // 1 ms to 65 s.
            first_token_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
        }))
    }

    /// A worker that can infer.
    pub fn serving(config: WorkerConfig, runtime: Runtime) -> Self {
        let worker = Self::loading(config);
        worker.loaded(runtime);
        worker
    }

    /// The model is loaded; only the first call counts.
    pub fn loaded(&self, runtime: Runtime) {
        let _ = self.0.runtime.set(runtime);
        self.changed();
    }

    /// Loading came this far, in bytes.
    pub fn progress(&self, done: u64, total: u64) {
        self.0.loaded.store(done, SeqCst);
        self.0.to_load.store(total, SeqCst);
    }

    /// Who it is.
    pub fn config(&self) -> &WorkerConfig {
        &self.0.config
    }

    /// The running engine, or `NOT_READY` with how far loading is.
    pub fn runtime(&self) -> Result<&Runtime, Diagnostic> {
        self.0.runtime.get().ok_or_else(|| {
            let LoadProgress { done, total } = self.load_progress();
            Diagnostic::new(
                Code::NotReady,
                format!("the model is being loaded: {done} of {total} bytes"),
            )
            .hint("try again when `GET /ready` answers 200")
            .detail("done_bytes", done)
            .detail("total_bytes", total)
            .detail("retry_after_seconds", 1)
        })
    }

    /// What it is doing.
    pub fn status(&self) -> WorkerStatus {
        if self.0.stopped.load(SeqCst) {
            return WorkerStatus::Stopped;
        }
        let Some(runtime) = self.0.runtime.get() else {
            return WorkerStatus::Starting;
        };
        let status = runtime.status();
        if status.draining {
            WorkerStatus::Draining
        } else if status.slots_free == 0 {
            WorkerStatus::Busy
        } else {
            WorkerStatus::Ready
        }
    }

    /// How far loading is.
    pub fn load_progress(&self) -> LoadProgress {
        LoadProgress {
            done: self.0.loaded.load(SeqCst),
            total: self.0.to_load.load(SeqCst),
        }
    }

    /// Everything that a queen wants to know.
    pub fn info(&self) -> WorkerInfo {
        let config = self.config();
        let runtime = self.0.runtime.get();
        let status = runtime.map(Runtime::status);
        let process = ProcessIdentity::own();
        WorkerInfo {
            id: config.id.clone(),
            generation: config.generation,
            hive_id: config.hive_id.clone(),
            model_id: config.model.clone(),
            device: config.device,
            port: config.port,
            pid: process.pid,
            status: self.status(),
            implementation: config.implementation.clone(),
            version: config.version.clone(),
            capabilities: self.capabilities(),
            slots_total: status.map_or(config.slots, |s| s.slots_total),
            slots_free: status.map_or(0, |s| if s.draining { 0 } else { s.slots_free }),
            queue_depth: status.map_or(0, |s| s.queue_depth),
            context_length: runtime.map_or(0, Runtime::context_length),
            memory_bytes: process.rss_bytes().unwrap_or(0),
            kv_cache: status.map_or(KvCacheUse::default(), |s| s.kv_cache),
            prefix_digest: None,
            last_step_ms: runtime
                .and_then(Runtime::since_last_step)
                .map(|since| since.as_millis() as u64),
        }
    }

    /// What it can do; what depends on the model is known once that is loaded.
    fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = vec![
            Capability::Stream,
            Capability::Continue,
            Capability::Logprobs,
            Capability::Tokenize,
        ];
        let runtime = self.0.runtime.get();
        if runtime.is_some_and(|r| r.codec().tool_style().is_some()) {
            capabilities.push(Capability::Tools);
        }
        // Without an end token a constrained answer could not end.
        if runtime.is_some_and(|r| !r.codec().end_tokens().is_empty()) {
            capabilities.push(Capability::Constraints);
        }
        if runtime.is_some_and(Runtime::computes_embeddings) {
            capabilities.push(Capability::Embed);
        }
        capabilities
    }

    /// Takes nothing new from now on. A worker that still loads is asked to shut down
    /// instead, since it has nothing to finish.
    pub fn drain(&self) {
        match self.0.runtime.get() {
            Some(runtime) => runtime.drain(),
            None => self.0.shutdown.cancel(),
        }
    }

    /// Cancelled when somebody asked the worker to shut down.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// The process is about to end.
    pub(crate) fn stopped(&self) {
        self.0.stopped.store(true, SeqCst);
        self.changed();
    }

    fn changed(&self) {
        self.0.changes.send_modify(|version| *version += 1);
    }

    /// Resolves when the status is another one than `last`. What comes and goes in between
    /// is not seen.
    pub async fn status_other_than(&self, last: WorkerStatus) {
        let mut own = self.0.changes.subscribe();
        loop {
            let mut runtime = self.0.runtime.get().map(Runtime::changes);
            if self.status() != last {
                return;
            }
            let of_runtime = async {
                match &mut runtime {
                    Some(changes) => changes.changed().await,
                    None => std::future::pending().await,
                }
            };
            // Neither sender can be gone: this worker holds both.
            tokio::select! {
                _ = own.changed() => {}
                _ = of_runtime => {}
            }
        }
    }

    pub(crate) fn first_token_seconds(&self) -> &Histogram {
        &self.0.first_token_seconds
    }
}
