use std::{
    io,
    path::{Path, PathBuf},
};

use diagnostics::{Code, Diagnostic};
use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use crate::errors;

/// How long a statement waits for another process's lock, in milliseconds.
const BUSY_MS: u32 = 5000;

/// A SQLite file with the newest schema.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    owner: &'static str,
    connection: Connection,
}

impl Database {
    /// Opens the file, creates it if it is missing, and migrates it to the newest schema.
    /// `owner` is the program that uses it, as users know it: `queen`.
    pub fn open(
        path: &Path,
        owner: &'static str,
        migrations: &[M<'_>],
    ) -> Result<Self, Diagnostic> {
        let newest = migrations.len() as i64;
        let sqlite = |error| errors::sqlite(path, owner, &error);
        let mut connection = Connection::open(path).map_err(sqlite)?;
        let state = inspect(&connection).map_err(sqlite)?;
        if state.integrity != "ok" {
            return Err(errors::unusable(path, owner, &state.integrity));
        }
        if state.schema > newest {
            return Err(errors::too_new(path, state.schema, newest));
        }
        if state.schema == 0 && state.tables > 0 {
            let cause = format!("its tables are not the {owner}'s");
            return Err(errors::unusable(path, owner, &cause));
        }
        if (1..newest).contains(&state.schema) {
            let backup = backup_path(path, state.schema);
            write_copy(&connection, &backup, owner)?;
        }
        connection
            .pragma_update(None, "journal_mode", "WAL")
            // A generation that was used must not be used again after a power failure.
            .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
            .and_then(|()| connection.pragma_update(None, "busy_timeout", BUSY_MS))
            .map_err(sqlite)?;
        Migrations::from_slice(migrations)
            .to_latest(&mut connection)
            .map_err(|e| {
                errors::unusable(path, owner, &format!("cannot migrate its schema: {e}"))
            })?;
        Ok(Self {
            path: path.to_owned(),
            owner,
            connection,
        })
    }

    /// Opens the file like [`open`](Self::open). A damaged file is renamed, with its journal, and
    /// a new one is created; the new name of the damaged one is returned.
    pub fn open_or_replace(
        path: &Path,
        owner: &'static str,
        migrations: &[M<'_>],
    ) -> Result<(Self, Option<PathBuf>), Diagnostic> {
        match Self::open(path, owner, migrations) {
            Ok(database) => Ok((database, None)),
            Err(error) if error.code == Code::StateUnusable && path.is_file() => {
                let aside = set_aside(path, owner)?;
                Ok((Self::open(path, owner, migrations)?, Some(aside)))
            }
            Err(error) => Err(error),
        }
    }

    /// Runs `work` in a transaction.
    pub fn write<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Diagnostic> {
        let (path, owner) = (&self.path, self.owner);
        let run = || {
            let transaction = self.connection.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|e| errors::sqlite(path, owner, &e))
    }

    /// Runs `work`, which must not write.
    pub fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Diagnostic> {
        work(&self.connection).map_err(|e| errors::sqlite(&self.path, self.owner, &e))
    }

    /// Writes a copy of the database to `target`, which is replaced.
    pub fn copy_to(&self, target: &Path) -> Result<(), Diagnostic> {
        write_copy(&self.connection, target, self.owner)
    }
}

/// The state of a file before it is used.
struct FileState {
    /// 0 for a new file.
    schema: i64,
    tables: i64,
    /// `ok`, or the first problem that SQLite found.
    integrity: String,
}

fn inspect(connection: &Connection) -> rusqlite::Result<FileState> {
    Ok(FileState {
        schema: connection.query_row("PRAGMA user_version", [], |row| row.get(0))?,
        tables: connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        integrity: connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?,
    })
}

/// The file for a backup of a database with this schema.
fn backup_path(path: &Path, schema: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{schema}.backup"));
    PathBuf::from(name)
}

/// Renames a damaged database. Its journal belongs to it and is renamed as well.
fn set_aside(path: &Path, owner: &str) -> Result<PathBuf, Diagnostic> {
    let named = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let mut free = (0..)
        .map(|n| format!(".damaged-{n}"))
        .filter(|end| !named(end).exists());
    let end = free.next().unwrap_or_default();
    for journal in ["-wal", "-shm", ""] {
        let from = named(journal);
        if from.exists() {
            std::fs::rename(&from, named(&format!("{end}{journal}")))
                .map_err(|e| errors::unusable(&from, owner, &e.to_string()))?;
        }
    }
    Ok(named(&end))
}

fn write_copy(
    connection: &Connection,
    target: &Path,
    owner: &'static str,
) -> Result<(), Diagnostic> {
    // `VACUUM INTO` fails if the file exists, as after a copy that was interrupted.
    match std::fs::remove_file(target) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(errors::unusable(target, owner, &e.to_string())),
    }
    let file = target.to_string_lossy();
    connection
        .execute("VACUUM INTO ?1", [file.as_ref()])
        .map_err(|e| errors::sqlite(target, owner, &e))?;
    Ok(())
}

/// Parses a text column. A value that this version cannot parse is an error of the row.
pub fn parsed<T>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T>
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

    /// The first row of the first column.
    fn first(database: &Database, query: &str) -> i64 {
        database
            .read(|c| c.query_row(query, [], |row| row.get(0)))
            .unwrap()
    }

    #[test]
    fn an_older_file_is_backed_up_and_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let mut old = Database::open(&path, "queen", V1).unwrap();
        old.write(|t| t.execute("INSERT INTO t VALUES (7)", []))
            .unwrap();
        drop(old);
        let backup = dir.path().join("a.db.schema-1.backup");
        // The backup of an interrupted migration is replaced.
        std::fs::write(&backup, "incomplete").unwrap();
        let new = Database::open(&path, "queen", V2).unwrap();
        assert_eq!(first(&new, "SELECT x FROM t WHERE y IS NULL"), 7);
        let backup = Database::open(&backup, "queen", V1).unwrap();
        assert_eq!(first(&backup, "SELECT x FROM t"), 7);
    }

    #[test]
    fn a_newer_file_is_refused_and_left_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(Database::open(&path, "queen", V2).unwrap());
        let before = std::fs::read(&path).unwrap();
        let error = Database::open(&path, "queen", V1).unwrap_err();
        assert_eq!(error.code, Code::StateTooNew);
        assert_eq!(
            error.message,
            format!(
                "{} has schema 2, this rbee knows schemas up to 1",
                path.display()
            )
        );
        assert!(error.hint.is_some());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_damaged_file_or_one_of_another_program_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let noise = dir.path().join("noise.db");
        std::fs::write(&noise, vec![7; 9000]).unwrap();
        let truncated = dir.path().join("truncated.db");
        let mut database = Database::open(&truncated, "queen", V1).unwrap();
        for n in 0..2000 {
            database
                .write(|t| t.execute("INSERT INTO t VALUES (?1)", [n]))
                .unwrap();
        }
        drop(database);
        let bytes = std::fs::read(&truncated).unwrap();
        std::fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
        let other = dir.path().join("other.db");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE other (x)")
            .unwrap();
        for path in [noise, truncated, other] {
            let error = Database::open(&path, "queen", V1).unwrap_err();
            assert_eq!(error.code, Code::StateUnusable, "{error}");
            let start = format!("{} cannot be used: ", path.display());
            assert!(error.message.starts_with(&start), "{error}");
        }
    }

    #[test]
    fn a_failed_transaction_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("a.db"), "queen", V1).unwrap();
        let failed = database.write(|t| {
            t.execute("INSERT INTO t VALUES (7)", [])?;
            t.execute("INSERT INTO missing VALUES (7)", [])
        });
        assert_eq!(failed.unwrap_err().code, Code::StateUnusable);
        assert_eq!(first(&database, "SELECT count(*) FROM t"), 0);
    }
}
