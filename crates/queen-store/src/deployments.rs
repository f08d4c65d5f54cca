use diagnostics::Diagnostic;
use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction};
use rusqlite_migration::M;

use crate::{Store, database::parsed};

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
)];

const COLUMNS: &str = "model, node, device, worker_id, generation, created_at, last_error";

/// Where a model is served: at most one worker each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The model.
    pub model: ModelRef,
    /// The node.
    pub node: NodeName,
    /// Its device.
    pub device: DeviceId,
}

/// A model that is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRow {
    /// What is served where.
    pub place: Place,
    /// The worker's name, the deployment's for good.
    pub worker_id: WorkerId,
    /// The last spawn of it; 0 before the first.
    pub generation: Generation,
    /// When the first request asked for it.
    pub created_at: Timestamp,
    /// Why the last start failed.
    pub last_error: Option<String>,
}

impl Store {
    /// What is to be served, by model.
    pub fn deployments(&self) -> Result<Vec<DeploymentRow>, Diagnostic> {
        self.queen.read(|connection| {
            connection
                .prepare(&format!(
                    "SELECT {COLUMNS} FROM deployments ORDER BY model, node, device"
                ))?
                .query_map([], deployment)?
                .collect()
        })
    }

    /// The deployment of this place, made at `now` if there is none. A new one's worker is
    /// named `<slug>-<n>` with the lowest free n.
    pub fn deploy(&mut self, place: &Place, now: Timestamp) -> Result<DeploymentRow, Diagnostic> {
        self.queen.write(|transaction| {
            if let Some(row) = find(transaction, place)? {
                return Ok(row);
            }
            let worker_id = free_name(transaction, &slug(&place.model))?;
            transaction.execute(
                "INSERT INTO deployments (model, node, device, worker_id, generation, created_at)
                 VALUES (?1, ?2, ?3, ?4, 0, ?5)",
                (
                    place.model.to_string(),
                    place.node.as_str(),
                    place.device.to_string(),
                    worker_id,
                    now.to_string(),
                ),
            )?;
            find(transaction, place)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })
    }

    /// Forgets the deployment of this worker.
    pub fn undeploy(&mut self, worker: &WorkerId) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute(
                "DELETE FROM deployments WHERE worker_id = ?1",
                [worker.as_str()],
            )?;
            Ok(())
        })
    }

    /// Where the queen listened last: workers that outlived it send their heartbeats there.
    pub fn last_port(&self) -> Result<Option<u16>, Diagnostic> {
        self.queen.read(|connection| {
            connection
                .query_row("SELECT port FROM last_port", [], |row| row.get(0))
                .optional()
        })
    }

    /// Remembers where the queen listens.
    pub fn set_last_port(&mut self, port: u16) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute("INSERT OR REPLACE INTO last_port VALUES (0, ?1)", [port])?;
            Ok(())
        })
    }

    /// Takes the next generation for a spawn of this worker: higher than every one taken
    /// before, in any run of the queen, and than `seen`, the highest seen elsewhere.
    pub fn next_generation(
        &mut self,
        worker: &WorkerId,
        seen: Generation,
    ) -> Result<Generation, Diagnostic> {
        self.queen.write(|transaction| {
            let next: i64 = transaction.query_row(
                "UPDATE generations SET last = max(last, ?1) + 1 RETURNING last",
                [seen.0.cast_signed()],
                |row| row.get(0),
            )?;
            transaction.execute(
                "UPDATE deployments SET generation = ?2 WHERE worker_id = ?1",
                (worker.as_str(), next),
            )?;
            Ok(Generation(next.cast_unsigned()))
        })
    }

    /// Writes why the last start of this worker failed, or that it did not.
    pub fn set_last_error(
        &mut self,
        worker: &WorkerId,
        error: Option<&str>,
    ) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            transaction.execute(
                "UPDATE deployments SET last_error = ?2 WHERE worker_id = ?1",
                (worker.as_str(), error),
            )?;
            Ok(())
        })
    }

    /// Remembers that generations of the worker below `lowest` must not serve again.
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

    /// The lowest generation that may serve, of every worker that was ever stopped.
    pub fn fences(&self) -> Result<Vec<(WorkerId, Generation)>, Diagnostic> {
        self.queen.read(|connection| {
            connection
                .prepare("SELECT worker_id, lowest FROM fences")?
                .query_map([], |row| Ok((parsed(row, 0)?, generation(row, 1)?)))?
                .collect()
        })
    }
}

fn find(transaction: &Transaction<'_>, place: &Place) -> rusqlite::Result<Option<DeploymentRow>> {
    transaction
        .query_row(
            &format!(
                "SELECT {COLUMNS} FROM deployments WHERE model = ?1 AND node = ?2 AND device = ?3"
            ),
            (
                place.model.to_string(),
                place.node.as_str(),
                place.device.to_string(),
            ),
            deployment,
        )
        .optional()
}

fn free_name(transaction: &Transaction<'_>, slug: &str) -> rusqlite::Result<String> {
    let mut statement = transaction.prepare("SELECT 1 FROM deployments WHERE worker_id = ?1")?;
    let mut n = 0_u64;
    loop {
        let name = format!("{slug}-{n}");
        if !statement.exists([&name])? {
            return Ok(name);
        }
        n += 1;
    }
}

fn deployment(row: &Row<'_>) -> rusqlite::Result<DeploymentRow> {
    Ok(DeploymentRow {
        place: Place {
            model: parsed(row, 0)?,
            node: parsed(row, 1)?,
            device: parsed(row, 2)?,
        },
        worker_id: parsed(row, 3)?,
        generation: generation(row, 4)?,
        created_at: parsed(row, 5)?,
        last_error: row.get(6)?,
    })
}

fn generation(row: &Row<'_>, column: usize) -> rusqlite::Result<Generation> {
    Ok(Generation(row.get::<_, i64>(column)?.cast_unsigned()))
}

/// A short name for workers of a model: lower case letters, digits and single dashes.
fn slug(model: &ModelRef) -> String {
    let source = match model {
        ModelRef::Builtin {
            name,
            variant: Some(variant),
        } => format!("{name}-{variant}"),
        ModelRef::Builtin { name, .. } => name.clone(),
        ModelRef::File(path) => {
            let name = path.rsplit('/').find(|part| !part.is_empty());
            let name = name.unwrap_or("file");
            name.strip_suffix(".gguf").unwrap_or(name).to_owned()
        }
        ModelRef::Mock(_) => "mock".to_owned(),
    };
    let words: Vec<String> = source
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    // A worker id has 64 characters at the most, and the number needs some of them.
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

    fn place(model: &str) -> Place {
        Place {
            model: model.parse().unwrap(),
            node: "local".parse().unwrap(),
            device: "CPU-0".parse().unwrap(),
        }
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn a_deployment_is_made_once_and_names_its_worker() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        let first = store.deploy(&place("builtin:haiku"), now()).unwrap();
        assert_eq!(first.worker_id.as_str(), "haiku-0");
        assert_eq!(first.generation, Generation(0));
        drop(store);
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        assert_eq!(store.deploy(&place("builtin:haiku"), now()).unwrap(), first);
        for (model, worker) in [
            ("builtin:haiku@q8_0", "haiku-q8-0-0"),
            ("file:/models/My Model (v2).gguf", "my-model-v2-0"),
            ("file:/other/my-model-v2", "my-model-v2-1"),
            ("file:/é", "model-0"),
            ("mock:load_ms=1", "mock-0"),
            ("mock:load_ms=2", "mock-1"),
        ] {
            let row = store.deploy(&place(model), now()).unwrap();
            assert_eq!(row.worker_id.as_str(), worker, "{model}");
        }
        let long = format!("file:/{}.gguf", "x".repeat(200));
        store.deploy(&place(&long), now()).unwrap();
        assert_eq!(store.deployments().unwrap().len(), 8);
    }

    #[test]
    fn generations_only_go_up_over_restarts_and_over_what_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = Generation(0);
        for seen in [0, 0, 50, 3] {
            let mut store = Store::open(&Home::at(dir.path())).unwrap();
            let row = store.deploy(&place("builtin:haiku"), now()).unwrap();
            let next = store
                .next_generation(&row.worker_id, Generation(seen))
                .unwrap();
            assert!(next > last && next.0 > seen);
            assert_eq!(store.deployments().unwrap()[0].generation, next);
            last = next;
        }
    }

    #[test]
    fn what_is_undeployed_is_gone_and_the_port_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        let id = store.deploy(&place("mock:a=1"), now()).unwrap().worker_id;
        store.undeploy(&id).unwrap();
        assert_eq!(store.deployments().unwrap(), []);
        assert_eq!(store.last_port().unwrap(), None);
        for port in [8500, 41234] {
            store.set_last_port(port).unwrap();
            assert_eq!(store.last_port().unwrap(), Some(port));
        }
    }

    #[test]
    fn fences_and_errors_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        let id = store
            .deploy(&place("builtin:haiku"), now())
            .unwrap()
            .worker_id;
        store.fence(&id, Generation(5)).unwrap();
        store.fence(&id, Generation(3)).unwrap();
        store.set_last_error(&id, Some("exit 1")).unwrap();
        drop(store);
        let mut store = Store::open(&Home::at(dir.path())).unwrap();
        assert_eq!(store.fences().unwrap(), [(id.clone(), Generation(5))]);
        assert_eq!(
            store.deployments().unwrap()[0].last_error.as_deref(),
            Some("exit 1")
        );
        store.set_last_error(&id, None).unwrap();
        assert_eq!(store.deployments().unwrap()[0].last_error, None);
    }
}
