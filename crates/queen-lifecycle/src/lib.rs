//! The life of the queen that belongs to a home, seen from the keeper: find the one that
//! runs, start one when none does, stop it, read its log.
//!
//! What is found or started is decided under [`Home::queen_start_lock`], so that any number of
//! keepers at once share one queen.

mod launch;
mod left_behind;
mod log;
mod start;
mod stop;

use std::{path::PathBuf, time::Duration};

use daemon_shell::{FileLock, ProcessIdentity, Token};
use diagnostics::{Code, Diagnostic};
use queen_contract::{API_VERSION, QueenClient};
use rest_client::CallError;
use state_files::{DaemonRecord, Home};
use tokio::time::timeout;

pub use launch::Launch;
pub use stop::{Ending, Stopped};

/// Longest that another keeper may be starting or stopping the queen.
const LOCK_LIMIT: Duration = Duration::from_secs(180);
/// Longest that a queen which no longer answers is waited for.
const LEAVING_LIMIT: Duration = Duration::from_secs(5);

/// The queen of one home.
#[derive(Debug, Clone)]
pub struct QueenLifecycle {
    home: Home,
    launch: Launch,
}

/// A queen that answers and speaks this version of the interface.
#[derive(Debug, Clone)]
pub struct Queen {
    /// Calls to it, with its token.
    pub client: QueenClient,
    /// Its process.
    pub process: ProcessIdentity,
    /// Version of the program.
    pub version: String,
    /// Whether this very call started it.
    pub started_by_us: bool,
}

/// A client of the queen at `url`, which is neither started nor stopped from here; it
/// answers and speaks this version of the interface.
pub async fn connect(url: &str, token: Option<String>) -> Result<QueenClient, Diagnostic> {
    let client = QueenClient::new(url, token)?;
    let health = client.health().await?;
    check_version(&health.version, health.api_version)
        .map_err(|e| e.hint("install the same version of rbee on both sides"))?;
    Ok(client)
}

impl QueenLifecycle {
    /// The queen of `home`; `launch` says how one is started.
    pub fn new(home: Home, launch: Launch) -> Self {
        Self { home, launch }
    }

    /// The queen that runs, if one does.
    ///
    /// A queen of another interface version, or one that lives and does not answer, is an
    /// error.
    pub async fn find(&self) -> Result<Option<Queen>, Diagnostic> {
        let Some(record) = DaemonRecord::read_alive(&self.home.queen_record())? else {
            return Ok(None);
        };
        check_version(&record.version, record.api_version)?;
        let client = self.client(&record)?;
        let health = match client.health().await {
            Ok(health) => health,
            // It may be on its way out: then there is none.
            Err(CallError::Link(error)) => {
                return match timeout(LEAVING_LIMIT, record.process.gone()).await {
                    Ok(()) => Ok(None),
                    Err(_) => Err(silent(&record, &error)),
                };
            }
            Err(CallError::Answer(_, error)) => return Err(error),
        };
        check_version(&health.version, health.api_version)?;
        Ok(Some(Queen {
            client,
            process: record.process,
            version: health.version,
            started_by_us: false,
        }))
    }

    /// The queen that runs, else one started now. When the call is dropped half-way, the
    /// queen that it was starting is told to end.
    pub async fn ensure(&self) -> Result<Queen, Diagnostic> {
        let _lock = self.lock().await?;
        match self.find().await? {
            Some(queen) => Ok(queen),
            None => self.start().await,
        }
    }

    /// The last `lines` lines of the queen's log.
    pub fn logs(&self, lines: usize) -> Result<String, Diagnostic> {
        log::tail(&self.log_path(), lines)
    }

    /// The file that a queen started here writes to.
    pub fn log_path(&self) -> PathBuf {
        self.home.queen_log()
    }

    fn client(&self, record: &DaemonRecord) -> Result<QueenClient, Diagnostic> {
        let token = Token::load(&self.home.queen_token())?;
        QueenClient::new(&record.url, Some(token.expose().to_owned()))
    }

    /// Keeps other keepers from starting or stopping the queen at the same time.
    async fn lock(&self) -> Result<FileLock, Diagnostic> {
        let path = self.home.queen_start_lock();
        if let Some(lock) = FileLock::try_acquire(&path)? {
            return Ok(lock);
        }
        let waiting = tokio::task::spawn_blocking(move || FileLock::acquire(&path));
        match timeout(LOCK_LIMIT, waiting).await {
            Ok(Ok(lock)) => lock,
            Ok(Err(panicked)) => Err(Diagnostic::internal(panicked)),
            Err(_) => Err(Diagnostic::new(
                Code::QueenStartFailed,
                format!(
                    "another rbee-keeper has been starting or stopping the queen for {} s",
                    LOCK_LIMIT.as_secs()
                ),
            )
            .hint("end the other rbee-keeper, then try again")),
        }
    }
}

fn silent(record: &DaemonRecord, error: &Diagnostic) -> Diagnostic {
    Diagnostic::new(
        Code::QueenUnreachable,
        format!("the queen lives (pid {}), but {error}", record.process.pid),
    )
    .hint(
        "it may be finishing its last requests: try again; `rbee-keeper queen logs` shows \
         what it does, `rbee-keeper queen stop` ends it",
    )
}

fn check_version(version: &str, api_version: u32) -> Result<(), Diagnostic> {
    if api_version == API_VERSION {
        return Ok(());
    }
    let own = env!("CARGO_PKG_VERSION");
    Err(Diagnostic::new(
        Code::VersionIncompatible,
        format!(
            "the running queen {} speaks interface {api_version}, this rbee-keeper {own} speaks \
             interface {API_VERSION}",
            diagnostics::excerpt(version, 40)
        ),
    )
    .hint("`rbee-keeper queen stop` ends it; the next command starts the one installed here")
    .detail("queen_api_version", api_version)
    .detail("keeper_api_version", API_VERSION))
}

#[cfg(test)]
mod tests;
