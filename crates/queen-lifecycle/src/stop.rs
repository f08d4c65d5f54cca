use std::{fs, path::Path, time::Duration};

use daemon_shell::{ProcessIdentity, Signal};
use diagnostics::{Code, Diagnostic};
use queen_contract::{ShutdownRequest, ShutdownResponse};
use serde::Serialize;
use state_files::DaemonRecord;
use tokio::time::timeout;

use crate::QueenLifecycle;

/// Longest from the answer to a shutdown to the end of the process.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);
/// Longest that a queen may take to show that it answers at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long running requests may go on when nothing else is said.
const DRAIN_SECONDS: u64 = 30;
/// Longest from the end of the drain to the end of the process.
const TERM_LIMIT: Duration = Duration::from_secs(5);
/// Longest from SIGKILL to the end of the process.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// What made the process end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was asked to.
    Shutdown,
    /// SIGTERM.
    Terminated,
    /// SIGKILL.
    Killed,
}

/// A queen that was stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stopped {
    /// Its process id.
    pub pid: u32,
    /// What made it end.
    pub ending: Ending,
    /// What else it stopped, in order, one sentence each.
    pub stopped: Vec<String>,
    /// Why it could not be asked to stop; what it was to stop with it may still run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Diagnostic>,
}

impl QueenLifecycle {
    /// Stops the queen that runs and waits until its process is gone; `None` when none
    /// runs. `cascade` stops workers and hives first; running requests get `drain_seconds`
    /// (absent, 30). A queen that does not listen is ended by SIGTERM, then SIGKILL.
    pub async fn stop(
        &self,
        cascade: bool,
        drain_seconds: Option<u64>,
    ) -> Result<Option<Stopped>, Diagnostic> {
        let _lock = self.lock().await?;
        self.stop_locked(cascade, drain_seconds).await
    }

    /// As [`stop`](Self::stop); the caller holds the lock.
    pub(crate) async fn stop_locked(
        &self,
        cascade: bool,
        drain_seconds: Option<u64>,
    ) -> Result<Option<Stopped>, Diagnostic> {
        let path = self.home.queen_record();
        let Some(record) = DaemonRecord::read_alive(&path)? else {
            remove(&path)?;
            return Ok(None);
        };
        let request = ShutdownRequest {
            cascade,
            drain_seconds,
        };
        let asked = self.ask(&record, &request).await;
        let left = match &asked {
            Ok(_) => timeout(LEAVE_LIMIT, record.process.gone()).await.is_ok(),
            Err(_) => false,
        };
        let ending = if left {
            Ending::Shutdown
        } else {
            let drain = Duration::from_secs(drain_seconds.unwrap_or(DRAIN_SECONDS));
            end(record.process, drain).await?
        };
        remove(&path)?;
        let (stopped, refused) = match asked {
            Ok(answer) => (answer.stopped, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Ok(Some(Stopped {
            pid: record.process.pid,
            ending,
            stopped,
            refused,
        }))
    }

    async fn ask(
        &self,
        record: &DaemonRecord,
        request: &ShutdownRequest,
    ) -> Result<ShutdownResponse, Diagnostic> {
        let client = self.client(record)?;
        // A shutdown may take minutes, so a queen that hangs is found out before.
        match timeout(ANSWER_LIMIT, client.health()).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(Diagnostic::new(
                    Code::QueenUnreachable,
                    format!("no answer within {} s", ANSWER_LIMIT.as_secs()),
                ));
            }
        };
        Ok(client.shutdown(request).await?)
    }
}

/// Ends a process by SIGTERM, then SIGKILL, and waits until it is gone. After SIGTERM it may
/// finish what runs for as long as `drain`.
pub async fn end(process: ProcessIdentity, drain: Duration) -> Result<Ending, Diagnostic> {
    process.signal(Signal::Term)?;
    if timeout(drain + TERM_LIMIT, process.gone()).await.is_ok() {
        return Ok(Ending::Terminated);
    }
    process.signal(Signal::Kill)?;
    match timeout(KILL_LIMIT, process.gone()).await {
        Ok(()) => Ok(Ending::Killed),
        Err(_) => Err(Diagnostic::new(
            Code::Internal,
            format!("process {} does not end, not even on SIGKILL", process.pid),
        )
        .hint("it hangs in the kernel, most likely on a disk or a device driver")),
    }
}

fn remove(path: &Path) -> Result<(), Diagnostic> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Diagnostic::new(
            Code::StateUnusable,
            format!("cannot remove {}: {e}", path.display()),
        )),
        _ => Ok(()),
    }
}
