use diagnostics::Diagnostic;
use input_validation::{DeviceId, EngineName, Generation, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, types::ValueRef};
use rusqlite_migration::M;
use sqlite_file::parsed;

use crate::Store;

pub(crate) const MIGRATIONS: &[M<'_>] = &[M::up(
    "CREATE TABLE deployments (
        model TEXT NOT NULL,
        node TEXT NOT NULL,
        device TEXT NOT NULL,
        worker_id TEXT NOT NULL UNIQUE,
        generation INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        last_error TEXT,
        PRIMARY KEY (model, node, device)
    ) STRICT;
    CREATE TABLE generations (only_row INTEGER PRIMARY KEY CHECK (only_row = 0), last INTEGER NOT NULL)
        STRICT;
    INSERT INTO generations VALUES (0, 0);
    CREATE TABLE fences (worker_id TEXT PRIMARY KEY, lowest INTEGER NOT NULL) STRICT;
    CREATE TABLE last_port (only_row INTEGER PRIMARY KEY CHECK (only_row = 0), port INTEGER NOT NULL)
        STRICT;",
), M::up("ALTER TABLE deployments ADD COLUMN engine TEXT;"),
M::up(
    "ALTER TABLE deployments RENAME TO workers;
    CREATE TABLE deployments (model TEXT PRIMARY KEY, wanted TEXT NOT NULL) STRICT;",
)];

const COLUMNS: &str = "model, node, device, worker_id, generation, created_at, last_error, engine";

/// Where a worker of a model runs: there is at most one for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerKey {
    pub model: ModelRef,
    pub node: NodeName,
    pub device: DeviceId,
}

/// A worker that has been spawned, running or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    pub key: WorkerKey,
    /// Never changes.
    pub worker_id: WorkerId,
    /// Generation of the last spawn; 0 before the first.
    pub generation: Generation,
    /// Time of the first spawn.
    pub created_at: Timestamp,
    /// Error of the last spawn, if it failed.
    pub last_error: Option<String>,
    /// Engine that a user named for it.
    pub engine: Option<EngineName>,
}

impl Store {
    /// Returns the workers, ordered by model, node and device.
    pub fn workers(&self) -> Result<Vec<WorkerRow>, Diagnostic> {
        self.queen.read(|connection| {
            connection
                .prepare(&format!(
                    "SELECT {COLUMNS} FROM workers ORDER BY model, node, device"
                ))?
                .query_map([], worker)?
                .collect()
        })
    }

    /// Returns the worker with this key; creates a missing one with the time `now`. A new one has
    /// the id `<slug>-<n>` with the lowest unused n.
    pub fn worker_for(&mut self, key: &WorkerKey, now: Timestamp) -> Result<WorkerRow, Diagnostic> {
        self.queen.write(|transaction| {
            if let Some(row) = find(transaction, key)? {
                return Ok(row);
            }
            let worker_id = unused_worker_id(transaction, &slug(&key.model))?;
            transaction.execute(
                "INSERT INTO workers (model, node, device, worker_id, generation, created_at)
                 VALUES (?1, ?2, ?3, ?4, 0, ?5)",
                (
                    key.model.to_string(),
                    key.node.as_str(),
                    key.device.to_string(),
                    worker_id,
                    now.to_string(),
                ),
            )?;
            find(transaction, key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })
    }

    /// Forgets this worker.
    pub fn forget_worker(&mut self, worker: &WorkerId) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute(
                "DELETE FROM workers WHERE worker_id = ?1",
                [worker.as_str()],
            )?;
            Ok(())
        })
    }

    /// Forgets the errors of the last spawns of a model's workers.
    pub fn clear_errors(&mut self, model: &ModelRef) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute(
                "UPDATE workers SET last_error = NULL WHERE model = ?1",
                [model.to_string()],
            )?;
            Ok(())
        })
    }

    /// Forgets the workers on a node.
    pub fn forget_node(&mut self, node: &NodeName) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute("DELETE FROM workers WHERE node = ?1", [node.as_str()])?;
            Ok(())
        })
    }

    /// Returns the port on which the queen listened last, to which workers that outlived it
    /// send heartbeats.
    pub fn last_port(&self) -> Result<Option<u16>, Diagnostic> {
        self.queen.read(|connection| {
            connection
                .query_row("SELECT port FROM last_port", [], |row| row.get(0))
                .optional()
        })
    }

    /// Stores the port on which the queen listens.
    pub fn set_last_port(&mut self, port: u16) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute("INSERT OR REPLACE INTO last_port VALUES (0, ?1)", [port])?;
            Ok(())
        })
    }

    /// Allocates a generation for a spawn of this worker. It is higher than all generations
    /// that were allocated before, in any run of the queen, and than `highest_seen`, the
    /// highest one among running workers.
    pub fn next_generation(
        &mut self,
        worker: &WorkerId,
        highest_seen: Generation,
    ) -> Result<Generation, Diagnostic> {
        self.queen.write(|transaction| {
            let next: i64 = transaction.query_row(
                "UPDATE generations SET last = max(last, ?1) + 1 RETURNING last",
                [highest_seen.0.cast_signed()],
                |row| row.get(0),
            )?;
            transaction.execute(
                "UPDATE workers SET generation = ?2 WHERE worker_id = ?1",
                (worker.as_str(), next),
            )?;
            Ok(Generation(next.cast_unsigned()))
        })
    }

    /// Stores the error of the worker's last spawn; `None` if it succeeded.
    pub fn set_last_error(
        &mut self,
        worker: &WorkerId,
        error: Option<&str>,
    ) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute(
                "UPDATE workers SET last_error = ?2 WHERE worker_id = ?1",
                (worker.as_str(), error),
            )?;
            Ok(())
        })
    }

    /// Stores the engine that a user named for the worker; `None` lets the hive choose.
    pub fn set_engine(
        &mut self,
        worker: &WorkerId,
        engine: Option<&EngineName>,
    ) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute(
                "UPDATE workers SET engine = ?2 WHERE worker_id = ?1",
                (worker.as_str(), engine.map(EngineName::as_str)),
            )?;
            Ok(())
        })
    }

    /// Stores that generations of the worker below `lowest` must not serve again.
    pub fn fence(&mut self, worker: &WorkerId, lowest: Generation) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute(
                "INSERT INTO fences VALUES (?1, ?2) ON CONFLICT (worker_id)
                 DO UPDATE SET lowest = max(lowest, excluded.lowest)",
                (worker.as_str(), lowest.0.cast_signed()),
            )?;
            Ok(())
        })
    }

    /// Returns the lowest generation that may serve, for every worker that was ever stopped.
    pub fn fences(&self) -> Result<Vec<(WorkerId, Generation)>, Diagnostic> {
        self.queen.read(|connection| {
            connection
                .prepare("SELECT worker_id, lowest FROM fences")?
                .query_map([], |row| Ok((parsed(row, 0)?, generation(row, 1)?)))?
                .collect()
        })
    }
}

fn find(transaction: &Transaction<'_>, key: &WorkerKey) -> rusqlite::Result<Option<WorkerRow>> {
    transaction
        .query_row(
            &format!(
                "SELECT {COLUMNS} FROM workers WHERE model = ?1 AND node = ?2 AND device = ?3"
            ),
            (
                key.model.to_string(),
                key.node.as_str(),
                key.device.to_string(),
            ),
            worker,
        )
        .optional()
}

fn unused_worker_id(transaction: &Transaction<'_>, slug: &str) -> rusqlite::Result<String> {
    let mut statement = transaction.prepare("SELECT 1 FROM workers WHERE worker_id = ?1")?;
    let mut n = 0_u64;
    loop {
        let id = format!("{slug}-{n}");
        if !statement.exists([&id])? {
            return Ok(id);
        }
        n += 1;
    }
}

fn worker(row: &Row<'_>) -> rusqlite::Result<WorkerRow> {
    Ok(WorkerRow {
        key: WorkerKey {
            model: parsed(row, 0)?,
            node: parsed(row, 1)?,
            device: parsed(row, 2)?,
        },
        worker_id: parsed(row, 3)?,
        generation: generation(row, 4)?,
        created_at: parsed(row, 5)?,
        last_error: row.get(6)?,
        engine: match row.get_ref(7)? {
            ValueRef::Null => None,
            _ => Some(parsed(row, 7)?),
        },
    })
}

fn generation(row: &Row<'_>, column: usize) -> rusqlite::Result<Generation> {
    Ok(Generation(row.get::<_, i64>(column)?.cast_unsigned()))
}

/// Returns the last part of a path that is not empty, or an empty text.
fn last_segment(path: &str) -> &str {
    let last = path.rsplit('/').find(|part| !part.is_empty());
    last.unwrap_or_default()
}

/// Returns the start of the ids of a model's workers: lower case letters, digits and single
/// dashes.
fn slug(model: &ModelRef) -> String {
    let source = match model {
        ModelRef::Builtin {
            name,
            variant: Some(variant),
        } => &format!("{name}-{variant}"),
        ModelRef::Builtin { name, .. } => name,
        ModelRef::Hub { repository, .. } => last_segment(repository),
        ModelRef::Ollama { name, .. } => last_segment(name),
        ModelRef::File(path) => {
            let name = last_segment(path);
            name.strip_suffix(".gguf").unwrap_or(name)
        }
        ModelRef::Mock(_) => "mock",
    };
    let words: Vec<String> = source
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    // A worker id has at most 64 characters, and the number needs some of them.
    let mut slug: String = words.join("-").chars().take(48).collect();
    if slug.is_empty() {
        "model".clone_into(&mut slug);
    }
    slug
}

#[cfg(test)]
mod tests {
    use state_files::Home;

    use super::*;

    fn key(model: &str) -> WorkerKey {
        WorkerKey {
            model: model.parse().unwrap(),
            node: "local".parse().unwrap(),
            device: "CPU-0".parse().unwrap(),
        }
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn a_worker_is_created_once_with_an_id_from_its_model() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        let first = store.worker_for(&key("builtin:haiku"), now()).unwrap();
        assert_eq!(first.worker_id.as_str(), "haiku-0");
        assert_eq!(first.generation, Generation(0));
        drop(store);
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        assert_eq!(
            store.worker_for(&key("builtin:haiku"), now()).unwrap(),
            first
        );
        for (model, worker) in [
            ("builtin:haiku@q8_0", "haiku-q8-0-0"),
            ("file:/models/My Model (v2).gguf", "my-model-v2-0"),
            ("file:/other/my-model-v2", "my-model-v2-1"),
            ("file:/é", "model-0"),
            ("mock:load_ms=1", "mock-0"),
            ("mock:load_ms=2", "mock-1"),
        ] {
            let row = store.worker_for(&key(model), now()).unwrap();
            assert_eq!(row.worker_id.as_str(), worker, "{model}");
        }
        let long = format!("file:/{}.gguf", "x".repeat(200));
        store.worker_for(&key(&long), now()).unwrap();
        assert_eq!(store.workers().unwrap().len(), 8);
    }

    #[test]
    fn generations_increase_across_restarts_and_exceed_those_of_running_workers() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = Generation(0);
        for seen in [0, 0, 50, 3] {
            let mut store = Store::open(&Home::at(dir.path())).unwrap();
            let row = store.worker_for(&key("builtin:haiku"), now()).unwrap();
            let next = store
                .next_generation(&row.worker_id, Generation(seen))
                .unwrap();
            assert!(next > last && next.0 > seen);
            assert_eq!(store.workers().unwrap()[0].generation, next);
            last = next;
        }
    }

    #[test]
    fn only_the_worker_that_is_named_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        let first = store.worker_for(&key("mock:a=1"), now()).unwrap();
        let second = store.worker_for(&key("mock:a=2"), now()).unwrap();
        store.forget_worker(&first.worker_id).unwrap();
        assert_eq!(store.workers().unwrap(), [second]);
        // The id is unused again.
        let again = store.worker_for(&key("mock:a=1"), now()).unwrap();
        assert_eq!(again.worker_id, first.worker_id);
    }

    #[test]
    fn the_last_port_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        assert_eq!(store.last_port().unwrap(), None);
        for port in [8500, 41234] {
            store.set_last_port(port).unwrap();
            drop(store);
            store = Store::open(&Home::at(dir.path())).unwrap();
            assert_eq!(store.last_port().unwrap(), Some(port));
        }
    }

    #[test]
    fn fences_and_errors_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        let id = store
            .worker_for(&key("builtin:haiku"), now())
            .unwrap()
            .worker_id;
        store.fence(&id, Generation(5)).unwrap();
        store.fence(&id, Generation(3)).unwrap();
        store.set_last_error(&id, Some("exit 1")).unwrap();
        drop(store);
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        assert_eq!(store.fences().unwrap(), [(id.clone(), Generation(5))]);
        assert_eq!(
            store.workers().unwrap()[0].last_error.as_deref(),
            Some("exit 1")
        );
        store.set_last_error(&id, None).unwrap();
        assert_eq!(store.workers().unwrap()[0].last_error, None);
    }
}
