//! What the queen remembers over restarts, in two SQLite files of its state folder: the
//! machines it knows, and what is to be served.
//!
//! All calls block; they belong on a thread where that is allowed. A file that a newer rbee
//! wrote is refused untouched ([`Code::StateTooNew`]), an older one is copied aside and then
//! migrated, a damaged one is refused with its path ([`Code::StateUnusable`]).
//!
//! [`Code::StateTooNew`]: diagnostics::Code::StateTooNew
//! [`Code::StateUnusable`]: diagnostics::Code::StateUnusable

mod database;
mod deployments;
mod nodes;

pub use deployments::{DeploymentRow, Place};
pub use nodes::NodeRow;

use diagnostics::Diagnostic;
use state_files::Home;

use database::Database;

/// The queen's two databases.
#[derive(Debug)]
pub struct Store {
    nodes: Database,
    queen: Database,
}

impl Store {
    /// Opens the databases of `home`, made if missing.
    pub fn open(home: &Home) -> Result<Self, Diagnostic> {
        Ok(Self {
            nodes: Database::open(&home.node_database(), nodes::MIGRATIONS)?,
            queen: Database::open(&home.queen_database(), deployments::MIGRATIONS)?,
        })
    }
}
