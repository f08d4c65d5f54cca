//! The database of models: rows in, rows out.

use std::path::{Path, PathBuf};

use diagnostics::Diagnostic;
use input_validation::{ModelAlias, ModelRef};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};
use rusqlite_migration::M;
use sqlite_file::{Database, parsed};
use state_files::ModelFile;
use worker_contract::SamplingValues;

use crate::fingerprint::Fingerprint;

const OWNER: &str = "hive";

const MIGRATIONS: &[M<'_>] = &[M::up(
    "CREATE TABLE models (
        model TEXT PRIMARY KEY,
        directory TEXT,
        entry TEXT NOT NULL,
        revision TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        safetensors INTEGER NOT NULL,
        architecture TEXT NOT NULL,
        quantization TEXT NOT NULL,
        context_length INTEGER NOT NULL,
        parameters INTEGER NOT NULL,
        sampling TEXT NOT NULL,
        added_at TEXT NOT NULL,
        last_used_at TEXT,
        problem TEXT,
        loaded TEXT
    ) STRICT;
    CREATE TABLE files (
        model TEXT NOT NULL REFERENCES models (model) ON DELETE CASCADE,
        path TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (model, path)
    ) STRICT;
    CREATE TABLE requested (
        reference TEXT PRIMARY KEY,
        model TEXT NOT NULL,
        revision TEXT NOT NULL
    ) STRICT;
    CREATE INDEX requested_by_model ON requested (model);
    CREATE TABLE aliases (name TEXT PRIMARY KEY, model TEXT NOT NULL) STRICT;",
)];

const COLUMNS: &str = "model, directory, entry, revision, sha256, size_bytes, safetensors, \
     architecture, quantization, context_length, parameters, sampling, added_at, last_used_at, \
     problem, loaded";

/// A model with files of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelRow {
    pub(crate) model: ModelRef,
    /// Name of the directory of a fetched model; `None` for files of the user.
    pub(crate) directory: Option<String>,
    /// What a worker opens: below the directory's files, or absolute.
    pub(crate) entry: String,
    pub(crate) revision: String,
    pub(crate) sha256: String,
    pub(crate) size_bytes: u64,
    pub(crate) safetensors: bool,
    pub(crate) architecture: String,
    pub(crate) quantization: String,
    pub(crate) context_length: u32,
    pub(crate) parameters: u64,
    pub(crate) sampling: SamplingValues,
    pub(crate) added_at: Timestamp,
    pub(crate) last_used_at: Option<Timestamp>,
    /// What the last verification found.
    pub(crate) problem: Option<String>,
    /// The files as the last worker found them.
    pub(crate) loaded: Option<Fingerprint>,
}

/// A reference by which a model was requested, and what it stands for since then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) reference: ModelRef,
    pub(crate) model: ModelRef,
    pub(crate) revision: String,
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Rows(Database);

impl Rows {
    /// Opens the database. A damaged file is renamed; the new name is returned.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<PathBuf>), Diagnostic> {
        let (database, aside) = Database::open_or_replace(path, OWNER, MIGRATIONS)?;
        Ok((Self(database), aside))
    }

    /// Checks that a file is a usable copy of the database. An older one is migrated.
    pub(crate) fn check(path: &Path) -> Result<(), Diagnostic> {
        Database::open(path, OWNER, MIGRATIONS).map(drop)
    }

    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), Diagnostic> {
        self.0.copy_to(path)
    }

    /// The model that this reference stands for, as its own or as a requested one.
    pub(crate) fn find(&self, reference: &ModelRef) -> Result<Option<ModelRow>, Diagnostic> {
        let reference = reference.to_string();
        self.0.read(|connection| {
            let query = format!(
                "SELECT {COLUMNS} FROM models WHERE model = ?1
                 UNION ALL SELECT {COLUMNS} FROM models WHERE model =
                 (SELECT model FROM requested WHERE reference = ?1) LIMIT 1"
            );
            connection
                .query_row(&query, [&reference], model_row)
                .optional()
        })
    }

    /// All models, ordered by reference.
    pub(crate) fn all(&self) -> Result<Vec<ModelRow>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .prepare(&format!("SELECT {COLUMNS} FROM models ORDER BY model"))?
                .query_map([], model_row)?
                .collect()
        })
    }

    pub(crate) fn files(&self, model: &ModelRef) -> Result<Vec<ModelFile>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .prepare(
                    "SELECT path, size_bytes, sha256 FROM files WHERE model = ?1 ORDER BY path",
                )?
                .query_map([model.to_string()], |row| {
                    Ok(ModelFile {
                        path: row.get(0)?,
                        size_bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                        sha256: row.get(2)?,
                    })
                })?
                .collect()
        })
    }

    /// Inserts or replaces a model with its files, and the reference that it was requested by.
    pub(crate) fn save(
        &mut self,
        row: &ModelRow,
        files: &[ModelFile],
        requested: Option<&ModelRef>,
    ) -> Result<(), Diagnostic> {
        let sampling = serde_json::to_string(&row.sampling).map_err(Diagnostic::internal)?;
        let loaded = row.loaded.map(|loaded| loaded.to_string());
        self.0.write(|transaction| {
            remove_row(transaction, &row.model)?;
            transaction.execute(
                &format!(
                    "INSERT INTO models ({COLUMNS}) VALUES
                     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
                ),
                rusqlite::params![
                    row.model.to_string(),
                    row.directory,
                    row.entry,
                    row.revision,
                    row.sha256,
                    row.size_bytes.cast_signed(),
                    row.safetensors,
                    row.architecture,
                    row.quantization,
                    row.context_length,
                    row.parameters.cast_signed(),
                    sampling,
                    row.added_at.to_string(),
                    row.last_used_at.map(|time| time.to_string()),
                    row.problem,
                    loaded,
                ],
            )?;
            for file in files {
                transaction.execute(
                    "INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4)",
                    (
                        row.model.to_string(),
                        &file.path,
                        file.size_bytes.cast_signed(),
                        &file.sha256,
                    ),
                )?;
            }
            if let Some(reference) = requested {
                pin(transaction, reference, &row.model, &row.revision)?;
            }
            Ok(())
        })
    }

    /// Records that a worker is about to load a model.
    pub(crate) fn use_model(
        &mut self,
        model: &ModelRef,
        now: Timestamp,
        loaded: Option<Fingerprint>,
    ) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            transaction.execute(
                "UPDATE models SET last_used_at = ?2, loaded = ?3 WHERE model = ?1",
                (
                    model.to_string(),
                    now.to_string(),
                    loaded.map(|loaded| loaded.to_string()),
                ),
            )?;
            Ok(())
        })
    }

    pub(crate) fn set_problem(
        &mut self,
        model: &ModelRef,
        problem: Option<&str>,
    ) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            transaction.execute(
                "UPDATE models SET problem = ?2 WHERE model = ?1",
                (model.to_string(), problem),
            )?;
            Ok(())
        })
    }

    /// Removes a model and what was requested for it.
    pub(crate) fn remove(&mut self, model: &ModelRef) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            remove_row(transaction, model)?;
            transaction.execute(
                "DELETE FROM requested WHERE model = ?1",
                [model.to_string()],
            )?;
            Ok(())
        })
    }

    /// Removes a model whose files are gone, and keeps its pinned revision.
    pub(crate) fn forget(&mut self, model: &ModelRef) -> Result<(), Diagnostic> {
        self.0.write(|transaction| remove_row(transaction, model))
    }

    pub(crate) fn pin(
        &mut self,
        reference: &ModelRef,
        model: &ModelRef,
        revision: &str,
    ) -> Result<(), Diagnostic> {
        self.0
            .write(|transaction| pin(transaction, reference, model, revision))
    }

    /// What a reference was resolved to, whether or not the files are complete.
    pub(crate) fn pinned(&self, reference: &ModelRef) -> Result<Option<Pin>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .query_row(
                    "SELECT reference, model, revision FROM requested WHERE reference = ?1",
                    [reference.to_string()],
                    pin_row,
                )
                .optional()
        })
    }

    pub(crate) fn pins(&self) -> Result<Vec<Pin>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .prepare("SELECT reference, model, revision FROM requested ORDER BY reference")?
                .query_map([], pin_row)?
                .collect()
        })
    }

    pub(crate) fn aliases(&self) -> Result<Vec<(ModelAlias, ModelRef)>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .prepare("SELECT name, model FROM aliases ORDER BY name")?
                .query_map([], |row| Ok((parsed(row, 0)?, parsed(row, 1)?)))?
                .collect()
        })
    }

    pub(crate) fn set_alias(
        &mut self,
        name: &ModelAlias,
        model: &ModelRef,
    ) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO aliases VALUES (?1, ?2)",
                (name.as_str(), model.to_string()),
            )?;
            Ok(())
        })
    }

    /// Returns whether there was such an alias.
    pub(crate) fn remove_alias(&mut self, name: &ModelAlias) -> Result<bool, Diagnostic> {
        self.0.write(|transaction| {
            let removed =
                transaction.execute("DELETE FROM aliases WHERE name = ?1", [name.as_str()])?;
            Ok(removed > 0)
        })
    }
}

fn remove_row(transaction: &Transaction<'_>, model: &ModelRef) -> rusqlite::Result<()> {
    let model = model.to_string();
    // Foreign keys are not enforced by default.
    transaction.execute("DELETE FROM files WHERE model = ?1", [&model])?;
    transaction.execute("DELETE FROM models WHERE model = ?1", [&model])?;
    Ok(())
}

fn pin(
    connection: &Connection,
    reference: &ModelRef,
    model: &ModelRef,
    revision: &str,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO requested VALUES (?1, ?2, ?3)",
        (reference.to_string(), model.to_string(), revision),
    )?;
    Ok(())
}

fn pin_row(row: &Row<'_>) -> rusqlite::Result<Pin> {
    Ok(Pin {
        reference: parsed(row, 0)?,
        model: parsed(row, 1)?,
        revision: row.get(2)?,
    })
}

fn model_row(row: &Row<'_>) -> rusqlite::Result<ModelRow> {
    let time = |column| -> rusqlite::Result<Option<Timestamp>> {
        Ok(row
            .get::<_, Option<String>>(column)?
            .and_then(|time| time.parse().ok()))
    };
    Ok(ModelRow {
        model: parsed(row, 0)?,
        directory: row.get(1)?,
        entry: row.get(2)?,
        revision: row.get(3)?,
        sha256: row.get(4)?,
        size_bytes: row.get::<_, i64>(5)?.cast_unsigned(),
        safetensors: row.get(6)?,
        architecture: row.get(7)?,
        quantization: row.get(8)?,
        context_length: row.get(9)?,
        parameters: row.get::<_, i64>(10)?.cast_unsigned(),
        // A recommendation that this version cannot read is no reason to lose the model.
        sampling: serde_json::from_str(&row.get::<_, String>(11)?).unwrap_or_default(),
        added_at: parsed(row, 12)?,
        last_used_at: time(13)?,
        problem: row.get(14)?,
        loaded: row
            .get::<_, Option<String>>(15)?
            .and_then(|text| text.parse().ok()),
    })
}
