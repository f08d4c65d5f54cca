use std::{fs, io::ErrorKind, path::Path, time::Duration};

use daemon_shell::{ProcessIdentity, Signal};
use diagnostics::Diagnostic;
use queen_contract::{ShutdownRequest, ShutdownResponse};
use serde::Serialize;
use state_files::DaemonRecord;
use tokio::time::timeout;

use crate::{
    QueenLifecycle,
    errors::{no_response, record_not_removed},
};

/// Maximum time from the response to a shutdown request to the exit of the process.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// Maximum time that a queen may take for a health check before its shutdown.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
/// Default time for running requests to finish, in seconds.
pub const DRAIN_SECONDS: u64 = 30;
/// Maximum time from the end of the drain to the exit of the process.
const TERM_LIMIT: Duration = Duration::from_secs(5);
/// Maximum time from SIGKILL to the exit of the process.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How a process was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// By a shutdown request.
    Shutdown,
    /// By SIGTERM.
    Terminated,
    /// By SIGKILL.
    Killed,
}

/// A queen that was stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stopped {
    /// Process id of the queen.
    pub pid: u32,
    /// How its process was stopped.
    pub ending: Ending,
    /// What the queen stopped before itself, in order: `worker w-0 (mock:a)`.
    pub stopped: Vec<String>,
    /// Why the shutdown request failed. Workers and hives may still be running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Diagnostic>,
}

impl QueenLifecycle {
    /// Stops the running queen and waits until its process is gone. Returns `None` if none is
    /// running. `cascade` stops workers and hives first. Running requests have `drain_seconds`
    /// to finish (absent, 30). A queen that does not respond gets SIGTERM, then SIGKILL.
    pub async fn stop(
        &self,
        cascade: bool,
        drain_seconds: Option<u64>,
    ) -> Result<Option<Stopped>, Diagnostic> {
        let _lock = self.lock().await?;
        self.stop_locked(cascade, drain_seconds).await
    }

    /// [`stop`](Self::stop) for a caller that holds the lock.
    pub(crate) async fn stop_locked(
        &self,
        cascade: bool,
        drain_seconds: Option<u64>,
    ) -> Result<Option<Stopped>, Diagnostic> {
        let path = self.home.queen_record();
        let Some(record) = DaemonRecord::find(&path, &self.home.queen_lock()).await? else {
            remove(&path)?;
            return Ok(None);
        };
        let request = ShutdownRequest {
            cascade,
            drain_seconds,
        };
        let response = self.request_shutdown(&record, &request).await;
        let exited = match &response {
            Ok(_) => timeout(EXIT_LIMIT, record.process.gone()).await.is_ok(),
            Err(_) => false,
        };
        let ending = if exited {
            Ending::Shutdown
        } else {
            let drain = Duration::from_secs(drain_seconds.unwrap_or(DRAIN_SECONDS));
            terminate(record.process, drain).await?
        };
        remove(&path)?;
        let (stopped, refused) = match response {
            Ok(response) => (response.stopped, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Ok(Some(Stopped {
            pid: record.process.pid,
            ending,
            stopped,
            refused,
        }))
    }

    async fn request_shutdown(
        &self,
        record: &DaemonRecord,
        request: &ShutdownRequest,
    ) -> Result<ShutdownResponse, Diagnostic> {
        let client = self.client(record)?;
        // A shutdown may take minutes. The health check detects a queen that hangs.
        match timeout(HEALTH_LIMIT, client.health()).await {
            Ok(health) => health?,
            Err(_) => return Err(no_response(HEALTH_LIMIT)),
        };
        Ok(client.shutdown(request).await?)
    }
}

/// Stops a process with SIGTERM, then SIGKILL, and waits until it is gone. After SIGTERM its
/// running requests have `drain` to finish.
pub(crate) async fn terminate(
    process: ProcessIdentity,
    drain: Duration,
) -> Result<Ending, Diagnostic> {
    process.signal(Signal::Term)?;
    if timeout(drain + TERM_LIMIT, process.gone()).await.is_ok() {
        return Ok(Ending::Terminated);
    }
    process.signal(Signal::Kill)?;
    match timeout(KILL_LIMIT, process.gone()).await {
        Ok(()) => Ok(Ending::Killed),
        Err(_) => Err(process.survived_sigkill("the queen")),
    }
}

fn remove(path: &Path) -> Result<(), Diagnostic> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(record_not_removed(path, &e)),
        _ => Ok(()),
    }
}
