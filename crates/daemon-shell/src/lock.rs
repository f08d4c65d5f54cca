use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use diagnostics::Diagnostic;

use crate::errors;

/// An exclusive lock on a file. Dropping the value, or the exit of the process, releases it.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the lock. Blocks the thread.
    pub fn acquire(path: &Path) -> Result<Self, Diagnostic> {
        let file = open(path)?;
        file.lock().map_err(|e| errors::not_locked(path, &e))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock. Returns `None` if another process holds it.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, Diagnostic> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(errors::not_locked(path, &e)),
        }
    }
}

fn open(path: &Path) -> Result<File, Diagnostic> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| errors::not_locked(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::acquire(&path).unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(held);
        // Waits: a child that another test starts may hold a copy of the descriptor until its exec.
        FileLock::acquire(&path).unwrap();
    }
}
