//! Lifecycle of the queen of a home, for the keeper: find the running one, start one if none is
//! running, stop it, read its log.
//!
//! A queen is started and stopped under [`Home::queen_start_lock`], so that any number of
//! concurrent keepers share one queen.

mod errors;
mod launch;
mod left_behind;
mod log;
mod probe;
mod start;
mod stop;

use std::{path::PathBuf, time::Duration};

use daemon_shell::{FileLock, ProcessIdentity, Token};
use diagnostics::Diagnostic;
use queen_contract::{API_VERSION, QueenClient};
use rest_client::CallError;
use state_files::{DaemonRecord, Home};
use tokio::time::timeout;

use errors::{start_lock_timeout, unresponsive, version_incompatible};
pub use launch::Launch;
pub use probe::probe;
pub use stop::{DRAIN_SECONDS, Ending, Stopped};

/// Maximum time that another keeper may take to start or stop the queen.
const LOCK_LIMIT: Duration = Duration::from_secs(180);
/// Maximum time to wait for the exit of a queen that no longer responds.
const EXIT_LIMIT: Duration = Duration::from_secs(5);

/// The queen of one home.
#[derive(Debug, Clone)]
pub struct QueenLifecycle {
    home: Home,
    launch: Launch,
}

/// A queen that responds and speaks this version of the interface.
#[derive(Debug, Clone)]
pub struct Queen {
    /// Client with the queen's token.
    pub client: QueenClient,
    /// The queen's process.
    pub process: ProcessIdentity,
    /// Version of the binary.
    pub version: String,
    /// Whether the call that returned it started it.
    pub started_by_us: bool,
}

/// A client of the queen at `url`, after a check that it responds and speaks this version of
/// the interface. The queen is neither started nor stopped.
pub async fn connect(url: &str, token: Option<String>) -> Result<QueenClient, Diagnostic> {
    let client = QueenClient::new(url, token)?;
    let health = client.health().await?;
    check_version(&health.version, health.api_version)
        .map_err(|e| e.hint("install the same version of rbee on both sides"))?;
    Ok(client)
}

impl QueenLifecycle {
    /// The queen of `home`. `launch` is the command line of a queen that is started.
    pub fn new(home: Home, launch: Launch) -> Self {
        Self { home, launch }
    }

    /// The running queen. Fails if it speaks another interface version, or if its process is
    /// alive and it does not respond.
    pub async fn find(&self) -> Result<Option<Queen>, Diagnostic> {
        let Some(record) = DaemonRecord::read_alive(&self.home.queen_record())? else {
            return Ok(None);
        };
        check_version(&record.version, record.api_version)?;
        let client = self.client(&record)?;
        let health = match client.health().await {
            Ok(health) => health,
            // It may be shutting down; then no queen is running.
            Err(CallError::Link(error)) => {
                return match timeout(EXIT_LIMIT, record.process.gone()).await {
                    Ok(()) => Ok(None),
                    Err(_) => Err(unresponsive(record.process.pid, &error)),
                };
            }
            Err(CallError::Response(_, error)) => return Err(error),
        };
        check_version(&health.version, health.api_version)?;
        Ok(Some(Queen {
            client,
            process: record.process,
            version: health.version,
            started_by_us: false,
        }))
    }

    /// The running queen, or one that is started. If the future is dropped, a queen that it is
    /// starting gets SIGTERM.
    pub async fn ensure(&self) -> Result<Queen, Diagnostic> {
        let _lock = self.lock().await?;
        // Waits for a queen that is starting or whose record was lost.
        DaemonRecord::find(&self.home.queen_record(), &self.home.queen_lock()).await?;
        match self.find().await? {
            Some(queen) => Ok(queen),
            None => self.start().await,
        }
    }

    /// The last `lines` lines of the queen's log.
    pub fn logs(&self, lines: usize) -> Result<String, Diagnostic> {
        log::tail(&self.log_path(), lines)
    }

    /// Log file of a queen that is started here.
    pub fn log_path(&self) -> PathBuf {
        self.home.queen_log()
    }

    fn client(&self, record: &DaemonRecord) -> Result<QueenClient, Diagnostic> {
        let token = Token::load(&self.home.queen_token())?;
        QueenClient::new(&record.url, Some(token.expose().to_owned()))
    }

    /// Keeps other keepers from starting or stopping the queen.
    async fn lock(&self) -> Result<FileLock, Diagnostic> {
        let path = self.home.queen_start_lock();
        if let Some(lock) = FileLock::try_acquire(&path)? {
            return Ok(lock);
        }
        let waiting = daemon_shell::blocking(move || FileLock::acquire(&path));
        match timeout(LOCK_LIMIT, waiting).await {
            Ok(lock) => lock,
            Err(_) => Err(start_lock_timeout(LOCK_LIMIT)),
        }
    }
}

fn check_version(version: &str, api_version: u32) -> Result<(), Diagnostic> {
    if api_version == API_VERSION {
        Ok(())
    } else {
        Err(version_incompatible(version, api_version))
    }
}

#[cfg(test)]
mod tests;
