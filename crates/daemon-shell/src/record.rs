use std::{fs, io::ErrorKind, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::interval;

use crate::{ProcessIdentity, write_atomically};

/// How often a daemon looks whether its record is still there.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where a running daemon is: written when it serves, removed when it ends well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonRecord {
    /// Its process.
    pub process: ProcessIdentity,
    /// Where it is reached.
    pub url: String,
    /// Version of the program.
    pub version: String,
    /// Version of its interface.
    pub api_version: u32,
    /// When it began to serve.
    pub started_at: Timestamp,
}

impl DaemonRecord {
    /// Writes the record.
    pub fn write(&self, path: &Path) -> Result<(), Diagnostic> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| Diagnostic::internal(format!("daemon record: {e}")))?;
        write_atomically(path, &json)
    }

    /// Reads the record, if there is one; one that cannot be understood counts as none.
    pub fn read(path: &Path) -> Result<Option<Self>, Diagnostic> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Diagnostic::new(
                Code::StateUnusable,
                format!("cannot read {}: {e}", path.display()),
            )),
        }
    }

    /// Reads the record of a daemon whose process lives.
    pub fn read_alive(path: &Path) -> Result<Option<Self>, Diagnostic> {
        Ok(Self::read(path)?.filter(|record| record.process.is_alive()))
    }

    /// Looks after the record for as long as the daemon serves: one that was damaged or
    /// removed is written again. Never returns.
    pub async fn keep(&self, path: &Path) {
        let mut tick = interval(LOOK_EVERY);
        loop {
            tick.tick().await;
            let kept = Self::read(path).is_ok_and(|read| read.as_ref() == Some(self));
            if !kept && let Err(error) = self.write(path) {
                tracing::debug!(%error, "the daemon's record cannot be written");
            }
        }
    }

    /// Removes the record, if it is this process's own.
    pub fn remove_own(path: &Path) {
        if let Ok(Some(record)) = Self::read(path)
            && record.process == ProcessIdentity::own()
        {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_damaged_record_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queen.json");
        let record = DaemonRecord {
            process: ProcessIdentity::own(),
            url: "http://127.0.0.1:1".into(),
            version: "1".into(),
            api_version: 1,
            started_at: Timestamp::UNIX_EPOCH,
        };
        for damage in [Some("garbage"), None] {
            match damage {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let kept = tokio::time::timeout(LOOK_EVERY * 2, record.keep(&path));
            assert!(kept.await.is_err(), "it goes on");
            assert_eq!(DaemonRecord::read(&path), Ok(Some(record.clone())));
        }
        DaemonRecord::remove_own(&path);
        assert!(!path.exists());
    }
}
