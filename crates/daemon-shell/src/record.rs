use std::{fs, io::ErrorKind, path::Path};

use diagnostics::{Code, Diagnostic};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ProcessIdentity, write_atomically};

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

    /// Removes the record, if it is this process's own.
    pub fn remove_own(path: &Path) {
        if let Ok(Some(record)) = Self::read(path)
            && record.process == ProcessIdentity::own()
        {
            let _ = fs::remove_file(path);
        }
    }
}
