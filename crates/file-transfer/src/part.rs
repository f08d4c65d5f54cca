//! The partial file beside the target, and its lock.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use sha2::{Digest as _, Sha256};

use crate::errors;

/// Bytes that are read and hashed at once: they fit into the cache of a core.
const READ_SIZE: usize = 256 << 10;

/// Files that belong to one target.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) target: PathBuf,
    /// The partial file.
    pub(crate) part: PathBuf,
    /// Its journal.
    pub(crate) state: PathBuf,
}

impl Paths {
    pub(crate) fn of(target: &Path) -> Self {
        Self {
            target: target.to_owned(),
            part: errors::with_suffix(target, ".part"),
            state: errors::with_suffix(target, ".part.state"),
        }
    }

    /// Directory of all of them.
    pub(crate) fn dir(&self) -> &Path {
        match self.target.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }
}

/// A partial file that belongs to this transfer: it is locked until the value is dropped.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) file: File,
    pub(crate) paths: Paths,
}

/// Result of [`Part::acquire`].
#[derive(Debug)]
pub(crate) enum Acquired {
    Part(Part),
    /// Another transfer has the lock.
    Busy,
    /// The target exists.
    Exists,
}

impl Part {
    /// Opens or creates the partial file, and its directory, and locks it.
    pub(crate) fn acquire(paths: &Paths) -> Result<Acquired, Diagnostic> {
        let cannot =
            |verb: &str, path: &Path, e: &std::io::Error| Err(errors::storage(verb, path, e));
        if exists(&paths.target)? {
            return Ok(Acquired::Exists);
        }
        if let Err(e) = fs::create_dir_all(paths.dir()) {
            return cannot("cannot create", paths.dir(), &e);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&paths.part);
        let file = match file {
            Ok(file) => file,
            Err(e) => return cannot("cannot create", &paths.part, &e),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(Acquired::Busy),
            Err(fs::TryLockError::Error(e)) => return cannot("cannot lock", &paths.part, &e),
        }
        // The one that had the lock may have finished in the meantime and renamed the file.
        if exists(&paths.target)? {
            if is_at(&file, &paths.part) && size_of(&file, &paths.part)? == 0 {
                let _ = fs::remove_file(&paths.part);
            }
            return Ok(Acquired::Exists);
        }
        if !is_at(&file, &paths.part) {
            return Ok(Acquired::Busy);
        }
        Ok(Acquired::Part(Self {
            file,
            paths: paths.clone(),
        }))
    }

    /// Removes a partial file without content, and its journal, unless a transfer has the lock.
    pub(crate) fn remove_empty(paths: &Paths) {
        let Ok(file) = File::open(&paths.part) else {
            return;
        };
        let is_empty = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if is_empty && file.try_lock().is_ok() && is_at(&file, &paths.part) {
            let _ = fs::remove_file(&paths.state);
            let _ = fs::remove_file(&paths.part);
        }
    }

    pub(crate) fn size(&self) -> Result<u64, Diagnostic> {
        size_of(&self.file, &self.paths.part)
    }

    /// Forgets all bytes.
    pub(crate) fn clear(&self) -> Result<(), Diagnostic> {
        match fs::remove_file(&self.paths.state) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(errors::storage("cannot remove", &self.paths.state, &e));
            }
            _ => {}
        }
        self.set_size(0)
    }

    fn set_size(&self, size: u64) -> Result<(), Diagnostic> {
        if self.size()? == size {
            return Ok(());
        }
        self.file
            .set_len(size)
            .map_err(|e| errors::storage("cannot write", &self.paths.part, &e))
    }

    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Diagnostic> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| errors::storage("cannot write", &self.paths.part, &e))
    }

    /// Waits until all bytes are on the disk.
    pub(crate) fn sync(&self) -> Result<(), Diagnostic> {
        self.file
            .sync_data()
            .map_err(|e| errors::storage("cannot write", &self.paths.part, &e))
    }

    /// Gives the file, whose bytes are on the disk, its final name.
    pub(crate) fn publish(&self, size: u64) -> Result<(), Diagnostic> {
        self.set_size(size)?;
        let Paths {
            target,
            part,
            state,
        } = &self.paths;
        if exists(target)? {
            return Err(errors::occupied(target));
        }
        fs::rename(part, target).map_err(|e| errors::storage("cannot create", target, &e))?;
        let _ = fs::remove_file(state);
        let dir = self.paths.dir();
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| errors::storage("cannot write", dir, &e))
    }
}

fn exists(path: &Path) -> Result<bool, Diagnostic> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(errors::storage("cannot read", path, &e)),
    }
}

/// Whether `path` still names this file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn size_of(file: &File, path: &Path) -> Result<u64, Diagnostic> {
    let metadata = file.metadata();
    metadata
        .map(|metadata| metadata.len())
        .map_err(|e| errors::storage("cannot read", path, &e))
}

/// Bytes that are free for this user on the disk of a directory.
pub(crate) fn free_space(dir: &Path) -> Result<u64, Diagnostic> {
    let stat =
        rustix::fs::statvfs(dir).map_err(|e| errors::storage("cannot examine", dir, &e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Hashes a file from its beginning, step by step.
#[derive(Debug)]
pub(crate) struct Hashing {
    hash: Sha256,
    at: u64,
    buffer: Vec<u8>,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        Self {
            hash: Sha256::new(),
            at: 0,
            buffer: vec![0; READ_SIZE],
        }
    }

    /// Hashes the bytes up to `end`, which the file has.
    pub(crate) fn advance(&mut self, file: &File, path: &Path, end: u64) -> Result<(), Diagnostic> {
        while self.at < end {
            let length = (end - self.at).min(READ_SIZE as u64) as usize;
            let bytes = &mut self.buffer[..length];
            file.read_exact_at(bytes, self.at)
                .map_err(|e| errors::storage("cannot read", path, &e))?;
            self.hash.update(bytes);
            self.at += length as u64;
        }
        Ok(())
    }

    /// Hashes the next bytes of the file.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

/// Returns the size and the SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> Result<(u64, [u8; 32]), Diagnostic> {
    let file = File::open(path).map_err(|e| errors::storage("cannot read", path, &e))?;
    let size = size_of(&file, path)?;
    let mut hashing = Hashing::new();
    hashing.advance(&file, path, size)?;
    Ok((size, hashing.finish()))
}
