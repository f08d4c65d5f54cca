use diagnostics::Code;
use hive_contract::Device;
use queen_contract::{GpuYield, NodeSpec, YieldNow};
use rusqlite::Connection;
use serde_json::json;

use super::*;

fn spec(document: serde_json::Value) -> NodeSpec {
    serde_json::from_value(document).unwrap()
}

pub(crate) fn entry(name: &str, spec: NodeSpec) -> NodeEntry {
    NodeEntry {
        name: name.parse().unwrap(),
        spec,
        hive_url: Some("http://127.0.0.1:9200".into()),
        hive_version: Some("0.1.0".into()),
        hive_service: None,
        devices: vec![Device {
            id: "CPU-0".parse().unwrap(),
            backend: input_validation::Backend::Cpu,
            name: "cpu".into(),
            memory_total_bytes: 2,
            memory_free_bytes: 1,
            driver: None,
            compute_capability: None,
            processes: Vec::new(),
        }],
        status: NodeStatus::Reachable,
        last_connected: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        last_error: None,
        gpu_yield: GpuYield::default(),
        yielded: Vec::new(),
        power: NodePower::default(),
    }
}

/// One node of every kind, ordered by name.
fn entries() -> Vec<NodeEntry> {
    vec![
        entry("alias", spec(json!({"link": "ssh", "host": "gpu-box"}))),
        entry(
            "attic",
            spec(json!({
                "link": "direct", "url": "http://192.0.2.7:9200",
                "queen_url": "http://192.0.2.1:8500", "allow_unencrypted": true,
            })),
        ),
        entry(
            "cellar",
            spec(json!({
                "link": "direct", "url": "https://192.0.2.9:9200",
                "certificate": "ab".repeat(32),
            })),
        ),
        entry(
            "garage",
            spec(json!({
                "link": "ssh", "host": "192.0.2.8", "port": 2222, "user": "me@example.org",
                "key_file": "/srv/me/.ssh/it's $(a) key", "directory": "~/my rbee; x",
                "repository": "ssh://git@git.example:22/rbee.git", "branch": "v0.1.0",
            })),
        ),
        entry("laptop", NodeSpec::Joined),
        entry("local", NodeSpec::Local),
    ]
}

#[test]
fn nodes_of_every_kind_are_restored_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let mut registry = NodeRegistry::open(&home).unwrap();
    for node in entries() {
        registry.save(&node).unwrap();
    }
    drop(registry);
    let mut registry = NodeRegistry::open(&home).unwrap();
    assert_eq!(registry.nodes().unwrap(), entries());

    let mut changed = entries().remove(0);
    changed.status = NodeStatus::Unreachable;
    changed.last_error = Some("connection refused".into());
    changed.spec = spec(json!({"link": "direct", "url": "http://127.0.0.1:9"}));
    registry.save(&changed).unwrap();
    assert_eq!(registry.nodes().unwrap()[0], changed);

    let mut late = entries().remove(0);
    late.last_error = Some("late".into());
    registry.save_state(&late).unwrap();
    let stored = registry.nodes().unwrap().remove(0);
    assert_eq!(stored.spec, changed.spec, "only the state is replaced");
    assert_eq!(stored.last_error, late.last_error);

    registry.remove(&changed.name).unwrap();
    registry.save_state(&late).unwrap();
    registry.remove(&changed.name).unwrap();
    assert_eq!(registry.nodes().unwrap(), entries()[1..]);
}

#[test]
fn a_node_that_is_asleep_stays_asleep_and_keeps_how_it_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let mut registry = NodeRegistry::open(&home).unwrap();
    let mut node = entry("attic", NodeSpec::Joined);
    registry.save(&node).unwrap();
    node.power = serde_json::from_value(json!({
        "reported": {"can_suspend": true, "cards": [
            {"name": "enp3s0", "mac": "52:54:00:12:34:56", "wakes": true},
        ]},
        "asleep": {"since": "2026-01-02T03:04:05Z", "cause": "idle"},
    }))
    .unwrap();
    node.status = NodeStatus::Asleep;
    registry.save_state(&node).unwrap();
    let settings: PowerSettings = serde_json::from_value(json!({
        "mac": "52:54:00:00:00:01", "wake_address": "192.0.2.255", "sleep_after_seconds": 1800,
    }))
    .unwrap();
    registry.set_power(&node.name, &settings).unwrap();
    // The state that is saved later does not change what the user has set.
    registry.save_state(&node).unwrap();
    drop(registry);
    let mut registry = NodeRegistry::open(&home).unwrap();
    node.power.settings = settings;
    assert_eq!(registry.nodes().unwrap(), [node.clone()]);
    node.power.asleep = None;
    node.status = NodeStatus::Reachable;
    registry.save(&node).unwrap();
    assert_eq!(registry.nodes().unwrap(), [node]);
}

#[test]
fn a_database_of_the_first_schema_is_migrated_after_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let old = Connection::open(home.node_database()).unwrap();
    old.execute_batch(
        "CREATE TABLE nodes (
            name TEXT PRIMARY KEY,
            hive_url TEXT,
            devices TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('unknown', 'reachable', 'unreachable')),
            last_connected TEXT,
            last_error TEXT
        ) STRICT;
        INSERT INTO nodes VALUES ('local', NULL, '[]', 'unreachable', NULL, 'exit 1');
        PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let nodes = NodeRegistry::open(&home).unwrap().nodes().unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].spec, NodeSpec::Local);
    assert_eq!(nodes[0].last_error.as_deref(), Some("exit 1"));
    let backups = std::fs::read_dir(dir.path()).unwrap();
    let backups = backups.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".schema-1.backup")
    });
    assert_eq!(backups.count(), 1);
}

#[test]
fn a_node_of_the_second_schema_has_no_repository() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let mut registry = NodeRegistry::open(&home).unwrap();
    registry.save(&entries()[0]).unwrap();
    drop(registry);
    let old = Connection::open(home.node_database()).unwrap();
    old.execute_batch(
        "ALTER TABLE nodes DROP COLUMN repository;
        ALTER TABLE nodes DROP COLUMN branch;
        ALTER TABLE nodes DROP COLUMN certificate;
        ALTER TABLE nodes DROP COLUMN allow_unencrypted;
        ALTER TABLE nodes DROP COLUMN gpu_yield;
        DROP TABLE invitations;
        PRAGMA user_version = 2;",
    )
    .unwrap();
    drop(old);
    let nodes = NodeRegistry::open(&home).unwrap().nodes().unwrap();
    assert_eq!(nodes, entries()[..1]);
}

#[test]
fn a_value_that_no_parser_accepts_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let mut registry = NodeRegistry::open(&home).unwrap();
    registry.save(&entries()[0]).unwrap();
    let other = Connection::open(home.node_database()).unwrap();
    for column in ["ssh_host", "repository", "branch"] {
        let update = format!("UPDATE nodes SET {column} = ?1");
        other.execute(&update, ["-oProxyCommand=x"]).unwrap();
        let error = registry.nodes().unwrap_err();
        assert_eq!(error.code, Code::StateUnusable, "{column}");
        other.execute(&update, ["main"]).unwrap();
    }
}

#[test]
fn when_gpus_are_left_to_others_outlives_a_restart_and_reports_of_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let mut registry = NodeRegistry::open(&home).unwrap();
    let node = entries().remove(0);
    registry.save(&node).unwrap();
    let until = Some("2026-01-02T03:04:05Z".parse().unwrap());
    for wanted in [
        GpuYield::Never,
        GpuYield::Now(YieldNow { until: None }),
        GpuYield::Now(YieldNow { until }),
        GpuYield::Auto,
    ] {
        registry.set_gpu_yield(&node.name, wanted).unwrap();
        registry.save_state(&node).unwrap();
        drop(registry);
        registry = NodeRegistry::open(&home).unwrap();
        let stored = registry.nodes().unwrap().remove(0);
        assert_eq!(stored.gpu_yield, wanted);
        registry.save(&stored).unwrap();
        assert_eq!(registry.nodes().unwrap(), [stored]);
    }
}
