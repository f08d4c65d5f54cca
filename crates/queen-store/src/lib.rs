//! The queen's deployments and workers, in the SQLite file `queen.db`.
//!
//! All calls block. A file written by a newer rbee is refused and left unchanged
//! ([`Code::StateTooNew`]), an older one is backed up and migrated, a damaged one is refused
//! with its path ([`Code::StateUnusable`]).
//!
//! [`Code::StateTooNew`]: diagnostics::Code::StateTooNew
//! [`Code::StateUnusable`]: diagnostics::Code::StateUnusable

mod deployments;
mod workers;

pub use workers::{WorkerKey, WorkerRow};

use diagnostics::Diagnostic;
use sqlite_file::Database;
use state_files::Home;

const OWNER: &str = "queen";

/// The database of deployments and workers.
#[derive(Debug)]
pub struct Store {
    queen: Database,
}

impl Store {
    /// Opens the database of `home`; creates a missing one.
    pub fn open(home: &Home) -> Result<Self, Diagnostic> {
        Ok(Self {
            queen: Database::open(&home.queen_database(), OWNER, workers::MIGRATIONS)?,
        })
    }
}
