use std::path::{Path, PathBuf};

use diagnostics::{Code, Diagnostic};
use rusqlite::{Connection, ErrorCode};
use rusqlite_migration::{M, Migrations};

/// How long a statement waits for another process's lock, in milliseconds.
const BUSY_MS: u32 = 5000;

/// One SQLite file in the schema of this version.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    connection: Connection,
}

impl Database {
    /// Opens the file and brings it to the newest schema.
    pub(crate) fn open(path: &Path, migrations: &[M<'_>]) -> Result<Self, Diagnostic> {
        let newest = migrations.len() as i64;
        let mut connection = Connection::open(path).map_err(|e| unusable(path, &e))?;
        let found = check(&connection).map_err(|e| unusable(path, &e))?;
        if found.damage != "ok" {
            return Err(damaged(path, &found.damage));
        }
        if found.version > newest {
            return Err(Diagnostic::new(
                Code::StateTooNew,
                format!(
                    "{} has schema {}, this rbee knows up to {newest}",
                    path.display(),
                    found.version
                ),
            )
            .hint("run the newer rbee that wrote it, or set `RBEE_HOME` to another folder")
            .detail("schema", found.version)
            .detail("newest_known", newest));
        }
        if found.version == 0 && found.tables > 0 {
            return Err(damaged(path, "it holds tables that are not rbee's"));
        }
        if (1..newest).contains(&found.version) {
            back_up(&connection, path, found.version)?;
        }
        let prepared = connection
            .pragma_update(None, "journal_mode", "WAL")
            // A generation that was given out must not be given out again after a power cut.
            .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
            .and_then(|()| connection.pragma_update(None, "busy_timeout", BUSY_MS));
        prepared.map_err(|e| unusable(path, &e))?;
        Migrations::from_slice(migrations)
            .to_latest(&mut connection)
            .map_err(|e| damaged(path, &format!("its schema cannot be migrated: {e}")))?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// Runs `work` in a transaction.
    pub(crate) fn write<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Diagnostic> {
        let path = &self.path;
        let run = || {
            let transaction = self.connection.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|e| unusable(path, &e))
    }

    /// Runs `work`, which only reads.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Diagnostic> {
        work(&self.connection).map_err(|e| unusable(&self.path, &e))
    }
}

struct Found {
    version: i64,
    tables: i64,
    damage: String,
}

fn check(connection: &Connection) -> rusqlite::Result<Found> {
    Ok(Found {
        version: connection.query_row("PRAGMA user_version", [], |row| row.get(0))?,
        tables: connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        damage: connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?,
    })
}

fn back_up(connection: &Connection, path: &Path, version: i64) -> Result<(), Diagnostic> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{version}.backup"));
    let backup = PathBuf::from(name);
    // A copy from an attempt that did not come to its end would stand in the way.
    match std::fs::remove_file(&backup) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(damaged(&backup, &e.to_string())),
    }
    let target = backup.to_string_lossy();
    connection
        .execute("VACUUM INTO ?1", [target.as_ref()])
        .map_err(|e| unusable(&backup, &e))?;
    Ok(())
}

fn damaged(path: &Path, cause: &str) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("{} cannot be used: {cause}", path.display()),
    )
    .hint(format!(
        "move {} away (what it remembers is lost) or restore a copy of it",
        path.display()
    ))
}

fn unusable(path: &Path, error: &rusqlite::Error) -> Diagnostic {
    let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
    let mut diagnostic = damaged(path, &error.to_string());
    if full {
        diagnostic.code = Code::DiskFull;
        diagnostic.hint = Some("free space on the disk that holds rbee's state".to_owned());
    }
    diagnostic
}

/// Reads a column that holds a value in text form; one that this version cannot read is an
/// error of the row.
pub(crate) fn parsed<T>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get::<_, String>(column)?.parse().map_err(|e: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[M<'_>] = &[M::up("CREATE TABLE t (x INTEGER) STRICT;")];
    const V2: &[M<'_>] = &[
        M::up("CREATE TABLE t (x INTEGER) STRICT;"),
        M::up("ALTER TABLE t ADD COLUMN y INTEGER;"),
    ];

    #[test]
    fn an_older_file_is_copied_aside_and_then_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let mut old = Database::open(&path, V1).unwrap();
        old.write(|t| t.execute("INSERT INTO t VALUES (7)", []))
            .unwrap();
        drop(old);
        let new = Database::open(&path, V2).unwrap();
        let sum = "SELECT x FROM t WHERE y IS NULL";
        assert_eq!(
            new.read(|c| c.query_row(sum, [], |r| r.get::<_, i64>(0))),
            Ok(7)
        );
        let copy = Database::open(&dir.path().join("a.db.schema-1.backup"), V1).unwrap();
        assert_eq!(
            copy.read(|c| c.query_row("SELECT x FROM t", [], |r| r.get::<_, i64>(0))),
            Ok(7)
        );
    }

    #[test]
    fn a_newer_file_is_refused_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(Database::open(&path, V2).unwrap());
        let before = std::fs::read(&path).unwrap();
        let error = Database::open(&path, V1).unwrap_err();
        assert_eq!(error.code, Code::StateTooNew);
        assert!(error.hint.is_some());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let noise = dir.path().join("noise.db");
        std::fs::write(&noise, vec![7; 9000]).unwrap();
        let cut = dir.path().join("cut.db");
        let mut database = Database::open(&cut, V1).unwrap();
        for n in 0..2000 {
            database
                .write(|t| t.execute("INSERT INTO t VALUES (?1)", [n]))
                .unwrap();
        }
        drop(database);
        let bytes = std::fs::read(&cut).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        let foreign = dir.path().join("foreign.db");
        Connection::open(&foreign)
            .unwrap()
            .execute_batch("CREATE TABLE other (x)")
            .unwrap();
        for path in [noise, cut, foreign] {
            let error = Database::open(&path, V1).unwrap_err();
            assert_eq!(error.code, Code::StateUnusable, "{error}");
            assert!(error.message.contains(path.to_str().unwrap()));
        }
    }
}
