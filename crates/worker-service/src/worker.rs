use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use daemon_shell::ProcessIdentity;
use diagnostics::Diagnostic;
use inference_execution::Runtime;
use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use worker_contract::{Capability, KvCacheUse, LoadProgress, WorkerInfo, WorkerStatus};

use crate::errors;

/// Identity and fixed properties of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    pub id: WorkerId,
    /// Generation of the worker: each spawn with the same id has a higher one.
    pub generation: Generation,
    pub hive_id: NodeName,
    /// Model reference that clients use.
    pub model: ModelRef,
    pub device: DeviceId,
    pub port: u16,
    /// Name of the engine, such as `rbee-candle`.
    pub implementation: String,
    pub version: String,
    /// Maximum number of running requests, reported while the model loads.
    pub slots: u32,
}

/// The state of a worker, shared by the HTTP handlers. Clones refer to the same worker.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    config: WorkerConfig,
    /// Absent while the model loads.
    runtime: OnceLock<Runtime>,
    loaded_bytes: AtomicU64,
    total_bytes: AtomicU64,
    stopped: AtomicBool,
    shutdown: CancellationToken,
    /// Incremented when the model is loaded and when the worker stops.
    changes: watch::Sender<u64>,
    first_token_seconds: Histogram,
}

impl Worker {
    /// Returns a worker whose model is loading.
    pub fn loading(config: WorkerConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            runtime: OnceLock::new(),
            loaded_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            shutdown: CancellationToken::new(),
            changes: watch::Sender::new(0),
            // 1 ms to 65 s.
            first_token_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
        }))
    }

    /// Returns a worker whose model is loaded.
    pub fn serving(config: WorkerConfig, runtime: Runtime) -> Self {
        let worker = Self::loading(config);
        worker.set_loaded(runtime);
        worker
    }

    /// Sets the runtime of the loaded model. Only the first call has an effect.
    pub fn set_loaded(&self, runtime: Runtime) {
        let _ = self.0.runtime.set(runtime);
        self.notify();
    }

    /// Sets the progress of loading, in bytes.
    pub fn set_load_progress(&self, done: u64, total: u64) {
        self.0.loaded_bytes.store(done, SeqCst);
        self.0.total_bytes.store(total, SeqCst);
    }

    pub fn config(&self) -> &WorkerConfig {
        &self.0.config
    }

    /// Returns the runtime.
    ///
    /// Errors: `NOT_READY` with the progress while the model loads.
    pub fn runtime(&self) -> Result<&Runtime, Diagnostic> {
        self.0
            .runtime
            .get()
            .ok_or_else(|| errors::not_ready(self.load_progress()))
    }

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

    pub fn load_progress(&self) -> LoadProgress {
        LoadProgress {
            done: self.0.loaded_bytes.load(SeqCst),
            total: self.0.total_bytes.load(SeqCst),
        }
    }

    /// Returns the state that heartbeats and `/info` report.
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
            sampling: runtime.map_or_else(Default::default, |r| r.description().sampling.clone()),
            memory_bytes: process.rss_bytes().unwrap_or(0),
            kv_cache: status.map_or(KvCacheUse::default(), |s| s.kv_cache),
            prefix_digest: None,
            last_step_ms: runtime
                .and_then(Runtime::since_last_step)
                .map(|since| since.as_millis() as u64),
        }
    }

    /// Returns the capabilities. Those that depend on the model are missing while it loads.
    fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = vec![
            Capability::Stream,
            Capability::Continue,
            Capability::Logprobs,
            Capability::Tokenize,
        ];
        let Some(runtime) = self.0.runtime.get() else {
            return capabilities;
        };
        if runtime.codec().tool_format().is_some() {
            capabilities.push(Capability::Tools);
        }
        // A constrained output needs an end token to end.
        if !runtime.codec().end_tokens().is_empty() {
            capabilities.push(Capability::Constraints);
        }
        if runtime.computes_embeddings() {
            capabilities.push(Capability::Embed);
        }
        capabilities
    }

    /// Refuses new requests from now on. A worker whose model is loading shuts down instead,
    /// because it has no requests to finish.
    pub fn drain(&self) {
        match self.0.runtime.get() {
            Some(runtime) => runtime.drain(),
            None => self.0.shutdown.cancel(),
        }
    }

    /// Returns the token that is cancelled when the worker is asked to shut down.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Sets the status to stopped; the process is about to exit.
    pub(crate) fn set_stopped(&self) {
        self.0.stopped.store(true, SeqCst);
        self.notify();
    }

    fn notify(&self) {
        self.0.changes.send_modify(|version| *version += 1);
    }

    /// Waits until the status differs from `last`. Changes that are reverted in between can be
    /// missed.
    pub(crate) async fn status_changed(&self, last: WorkerStatus) {
        let mut changes = self.0.changes.subscribe();
        loop {
            let mut runtime_changes = self.0.runtime.get().map(Runtime::changes);
            if self.status() != last {
                return;
            }
            let runtime_changed = async {
                match &mut runtime_changes {
                    Some(changes) => changes.changed().await,
                    None => std::future::pending().await,
                }
            };
            // Neither channel can close, because this worker holds both senders.
            tokio::select! {
                _ = changes.changed() => {}
                _ = runtime_changed => {}
            }
        }
    }

    pub(crate) fn first_token_seconds(&self) -> &Histogram {
        &self.0.first_token_seconds
    }
}
