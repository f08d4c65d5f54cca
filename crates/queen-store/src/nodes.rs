use diagnostics::Diagnostic;
use queen_contract::{NodeEntry, NodeStatus};
use rusqlite::Row;
use rusqlite_migration::M;
use sqlite_file::parsed;

use crate::Store;

pub(crate) const MIGRATIONS: &[M<'_>] = &[M::up(
    "CREATE TABLE nodes (
        name TEXT PRIMARY KEY,
        hive_url TEXT,
        devices TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('unknown', 'reachable', 'unreachable')),
        last_connected TEXT,
        last_error TEXT
    ) STRICT;",
)];

impl Store {
    /// Returns the nodes, ordered by name.
    pub fn nodes(&self) -> Result<Vec<NodeEntry>, Diagnostic> {
        self.nodes.read(|connection| {
            connection
                .prepare(
                    "SELECT name, hive_url, devices, status, last_connected, last_error
                     FROM nodes ORDER BY name",
                )?
                .query_map([], node)?
                .collect()
        })
    }

    /// Inserts or replaces a node.
    pub fn save_node(&mut self, node: &NodeEntry) -> Result<(), Diagnostic> {
        let devices = serde_json::to_string(&node.devices).map_err(Diagnostic::internal)?;
        let status = match node.status {
            NodeStatus::Unknown => "unknown",
            NodeStatus::Reachable => "reachable",
            NodeStatus::Unreachable => "unreachable",
        };
        self.nodes.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO nodes
                 (name, hive_url, devices, status, last_connected, last_error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    node.name.as_str(),
                    &node.hive_url,
                    devices,
                    status,
                    node.last_connected.map(|time| time.to_string()),
                    &node.last_error,
                ),
            )?;
            Ok(())
        })
    }
}

fn node(row: &Row<'_>) -> rusqlite::Result<NodeEntry> {
    let last_connected: Option<String> = row.get(4)?;
    Ok(NodeEntry {
        name: parsed(row, 0)?,
        hive_url: row.get(1)?,
        // Devices are queried whenever the hive connects, so those of an older rbee may be lost.
        devices: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
        status: match row.get::<_, String>(3)?.as_str() {
            "reachable" => NodeStatus::Reachable,
            "unreachable" => NodeStatus::Unreachable,
            _ => NodeStatus::Unknown,
        },
        last_connected: last_connected.and_then(|time| time.parse().ok()),
        last_error: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use hive_contract::Device;
    use state_files::Home;

    use super::*;

    #[test]
    fn a_node_is_restored_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = NodeEntry {
            name: "local".parse().unwrap(),
            hive_url: Some("http://127.0.0.1:9200".into()),
            devices: vec![Device {
                id: "CPU-0".parse().unwrap(),
                backend: input_validation::Backend::Cpu,
                name: "cpu".into(),
                memory_total_bytes: 2,
                memory_free_bytes: 1,
                driver: None,
                compute_capability: None,
            }],
            status: NodeStatus::Reachable,
            last_connected: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            last_error: None,
        };
        Store::open(&Home::at(dir.path()))
            .unwrap()
            .save_node(&node)
            .unwrap();
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        assert_eq!(store.nodes().unwrap(), [node.clone()]);
        node.status = NodeStatus::Unreachable;
        node.last_error = Some("connection refused".into());
        store.save_node(&node).unwrap();
        assert_eq!(store.nodes().unwrap(), [node]);
    }
}
