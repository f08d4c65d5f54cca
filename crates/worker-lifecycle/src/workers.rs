use std::{sync::Arc, time::Duration};

use daemon_shell::blocking;
use device_probe::Probe;
use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_contract::{SpawnRequest, SpawnResponse, WorkerProcess};
use hive_jobs::{JobContext, Reporter};
use input_validation::{Generation, WorkerId};
use jiff::Timestamp;
use model_catalog::ModelCatalog;
use state_files::SpawnRecord;
use worker_provisioning::InUse;

use crate::{
    errors::{unusable, worker_not_found},
    host::WorkerHost,
    record::worker_entry,
    settings::LifecycleSettings,
    shutdown::stop_process,
    spawn::Spawner,
};

/// Maximum number of log lines that are returned at once.
const LOG_LINES_LIMIT: usize = 10_000;

/// The workers of this machine.
pub struct Workers {
    host: Arc<WorkerHost>,
    spawner: Spawner,
}

impl Workers {
    /// Opens the run directory. `node_events` receives what belongs to no single call: the exit
    /// of a worker, a damaged spawn record.
    pub fn open(
        settings: LifecycleSettings,
        catalog: Arc<ModelCatalog>,
        probe: Arc<dyn Probe>,
        node_events: Reporter,
    ) -> Result<Arc<Self>, Diagnostic> {
        let host = Arc::new(WorkerHost::open(settings, node_events)?);
        let spawner = Spawner::new(Arc::clone(&host), catalog, probe);
        Ok(Arc::new(Self { host, spawner }))
    }

    /// Spawns a worker. Returns when it listens or, with `wait_ready`, when it can serve
    /// requests. When the job is cancelled, the process is killed and the error is `CANCELLED`.
    /// Dropping the future leaves the process running.
    pub async fn spawn(
        &self,
        request: SpawnRequest,
        context: &JobContext,
    ) -> Result<SpawnResponse, Diagnostic> {
        self.spawner.spawn(request, context).await
    }

    /// All workers by id, according to the spawn records and the process table.
    pub async fn list(&self) -> Result<Vec<WorkerProcess>, Diagnostic> {
        let now = Timestamp::now();
        let records = self.records().await?;
        Ok(records.iter().map(|r| worker_entry(r, now)).collect())
    }

    /// The programs of the running workers: their own, and the engines that they start.
    pub async fn programs(&self) -> Result<InUse, Diagnostic> {
        let records = self.records().await?.into_iter();
        let running = records.filter(|record| record.running().is_some());
        let programs = running.flat_map(|record| {
            let paths = record.argv.into_iter().filter(|word| word.starts_with('/'));
            paths.map(move |path| (record.worker_id.clone(), path.into()))
        });
        Ok(programs.collect())
    }

    /// One worker. `WORKER_NOT_FOUND` if none was ever spawned under this id.
    pub async fn get(&self, id: &WorkerId) -> Result<WorkerProcess, Diagnostic> {
        Ok(worker_entry(&self.record(id).await?, Timestamp::now()))
    }

    /// The last lines of a worker's log, at most 10 000, escaped, each ending in a newline.
    pub async fn logs(&self, id: &WorkerId, lines: usize) -> Result<String, Diagnostic> {
        self.record(id).await?;
        let log = self.host.runs.log(id);
        blocking(move || {
            let lines = log
                .tail(lines.min(LOG_LINES_LIMIT))
                .map_err(|e| unusable(&log.path(), &e))?;
            Ok(lines.into_iter().map(|line| line + "\n").collect())
        })
        .await
    }

    /// Stops a worker and returns when its process is gone. The worker drains for `drain`, or
    /// the limit in the settings; then it gets SIGTERM, then SIGKILL. Succeeds if the process
    /// is already gone, or if it is of a later generation than `highest`, which keeps running.
    pub async fn stop(
        &self,
        id: &WorkerId,
        highest: Option<Generation>,
        drain: Option<Duration>,
    ) -> Result<(), Diagnostic> {
        let record = self.record(id).await?;
        if highest.is_some_and(|highest| record.generation > highest) {
            return Ok(());
        }
        self.stop_record(&record, drain, "stopped on request").await
    }

    /// Stops all workers in parallel, each as [`stop`](Self::stop) does. A failure does not
    /// keep the others from being stopped; the first one is returned.
    pub async fn stop_all(&self, drain: Option<Duration>) -> Result<(), Diagnostic> {
        let records = self.records().await?;
        let stops = records
            .iter()
            .map(|record| self.stop_record(record, drain, "stopped with the hive"));
        join_all(stops).await.into_iter().collect()
    }

    async fn stop_record(
        &self,
        record: &SpawnRecord,
        drain: Option<Duration>,
        cause: &str,
    ) -> Result<(), Diagnostic> {
        let host = &self.host;
        match record.running() {
            Some(process) => {
                stop_process(host, record, process, drain, cause, &host.node_events).await
            }
            None => Ok(()),
        }
    }

    async fn record(&self, id: &WorkerId) -> Result<SpawnRecord, Diagnostic> {
        let record = self.host.read(id).await?;
        record.ok_or_else(|| worker_not_found(id))
    }

    async fn records(&self) -> Result<Vec<SpawnRecord>, Diagnostic> {
        let runs = Arc::clone(&self.host.runs);
        blocking(move || runs.all()).await
    }
}
