use std::{fs, path::Path, time::Duration};

use daemon_shell::{FileLock, ProcessIdentity};
use diagnostics::Diagnostic;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{interval, timeout};

use crate::{
    Home, errors,
    record::{self, Record},
};

/// Interval at which a daemon checks that its record is intact.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// Interval at which a missing record of a daemon is looked for.
const FIND_EVERY: Duration = Duration::from_millis(50);
/// Maximum time for a daemon to write its record.
const FIND_LIMIT: Duration = Duration::from_secs(10);

/// Address and process of a running daemon. A daemon writes it when it serves and removes it
/// when it shuts down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonRecord {
    /// The daemon's process.
    pub process: ProcessIdentity,
    /// Base URL of its HTTP interface, reachable from this machine.
    pub url: String,
    /// Version of the binary.
    pub version: String,
    /// Version of the HTTP interface.
    pub api_version: u32,
    /// Time at which it began to serve.
    pub started_at: Timestamp,
}

impl Record for DaemonRecord {
    const FORMAT: u64 = 2;
}

impl DaemonRecord {
    /// Writes the record to [`Home::queen_record`] or [`Home::hive_record`].
    pub fn write(&self, path: &Path) -> Result<(), Diagnostic> {
        record::write(path, self)
    }

    /// Reads the record. A damaged record counts as none: its daemon writes it again.
    pub fn read(path: &Path) -> Result<Option<Self>, Diagnostic> {
        record::read(path).map(record::Stored::intact)
    }

    /// Parses the content of a record of another machine. `path` is its path there. A missing
    /// or damaged record counts as none.
    pub fn parse(path: &Path, content: &[u8]) -> Result<Option<Self>, Diagnostic> {
        if content.is_empty() {
            return Ok(None);
        }
        record::parse(path, content).map(record::Stored::intact)
    }

    /// Port of its HTTP interface.
    pub fn port(&self) -> Option<u16> {
        self.url
            .rsplit_once(':')?
            .1
            .trim_end_matches('/')
            .parse()
            .ok()
    }

    /// Reads the record of a daemon whose process is alive.
    pub fn read_alive(path: &Path) -> Result<Option<Self>, Diagnostic> {
        Ok(Self::read(path)?.filter(|record| record.process.is_alive()))
    }

    /// Finds the record of a running daemon, which holds the lock at `lock`. A daemon without a
    /// record is starting, or writes a lost one again within a few seconds: waits for it.
    pub async fn find(record: &Path, lock: &Path) -> Result<Option<Self>, Diagnostic> {
        let found = async {
            let mut tick = interval(FIND_EVERY);
            loop {
                tick.tick().await;
                if let Some(record) = Self::read_alive(record)? {
                    return Ok(Some(record));
                }
                if FileLock::try_acquire(lock)?.is_some() {
                    return Ok(None);
                }
            }
        };
        match timeout(FIND_LIMIT, found).await {
            Ok(found) => found,
            Err(_) => Err(errors::no_record(record, lock, FIND_LIMIT)),
        }
    }

    /// Writes the record again whenever it is missing or damaged. Never returns.
    pub async fn keep(&self, path: &Path) {
        let mut tick = interval(CHECK_EVERY);
        loop {
            tick.tick().await;
            let intact = Self::read(path).is_ok_and(|read| read.as_ref() == Some(self));
            if !intact && let Err(error) = self.write(path) {
                tracing::debug!(%error, "cannot write the daemon record");
            }
        }
    }

    /// Removes the record if it is the one of this process.
    pub fn remove_own(path: &Path) {
        if let Ok(Some(record)) = Self::read(path)
            && record.process == ProcessIdentity::own()
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// The error for a second `daemon` ("queen", "hive") in a home. Names the running one if its
/// record says where it is.
pub fn home_in_use(daemon: &str, home: &Home, record: &Path) -> Diagnostic {
    let user = match DaemonRecord::read_alive(record) {
        Ok(Some(record)) => format!("process {} at {}", record.process.pid, record.url),
        _ => "it is starting".to_owned(),
    };
    errors::home_in_use(daemon, home.path(), &user)
}

#[cfg(test)]
pub(crate) mod tests {
    use diagnostics::Code;

    use super::*;

    pub fn record() -> DaemonRecord {
        DaemonRecord {
            process: ProcessIdentity::own(),
            url: "http://127.0.0.1:1".into(),
            version: "1".into(),
            api_version: 1,
            started_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().to_owned())).unwrap();
        (dir, home)
    }

    /// Runs [`DaemonRecord::keep`] for more than one check.
    async fn keep_for_a_while(record: &DaemonRecord, path: &Path) {
        let kept = tokio::time::timeout(CHECK_EVERY * 2, record.keep(path));
        assert!(kept.await.is_err(), "keep returned");
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_or_removed_record_is_written_again() {
        let (_dir, home) = home();
        let (path, record) = (home.queen_record(), record());
        for damage in [Some("garbage"), None] {
            match damage {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            assert_eq!(DaemonRecord::read(&path), Ok(None));
            keep_for_a_while(&record, &path).await;
            assert_eq!(DaemonRecord::read(&path), Ok(Some(record.clone())));
        }
        DaemonRecord::remove_own(&path);
        assert!(!path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_record_of_a_running_daemon_is_found() {
        let (_dir, home) = home();
        let (path, lock) = (home.queen_record(), home.queen_lock());
        assert_eq!(DaemonRecord::find(&path, &lock).await, Ok(None));
        let held = FileLock::acquire(&lock).unwrap();
        let error = DaemonRecord::find(&path, &lock).await.unwrap_err();
        assert_eq!(error.code, Code::StateUnusable);
        let record = record();
        let (found, ()) = tokio::join!(DaemonRecord::find(&path, &lock), async {
            tokio::time::sleep(CHECK_EVERY).await;
            record.write(&path).unwrap();
        });
        assert_eq!(found, Ok(Some(record)));
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_record_is_neither_replaced_nor_removed() {
        let (_dir, home) = home();
        let path = home.hive_record();
        let text = r#"{"format": 99}"#;
        fs::write(&path, text).unwrap();
        keep_for_a_while(&record(), &path).await;
        DaemonRecord::remove_own(&path);
        for error in [
            DaemonRecord::read(&path).unwrap_err(),
            DaemonRecord::read_alive(&path).unwrap_err(),
        ] {
            assert_eq!(error.code, Code::StateTooNew);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_record_of_another_process_is_not_alive_and_not_removed() {
        let (_dir, home) = home();
        let path = home.queen_record();
        let mut other = record();
        other.process.start_time += 1;
        other.write(&path).unwrap();
        assert_eq!(DaemonRecord::read_alive(&path), Ok(None));
        DaemonRecord::remove_own(&path);
        assert_eq!(DaemonRecord::read(&path), Ok(Some(other)));
    }

    #[test]
    fn a_home_in_use_is_reported_with_its_user() {
        let (_dir, home) = home();
        let path = home.hive_record();
        let starting = home_in_use("hive", &home, &path);
        assert!(starting.message.ends_with("(it is starting)"), "{starting}");
        record().write(&path).unwrap();
        let running = home_in_use("hive", &home, &path);
        assert_eq!(
            running.message,
            format!(
                "another hive is using {} (process {} at http://127.0.0.1:1)",
                home.path().display(),
                std::process::id()
            )
        );
    }
}
