use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use diagnostics::{Code, Diagnostic};

/// An exclusive lock on a file; it ends with the value or with the process.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the lock; blocks the thread.
    pub fn acquire(path: &Path) -> Result<Self, Diagnostic> {
        let file = open(path)?;
        file.lock().map_err(|e| failed(path, &e))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock, or tells that someone has it.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, Diagnostic> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(failed(path, &e)),
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
        .map_err(|e| failed(path, &e))
}

fn failed(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("cannot lock {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::acquire(&path).unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(held);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }
}
