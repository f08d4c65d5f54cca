use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use daemon_shell::ProcessIdentity;
use diagnostics::Diagnostic;
use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use worker_contract::{Capability, KvCacheUse, LoadProgress, WorkerInfo, WorkerStatus};

use crate::{ModelService, errors, model_service::SharedService};

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
    service: OnceLock<SharedService>,
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
            service: OnceLock::new(),
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
    pub fn serving(config: WorkerConfig, service: impl ModelService + 'static) -> Self {
        let worker = Self::loading(config);
        worker.set_loaded(Arc::new(service));
        worker
    }

    /// Sets the loaded model. Only the first call has an effect.
    pub fn set_loaded(&self, service: SharedService) {
        let _ = self.0.service.set(service);
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

    /// Returns the loaded model.
    ///
    /// Errors: `NOT_READY` with the progress while the model loads.
    pub fn service(&self) -> Result<&SharedService, Diagnostic> {
        self.0
            .service
            .get()
            .ok_or_else(|| errors::not_ready(self.load_progress()))
    }

    pub fn status(&self) -> WorkerStatus {
        if self.0.stopped.load(SeqCst) {
            return WorkerStatus::Stopped;
        }
        let Some(service) = self.0.service.get() else {
            return WorkerStatus::Starting;
        };
        let status = service.status();
        if status.draining {
            WorkerStatus::Draining
        } else if !service.is_available() {
            WorkerStatus::Starting
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
        let service = self.0.service.get();
        let status = service.map(|s| s.status());
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
            slots_free: status.map_or(0, |s| {
                let serves = !s.draining && service.is_some_and(|s| s.is_available());
                if serves { s.slots_free } else { 0 }
            }),
            queue_depth: status.map_or(0, |s| s.queue_depth),
            context_length: service.map_or(0, |s| s.context_length()),
            sampling: service.map_or_else(Default::default, |s| s.sampling()),
            memory_bytes: process.rss_bytes().unwrap_or(0)
                + service.map_or(0, |s| s.engine_memory_bytes()),
            kv_cache: status.map_or(KvCacheUse::default(), |s| s.kv_cache),
            prefix_digest: None,
            last_step_ms: service
                .and_then(|s| s.since_last_step())
                .map(|since| since.as_millis() as u64),
        }
    }

    /// Returns the capabilities, which are known when the model is loaded.
    fn capabilities(&self) -> Vec<Capability> {
        let service = self.0.service.get();
        service.map_or_else(|| vec![Capability::Stream], |s| s.capabilities())
    }

    /// Refuses new requests from now on. A worker whose model is loading shuts down instead,
    /// because it has no requests to finish.
    pub fn drain(&self) {
        match self.0.service.get() {
            Some(service) => service.drain(),
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
            let mut service_changes = self.0.service.get().map(|s| s.changes());
            if self.status() != last {
                return;
            }
            let service_changed = async {
                match &mut service_changes {
                    Some(changes) => changes.changed().await,
                    None => std::future::pending().await,
                }
            };
            // Neither channel can close, because this worker holds both senders.
            tokio::select! {
                _ = changes.changed() => {}
                _ = service_changed => {}
            }
        }
    }

    pub(crate) fn first_token_seconds(&self) -> &Histogram {
        &self.0.first_token_seconds
    }
}
