use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use daemon_shell::Token;
use diagnostics::{Code, Diagnostic};
use futures_util::future::join_all;
use hive_contract::WorkerEntry;
use hive_jobs::Reporter;
use input_validation::{NodeName, WorkerId};
use jiff::Timestamp;
use model_catalog::ModelCatalog;
use state_files::{SpawnRecord, WorkerDirs};
use tokio::sync::watch;
use worker_contract::WorkerClient;

use crate::{
    Exit, PortRange, Ports, Probe, StartLimits, StopLimits, WorkerBinaries,
    record::worker_entry,
    run_dir::{RunDir, unusable},
};

/// Most lines of a log that are told at once.
const LOG_LINES_LIMIT: usize = 10_000;

/// How workers are run on this machine.
#[derive(Debug)]
pub struct Settings {
    /// The node's name, told to each worker.
    pub hive_id: NodeName,
    /// The workers' directories.
    pub runs: WorkerDirs,
    /// The worker programs.
    pub binaries: WorkerBinaries,
    /// Where workers may listen.
    pub ports: PortRange,
    /// The node's token, for calls to workers.
    pub token: Token,
    /// Its file, handed to workers by environment.
    pub token_file: PathBuf,
    /// How long a start may take.
    pub start_limits: StartLimits,
    /// How long a stop may take.
    pub stop_limits: StopLimits,
}

/// The workers of this machine.
pub struct Workers {
    pub(crate) settings: Settings,
    pub(crate) runs: Arc<RunDir>,
    pub(crate) catalog: Arc<ModelCatalog>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) ports: Ports,
    pub(crate) tell: Reporter,
    // Only held while a spawn of that name is under way.
    names: Mutex<HashMap<WorkerId, Weak<tokio::sync::Mutex<()>>>>,
    // How the last process of that name ended, once its reaper has noted it.
    exits: Mutex<HashMap<WorkerId, watch::Receiver<Option<Exit>>>>,
}

impl Workers {
    /// Opens the run directory. `tell` hears of what belongs to no single call: the end of
    /// a worker, a record that cannot be read.
    pub fn open(
        settings: Settings,
        catalog: Arc<ModelCatalog>,
        probe: Arc<dyn Probe>,
        tell: Reporter,
    ) -> Result<Arc<Self>, Diagnostic> {
        let runs = RunDir::open(settings.runs.clone(), tell.clone())?;
        Ok(Arc::new(Self {
            ports: Ports::new(settings.ports),
            runs: Arc::new(runs),
            settings,
            catalog,
            probe,
            tell,
            names: Mutex::default(),
            exits: Mutex::default(),
        }))
    }

    /// Every worker, by name, from the run directory and the process table.
    pub async fn list(&self) -> Result<Vec<WorkerEntry>, Diagnostic> {
        let runs = Arc::clone(&self.runs);
        blocking(move || {
            let now = Timestamp::now();
            Ok(runs
                .all()?
                .iter()
                .map(|record| worker_entry(record, now))
                .collect())
        })
        .await
    }

    /// One worker; `WORKER_NOT_FOUND` when there never was one of this name.
    pub async fn get(&self, id: &WorkerId) -> Result<WorkerEntry, Diagnostic> {
        Ok(worker_entry(&self.record(id).await?, Timestamp::now()))
    }

    /// The last lines of a worker's log, at most 10 000, escaped, each ending in a newline.
    pub async fn logs(&self, id: &WorkerId, lines: usize) -> Result<String, Diagnostic> {
        self.record(id).await?;
        let log = self.runs.log(id);
        blocking(move || {
            let lines = log
                .tail(lines.min(LOG_LINES_LIMIT))
                .map_err(|e| unusable(&log.path(), &e))?;
            Ok(lines.into_iter().map(|line| line + "\n").collect())
        })
        .await
    }

    /// Stops a worker and returns when its process is gone: it may finish what runs for
    /// `drain` (`None`: as the settings say), then SIGTERM, then SIGKILL. One that is gone
    /// already counts as stopped.
    pub async fn stop(&self, id: &WorkerId, drain: Option<Duration>) -> Result<(), Diagnostic> {
        let record = self.record(id).await?;
        match record.running() {
            Some(process) => {
                self.stop_process(&record, process, drain, "stopped on request", &self.tell)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Stops all workers in parallel, each as [`stop`](Self::stop) does. All are tried; the
    /// first failure is told.
    pub async fn stop_all(&self, drain: Option<Duration>) -> Result<(), Diagnostic> {
        let runs = Arc::clone(&self.runs);
        let records = blocking(move || runs.all()).await?;
        let stops = records.iter().filter_map(|record| {
            let process = record.running()?;
            Some(self.stop_process(record, process, drain, "stopped with the hive", &self.tell))
        });
        join_all(stops).await.into_iter().collect()
    }

    async fn record(&self, id: &WorkerId) -> Result<SpawnRecord, Diagnostic> {
        let (runs, name) = (Arc::clone(&self.runs), id.clone());
        blocking(move || runs.read(&name)).await?.ok_or_else(|| {
            Diagnostic::new(Code::WorkerNotFound, format!("no worker {id} on this node"))
                .hint("list the workers with `rbee-keeper worker list`")
        })
    }

    /// A client of the worker on this port.
    pub(crate) fn client(&self, port: u16) -> Result<WorkerClient, Diagnostic> {
        let token = self.settings.token.expose().to_owned();
        WorkerClient::new(&format!("http://127.0.0.1:{port}"), Some(token))
    }

    /// From now on this tells how the process of that name ends.
    pub(crate) fn keep_exit(&self, id: &WorkerId, exit: watch::Receiver<Option<Exit>>) {
        let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
        exits.retain(|_, exit| exit.borrow().is_none());
        exits.insert(id.clone(), exit);
    }

    /// Waits until the reaper has noted the end of a process that is gone; at once when it
    /// was no child of this hive.
    pub(crate) async fn reaped(&self, id: &WorkerId) {
        let exits = || self.exits.lock().unwrap_or_else(PoisonError::into_inner);
        let exit = exits().get(id).cloned();
        if let Some(mut exit) = exit {
            // A reaper that broke notes nothing more.
            let _ = exit.wait_for(Option::is_some).await;
        }
    }

    /// The lock under which workers of this name are started, one at a time.
    pub(crate) fn name_lock(&self, id: &WorkerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = names.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        names.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }
}

/// Runs what blocks on the disk away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Diagnostic> + Send + 'static,
) -> Result<T, Diagnostic> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Diagnostic::internal(format!("a blocking task broke: {e}"))),
    }
}
