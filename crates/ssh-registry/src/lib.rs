//! The registered nodes, in the SQLite file `beehives.db`: how the queen reaches each node, the
//! devices that its hive reported last, and when that was; and the invitations of machines. Tokens
//! and the secrets of invitations are not in it.
//!
//! All calls block. A file written by a newer rbee is refused and left unchanged
//! ([`Code::StateTooNew`]), an older one is backed up and migrated, a damaged one is refused
//! with its path ([`Code::StateUnusable`]).
//!
//! [`Code::StateTooNew`]: diagnostics::Code::StateTooNew
//! [`Code::StateUnusable`]: diagnostics::Code::StateUnusable

#![warn(missing_docs)]

mod invitations;
mod spec_columns;
#[cfg(test)]
mod tests;

use diagnostics::Diagnostic;
use input_validation::NodeName;
use queen_contract::{GpuYield, NodeEntry, NodeStatus};
use rusqlite::{Row, Transaction, named_params};
use rusqlite_migration::M;
use sqlite_file::{Database, parsed};
use state_files::Home;

pub use invitations::{InvitationRefusal, SecretHash, StoredInvitation};

use crate::spec_columns::SpecColumns;

const OWNER: &str = "queen";

const MIGRATIONS: &[M<'_>] = &[
    M::up(
        "CREATE TABLE nodes (
            name TEXT PRIMARY KEY,
            hive_url TEXT,
            devices TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('unknown', 'reachable', 'unreachable')),
            last_connected TEXT,
            last_error TEXT
        ) STRICT;",
    ),
    M::up(
        "ALTER TABLE nodes ADD COLUMN link TEXT NOT NULL DEFAULT 'local'
            CHECK (link IN ('local', 'ssh', 'direct'));
        ALTER TABLE nodes ADD COLUMN ssh_host TEXT;
        ALTER TABLE nodes ADD COLUMN ssh_port INTEGER;
        ALTER TABLE nodes ADD COLUMN ssh_user TEXT;
        ALTER TABLE nodes ADD COLUMN ssh_key_file TEXT;
        ALTER TABLE nodes ADD COLUMN directory TEXT;
        ALTER TABLE nodes ADD COLUMN url TEXT;
        ALTER TABLE nodes ADD COLUMN queen_url TEXT;
        ALTER TABLE nodes ADD COLUMN hive_version TEXT;",
    ),
    M::up(
        "ALTER TABLE nodes ADD COLUMN repository TEXT;
        ALTER TABLE nodes ADD COLUMN branch TEXT;",
    ),
    // A check of a column cannot be changed.
    M::up(
        "ALTER TABLE nodes RENAME TO earlier_nodes;
        CREATE TABLE nodes (
            name TEXT PRIMARY KEY,
            hive_url TEXT,
            devices TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('unknown', 'reachable', 'unreachable')),
            last_connected TEXT,
            last_error TEXT,
            link TEXT NOT NULL CHECK (link IN ('local', 'ssh', 'direct', 'joined')),
            ssh_host TEXT,
            ssh_port INTEGER,
            ssh_user TEXT,
            ssh_key_file TEXT,
            directory TEXT,
            repository TEXT,
            branch TEXT,
            url TEXT,
            queen_url TEXT,
            hive_version TEXT,
            certificate TEXT,
            allow_unencrypted INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        INSERT INTO nodes
            (name, hive_url, devices, status, last_connected, last_error, link, ssh_host, ssh_port,
             ssh_user, ssh_key_file, directory, repository, branch, url, queen_url, hive_version)
            SELECT name, hive_url, devices, status, last_connected, last_error, link, ssh_host,
             ssh_port, ssh_user, ssh_key_file, directory, repository, branch, url, queen_url,
             hive_version
            FROM earlier_nodes;
        DROP TABLE earlier_nodes;
        CREATE TABLE invitations (
            node TEXT PRIMARY KEY,
            secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32),
            created_at TEXT NOT NULL,
            expires_at TEXT NOT NULL,
            attempt_sha256 BLOB CHECK (length(attempt_sha256) = 32)
        ) STRICT;",
    ),
    // When its GPUs are left to other programs, as JSON.
    M::up("ALTER TABLE nodes ADD COLUMN gpu_yield TEXT;"),
];

/// The database of nodes.
#[derive(Debug)]
pub struct NodeRegistry(Database);

impl NodeRegistry {
    /// Opens the database of `home`; creates a missing one.
    pub fn open(home: &Home) -> Result<Self, Diagnostic> {
        Database::open(&home.node_database(), OWNER, MIGRATIONS).map(Self)
    }

    /// Returns the nodes, ordered by name.
    pub fn nodes(&self) -> Result<Vec<NodeEntry>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .prepare("SELECT * FROM nodes ORDER BY name")?
                .query_map([], node)?
                .collect()
        })
    }

    /// Inserts or replaces a node.
    pub fn save(&mut self, node: &NodeEntry) -> Result<(), Diagnostic> {
        let (devices, wanted) = (devices(node)?, gpu_yield(node.gpu_yield)?);
        self.0
            .write(|transaction| insert(transaction, node, &devices, wanted.as_deref()))
    }

    /// Inserts a node whose machine has used its invitation, and notes that it is used, unless
    /// the invitation was used or replaced in the meantime: then it returns `false`.
    pub fn save_joined(
        &mut self,
        node: &NodeEntry,
        invitation: &StoredInvitation,
        attempt: SecretHash,
    ) -> Result<bool, Diagnostic> {
        let (devices, wanted) = (devices(node)?, gpu_yield(node.gpu_yield)?);
        self.0.write(|transaction| {
            let used = invitations::mark_used(transaction, invitation, attempt)?;
            if used {
                insert(transaction, node, &devices, wanted.as_deref())?;
            }
            Ok(used)
        })
    }

    /// Updates the state of a node, not how it is reached. Has no effect if it is not registered,
    /// so that a late report does not restore a node that was removed.
    pub fn save_state(&mut self, node: &NodeEntry) -> Result<(), Diagnostic> {
        let devices = devices(node)?;
        self.0.write(|transaction| {
            transaction.execute(
                "UPDATE nodes SET hive_url = :hive_url, devices = :devices, status = :status,
                 last_connected = :last_connected, last_error = :last_error,
                 hive_version = :hive_version WHERE name = :name",
                named_params! {
                    ":name": node.name.as_str(),
                    ":hive_url": node.hive_url,
                    ":devices": devices,
                    ":status": status(node),
                    ":last_connected": node.last_connected.map(|time| time.to_string()),
                    ":last_error": node.last_error,
                    ":hive_version": node.hive_version,
                },
            )?;
            Ok(())
        })
    }

    /// Sets when the GPUs of a node are left to other programs. Has no effect if it is not
    /// registered.
    pub fn set_gpu_yield(&mut self, name: &NodeName, wanted: GpuYield) -> Result<(), Diagnostic> {
        let wanted = gpu_yield(wanted)?;
        self.0.write(|transaction| {
            transaction.execute(
                "UPDATE nodes SET gpu_yield = ?2 WHERE name = ?1",
                (name.as_str(), &wanted),
            )?;
            Ok(())
        })
    }

    /// Deletes a node; has no effect if it is not registered.
    pub fn remove(&mut self, name: &NodeName) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            transaction.execute("DELETE FROM nodes WHERE name = ?1", [name.as_str()])?;
            invitations::delete(transaction, name)?;
            Ok(())
        })
    }
}

fn insert(
    transaction: &Transaction<'_>,
    node: &NodeEntry,
    devices: &str,
    gpu_yield: Option<&str>,
) -> rusqlite::Result<()> {
    let spec = SpecColumns::of(&node.spec);
    transaction.execute(
        "INSERT OR REPLACE INTO nodes
         (name, hive_url, devices, status, last_connected, last_error, link, ssh_host,
          ssh_port, ssh_user, ssh_key_file, directory, repository, branch, url, queen_url,
          hive_version, certificate, allow_unencrypted, gpu_yield)
         VALUES
         (:name, :hive_url, :devices, :status, :last_connected, :last_error, :link,
          :ssh_host, :ssh_port, :ssh_user, :ssh_key_file, :directory, :repository, :branch,
          :url, :queen_url, :hive_version, :certificate, :allow_unencrypted,
          :gpu_yield)",
        named_params! {
            ":name": node.name.as_str(),
            ":hive_url": node.hive_url,
            ":devices": devices,
            ":status": status(node),
            ":last_connected": node.last_connected.map(|time| time.to_string()),
            ":last_error": node.last_error,
            ":link": spec.link,
            ":ssh_host": spec.ssh_host,
            ":ssh_port": spec.ssh_port,
            ":ssh_user": spec.ssh_user,
            ":ssh_key_file": spec.ssh_key_file,
            ":directory": spec.directory,
            ":repository": spec.repository,
            ":branch": spec.branch,
            ":url": spec.url,
            ":queen_url": spec.queen_url,
            ":hive_version": node.hive_version,
            ":certificate": spec.certificate,
            ":allow_unencrypted": spec.allow_unencrypted,
            ":gpu_yield": gpu_yield,
        },
    )?;
    Ok(())
}

fn devices(node: &NodeEntry) -> Result<String, Diagnostic> {
    serde_json::to_string(&node.devices).map_err(Diagnostic::internal)
}

/// `None` for the default.
fn gpu_yield(wanted: GpuYield) -> Result<Option<String>, Diagnostic> {
    let text = (!wanted.is_auto()).then(|| serde_json::to_string(&wanted));
    text.transpose().map_err(Diagnostic::internal)
}

fn status(node: &NodeEntry) -> &'static str {
    match node.status {
        NodeStatus::Unknown => "unknown",
        NodeStatus::Reachable => "reachable",
        NodeStatus::Unreachable => "unreachable",
    }
}

fn node(row: &Row<'_>) -> rusqlite::Result<NodeEntry> {
    let last_connected: Option<String> = row.get("last_connected")?;
    Ok(NodeEntry {
        name: parsed(row, 0)?,
        spec: spec_columns::read(row)?,
        hive_url: row.get("hive_url")?,
        hive_version: row.get("hive_version")?,
        // It is found out whenever the hive connects.
        hive_service: None,
        // Devices are queried whenever the hive connects, so those of an older rbee may be lost.
        devices: serde_json::from_str(&row.get::<_, String>("devices")?).unwrap_or_default(),
        status: match row.get::<_, String>("status")?.as_str() {
            "reachable" => NodeStatus::Reachable,
            "unreachable" => NodeStatus::Unreachable,
            _ => NodeStatus::Unknown,
        },
        last_connected: last_connected.and_then(|time| time.parse().ok()),
        last_error: row.get("last_error")?,
        gpu_yield: row
            .get::<_, Option<String>>("gpu_yield")?
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default(),
        // It is decided whenever the hive connects.
        yielded: Vec::new(),
    })
}
