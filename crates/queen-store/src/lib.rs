//! The queen's persistent state: one SQLite file for the nodes and one for the deployments.
//!
//! All calls block. A file written by a newer rbee is refused and left unchanged
//! ([`Code::StateTooNew`]), an older one is backed up and migrated, a damaged one is refused
//! with its path ([`Code::StateUnusable`]).
//!
//! [`Code::StateTooNew`]: diagnostics::Code::StateTooNew
//! [`Code::StateUnusable`]: diagnostics::Code::StateUnusable

mod deployments;
mod nodes;

pub use deployments::{DeploymentKey, DeploymentRow};

use diagnostics::Diagnostic;
use sqlite_file::Database;
use state_files::Home;

const OWNER: &str = "queen";

/// The queen's two databases.
#[derive(Debug)]
pub struct Store {
    nodes: Database,
    queen: Database,
}

impl Store {
    /// Opens the databases of `home`; creates missing ones.
    pub fn open(home: &Home) -> Result<Self, Diagnostic> {
        Ok(Self {
            nodes: Database::open(&home.node_database(), OWNER, nodes::MIGRATIONS)?,
            queen: Database::open(&home.queen_database(), OWNER, deployments::MIGRATIONS)?,
        })
    }
}
