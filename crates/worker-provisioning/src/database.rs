//! The database of worker binaries: rows in, rows out.

use std::path::{Path, PathBuf};

use diagnostics::Diagnostic;
use hive_contract::BinarySource;
use input_validation::{BinaryVersion, FeatureName, PackageId, WorkerType};
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row};
use rusqlite_migration::M;
use sqlite_file::{Database, parsed};

use crate::fingerprint::Fingerprint;

const OWNER: &str = "hive";

const MIGRATIONS: &[M<'_>] = &[
    M::up(
        "CREATE TABLE binaries (
        worker_type TEXT NOT NULL,
        installation TEXT NOT NULL,
        version TEXT NOT NULL,
        features TEXT NOT NULL,
        entry TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        installed_at TEXT NOT NULL,
        source TEXT NOT NULL,
        origin TEXT NOT NULL,
        build_seconds REAL NOT NULL,
        status TEXT NOT NULL,
        PRIMARY KEY (worker_type, installation)
    ) STRICT;
    CREATE TABLE current (
        worker_type TEXT PRIMARY KEY,
        installation TEXT NOT NULL
    ) STRICT;",
    ),
    M::up(
        "CREATE TABLE approvals (
        key TEXT NOT NULL,
        package TEXT NOT NULL,
        pkgbuild TEXT NOT NULL,
        approved_at TEXT NOT NULL,
        PRIMARY KEY (key, package, pkgbuild)
    ) STRICT;",
    ),
];

/// That the user has agreed to build a package of the catalog with this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApprovalRow {
    pub(crate) key: String,
    pub(crate) package: PackageId,
    /// SHA-256 of the PKGBUILD; `None` stands for all that the key signs.
    pub(crate) pkgbuild: Option<String>,
}

const COLUMNS: &str = "worker_type, installation, version, features, entry, sha256, size_bytes, \
     fingerprint, installed_at, source, origin, build_seconds";

/// An installed version of a worker binary.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BinaryRow {
    pub(crate) worker_type: WorkerType,
    pub(crate) installation: BinaryVersion,
    pub(crate) version: BinaryVersion,
    pub(crate) features: Vec<FeatureName>,
    /// The program, below the files of its directory.
    pub(crate) entry: String,
    pub(crate) sha256: String,
    pub(crate) size_bytes: u64,
    /// The program as it was when its hash was last compared.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) installed_at: Timestamp,
    pub(crate) source: BinarySource,
    pub(crate) origin: String,
    pub(crate) build_seconds: f64,
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

    /// All binaries, ordered by type and time.
    pub(crate) fn all(&self) -> Result<Vec<BinaryRow>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .prepare(&format!(
                    "SELECT {COLUMNS} FROM binaries ORDER BY worker_type, installed_at, installation"
                ))?
                .query_map([], binary_row)?
                .collect()
        })
    }

    /// The binaries of a type, the oldest first.
    pub(crate) fn of(&self, worker_type: &WorkerType) -> Result<Vec<BinaryRow>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .prepare(&format!(
                    "SELECT {COLUMNS} FROM binaries WHERE worker_type = ?1
                     ORDER BY installed_at, installation"
                ))?
                .query_map([worker_type.as_str()], binary_row)?
                .collect()
        })
    }

    /// The installation that new workers run; `None` if none was ever selected.
    pub(crate) fn current(
        &self,
        worker_type: &WorkerType,
    ) -> Result<Option<BinaryVersion>, Diagnostic> {
        self.0.read(|connection| {
            connection
                .query_row(
                    "SELECT installation FROM current WHERE worker_type = ?1",
                    [worker_type.as_str()],
                    |row| parsed(row, 0),
                )
                .optional()
        })
    }

    /// Adds a binary; with `current`, new workers run it from now on.
    pub(crate) fn add(&mut self, row: &BinaryRow, current: bool) -> Result<(), Diagnostic> {
        let features = serde_json::to_string(&row.features).map_err(Diagnostic::internal)?;
        self.0.write(|transaction| {
            transaction.execute(
                &format!(
                    "INSERT OR REPLACE INTO binaries ({COLUMNS}, status) VALUES
                     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 'ready')"
                ),
                rusqlite::params![
                    row.worker_type.as_str(),
                    row.installation.as_str(),
                    row.version.as_str(),
                    features,
                    row.entry,
                    row.sha256,
                    row.size_bytes.cast_signed(),
                    row.fingerprint.0,
                    row.installed_at.to_string(),
                    row.source.as_str(),
                    row.origin,
                    row.build_seconds,
                ],
            )?;
            if current {
                transaction.execute(
                    "INSERT OR REPLACE INTO current VALUES (?1, ?2)",
                    (row.worker_type.as_str(), row.installation.as_str()),
                )?;
            }
            Ok(())
        })
    }

    /// Records that the file of a binary was found to be the installed one, or not.
    pub(crate) fn checked(
        &mut self,
        row: &BinaryRow,
        fingerprint: &Fingerprint,
        ready: bool,
    ) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            transaction.execute(
                "UPDATE binaries SET status = ?3, fingerprint = ?4
                 WHERE worker_type = ?1 AND installation = ?2",
                (
                    row.worker_type.as_str(),
                    row.installation.as_str(),
                    if ready { "ready" } else { "damaged" },
                    if ready {
                        &fingerprint.0
                    } else {
                        &row.fingerprint.0
                    },
                ),
            )?;
            Ok(())
        })
    }

    pub(crate) fn set_current(
        &mut self,
        worker_type: &WorkerType,
        installation: Option<&BinaryVersion>,
    ) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            match installation {
                Some(installation) => transaction.execute(
                    "INSERT OR REPLACE INTO current VALUES (?1, ?2)",
                    (worker_type.as_str(), installation.as_str()),
                )?,
                None => transaction.execute(
                    "DELETE FROM current WHERE worker_type = ?1",
                    [worker_type.as_str()],
                )?,
            };
            Ok(())
        })
    }

    /// Remembers that the user agrees.
    pub(crate) fn approve(&mut self, row: &ApprovalRow, at: Timestamp) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO approvals VALUES (?1, ?2, ?3, ?4)",
                (
                    &row.key,
                    row.package.as_str(),
                    row.pkgbuild.as_deref().unwrap_or_default(),
                    at.to_string(),
                ),
            )?;
            Ok(())
        })
    }

    /// Whether the user has agreed to this PKGBUILD of a package, or to all of it.
    pub(crate) fn is_approved(
        &self,
        key: &str,
        package: &PackageId,
        pkgbuild: &str,
    ) -> Result<bool, Diagnostic> {
        self.0.read(|connection| {
            connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM approvals
                 WHERE key = ?1 AND package = ?2 AND pkgbuild IN ('', ?3))",
                (key, package.as_str(), pkgbuild),
                |row| row.get(0),
            )
        })
    }

    pub(crate) fn remove(&mut self, row: &BinaryRow) -> Result<(), Diagnostic> {
        self.0.write(|transaction| {
            transaction.execute(
                "DELETE FROM binaries WHERE worker_type = ?1 AND installation = ?2",
                (row.worker_type.as_str(), row.installation.as_str()),
            )?;
            Ok(())
        })
    }
}

/// The source with this name, as [`BinarySource::as_str`] returns it.
pub(crate) fn source_named(name: &str) -> Option<BinarySource> {
    [
        BinarySource::Local,
        BinarySource::Git,
        BinarySource::Download,
        BinarySource::Package,
    ]
    .into_iter()
    .find(|source| source.as_str() == name)
}

fn binary_row(row: &Row<'_>) -> rusqlite::Result<BinaryRow> {
    Ok(BinaryRow {
        worker_type: parsed(row, 0)?,
        installation: parsed(row, 1)?,
        version: parsed(row, 2)?,
        features: serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default(),
        entry: row.get(4)?,
        sha256: row.get(5)?,
        size_bytes: row.get::<_, i64>(6)?.cast_unsigned(),
        fingerprint: Fingerprint(row.get(7)?),
        installed_at: parsed(row, 8)?,
        source: source_named(&row.get::<_, String>(9)?).unwrap_or(BinarySource::Local),
        origin: row.get(10)?,
        build_seconds: row.get(11)?,
    })
}
