//! The registered nodes, in the SQLite file `beehives.db`: how the queen reaches each node, the
//! devices and network cards that its hive reported last, and when that was; how it is woken; and the invitations of machines. Tokens
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
use hive_contract::Power;
use input_validation::NodeName;
use queen_contract::{Asleep, GpuYield, NodeEntry, NodePower, NodeStatus, PowerSettings};
use rusqlite::{Row, Transaction, named_params};
use rusqlite_migration::M;
use serde::{Deserialize, Serialize};
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
    // How it is woken and when it is put to sleep, and what is known about that, as JSON.
    M::up(
        "ALTER TABLE nodes ADD COLUMN power_settings TEXT;
        ALTER TABLE nodes ADD COLUMN power TEXT;",
    ),
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
        let documents = Documents::of(node)?;
        self.0
            .write(|transaction| insert(transaction, node, &documents))
    }

    /// Inserts a node whose machine has used its invitation, and notes that it is used, unless
    /// the invitation was used or replaced in the meantime: then it returns `false`.
    pub fn save_joined(
        &mut self,
        node: &NodeEntry,
        invitation: &StoredInvitation,
        attempt: SecretHash,
    ) -> Result<bool, Diagnostic> {
        let documents = Documents::of(node)?;
        self.0.write(|transaction| {
            let used = invitations::mark_used(transaction, invitation, attempt)?;
            if used {
                insert(transaction, node, &documents)?;
            }
            Ok(used)
        })
    }

    /// Updates the state of a node, not how it is reached. Has no effect if it is not registered,
    /// so that a late report does not restore a node that was removed.
    pub fn save_state(&mut self, node: &NodeEntry) -> Result<(), Diagnostic> {
        let documents = Documents::of(node)?;
        self.0.write(|transaction| {
            transaction.execute(
                "UPDATE nodes SET hive_url = :hive_url, devices = :devices, status = :status,
                 last_connected = :last_connected, last_error = :last_error,
                 hive_version = :hive_version, power = :power WHERE name = :name",
                named_params! {
                    ":name": node.name.as_str(),
                    ":hive_url": node.hive_url,
                    ":devices": documents.devices,
                    ":status": status(node),
                    ":last_connected": node.last_connected.map(|time| time.to_string()),
                    ":last_error": node.last_error,
                    ":hive_version": node.hive_version,
                    ":power": documents.power,
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

    /// Sets how a node is woken and when it is put to sleep. Has no effect if it is not registered.
    pub fn set_power(
        &mut self,
        name: &NodeName,
        settings: &PowerSettings,
    ) -> Result<(), Diagnostic> {
        let settings = power_settings(settings)?;
        self.0.write(|transaction| {
            transaction.execute(
                "UPDATE nodes SET power_settings = ?2 WHERE name = ?1",
                (name.as_str(), &settings),
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
    documents: &Documents,
) -> rusqlite::Result<()> {
    let spec = SpecColumns::of(&node.spec);
    transaction.execute(
        "INSERT OR REPLACE INTO nodes
         (name, hive_url, devices, status, last_connected, last_error, link, ssh_host,
          ssh_port, ssh_user, ssh_key_file, directory, repository, branch, url, queen_url,
          hive_version, certificate, allow_unencrypted, gpu_yield, power_settings, power)
         VALUES
         (:name, :hive_url, :devices, :status, :last_connected, :last_error, :link,
          :ssh_host, :ssh_port, :ssh_user, :ssh_key_file, :directory, :repository, :branch,
          :url, :queen_url, :hive_version, :certificate, :allow_unencrypted,
          :gpu_yield, :power_settings, :power)",
        named_params! {
            ":name": node.name.as_str(),
            ":hive_url": node.hive_url,
            ":devices": documents.devices,
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
            ":gpu_yield": documents.gpu_yield,
            ":power_settings": documents.power_settings,
            ":power": documents.power,
        },
    )?;
    Ok(())
}

/// What is stored of a node as JSON.
struct Documents {
    devices: String,
    gpu_yield: Option<String>,
    power_settings: Option<String>,
    power: String,
}

impl Documents {
    fn of(node: &NodeEntry) -> Result<Self, Diagnostic> {
        let known = KnownPower {
            reported: node.power.reported.clone(),
            asleep: node.power.asleep,
        };
        Ok(Self {
            devices: serde_json::to_string(&node.devices).map_err(Diagnostic::internal)?,
            gpu_yield: gpu_yield(node.gpu_yield)?,
            power_settings: power_settings(&node.power.settings)?,
            power: serde_json::to_string(&known).map_err(Diagnostic::internal)?,
        })
    }
}

/// What is known of the power of a node, without what users have set.
#[derive(Default, Serialize, Deserialize)]
struct KnownPower {
    #[serde(default)]
    reported: Power,
    #[serde(default)]
    asleep: Option<Asleep>,
}

/// `None` for the default.
fn power_settings(settings: &PowerSettings) -> Result<Option<String>, Diagnostic> {
    let is_default = *settings == PowerSettings::default();
    let text = (!is_default).then(|| serde_json::to_string(settings));
    text.transpose().map_err(Diagnostic::internal)
}

/// `None` for the default.
fn gpu_yield(wanted: GpuYield) -> Result<Option<String>, Diagnostic> {
    let text = (!wanted.is_auto()).then(|| serde_json::to_string(&wanted));
    text.transpose().map_err(Diagnostic::internal)
}

fn status(node: &NodeEntry) -> &'static str {
    match node.status {
        // That a node is asleep is stored with its power; the rest ends with the queen.
        NodeStatus::Unknown | NodeStatus::Suspending | NodeStatus::Asleep | NodeStatus::Waking => {
            "unknown"
        }
        NodeStatus::Reachable => "reachable",
        NodeStatus::Unreachable => "unreachable",
    }
}

fn node(row: &Row<'_>) -> rusqlite::Result<NodeEntry> {
    let last_connected: Option<String> = row.get("last_connected")?;
    let power = power(row)?;
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
            _ if power.asleep.is_some() => NodeStatus::Asleep,
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
        power,
    })
}

/// What of an older or newer rbee cannot be read is not known.
fn power(row: &Row<'_>) -> rusqlite::Result<NodePower> {
    let settings: Option<String> = row.get("power_settings")?;
    let settings = settings.and_then(|text| serde_json::from_str(&text).ok());
    let known: Option<String> = row.get("power")?;
    let known = known.and_then(|text| serde_json::from_str(&text).ok());
    let KnownPower { reported, asleep } = known.unwrap_or_default();
    Ok(NodePower {
        settings: settings.unwrap_or_default(),
        reported,
        asleep,
    })
}
