use std::sync::Arc;

use daemon_shell::blocking;
use diagnostics::Diagnostic;
use hive_jobs::Reporter;
use input_validation::WorkerId;
use state_files::SpawnRecord;
use worker_contract::WorkerClient;

use crate::{exit_table::ExitTable, run_dir::RunDir, settings::LifecycleSettings};

/// Base URL of the worker of this machine that listens on `port`.
pub fn worker_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// State that all operations on workers share.
pub(crate) struct WorkerHost {
    pub settings: LifecycleSettings,
    pub runs: Arc<RunDir>,
    pub exits: ExitTable,
    /// Receives what belongs to no single call: exits, damaged records.
    pub node_events: Reporter,
}

impl WorkerHost {
    /// Opens the run directory.
    pub fn open(settings: LifecycleSettings, node_events: Reporter) -> Result<Self, Diagnostic> {
        let runs = RunDir::open(settings.runs.clone(), node_events.clone())?;
        Ok(Self {
            settings,
            runs: Arc::new(runs),
            exits: ExitTable::default(),
            node_events,
        })
    }

    /// A client of the worker on this port.
    pub fn client(&self, port: u16) -> Result<WorkerClient, Diagnostic> {
        let token = self.settings.token.expose().to_owned();
        WorkerClient::new(&worker_url(port), Some(token))
    }

    /// [`RunDir::read`].
    pub async fn read(&self, id: &WorkerId) -> Result<Option<SpawnRecord>, Diagnostic> {
        let (runs, id) = (Arc::clone(&self.runs), id.clone());
        blocking(move || runs.read(&id)).await
    }

    /// [`RunDir::update`].
    pub async fn update(
        &self,
        spawn: &SpawnRecord,
        change: impl FnOnce(&mut SpawnRecord) + Send + 'static,
    ) -> Result<Option<SpawnRecord>, Diagnostic> {
        let (runs, spawn) = (Arc::clone(&self.runs), spawn.clone());
        blocking(move || runs.update(&spawn, change)).await
    }
}
