//! What becomes an installed version: hashes, records, directories.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use diagnostics::Diagnostic;
use sha2::{Digest as _, Sha256};
use state_files::{BinaryDir, ModelFile};

use crate::errors;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;
/// How often a directory is removed while processes that were killed still write into it.
const REMOVALS: usize = 20;

/// Hashes the files below [`BinaryDir::files`], and writes them to the disk. Links are refused.
pub(crate) fn files(dir: &BinaryDir) -> Result<Vec<ModelFile>, Diagnostic> {
    let root = dir.files();
    let mut found = Vec::new();
    collect(&root, "", &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(dir: &Path, prefix: &str, found: &mut Vec<ModelFile>) -> Result<(), Diagnostic> {
    let storage = |e: io::Error| errors::storage(dir, &e);
    for entry in fs::read_dir(dir).map_err(storage)? {
        let entry = entry.map_err(storage)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(storage)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let error = io::Error::other("the name of a file is not valid UTF-8");
            return Err(errors::storage(&path, &error));
        };
        let name = format!("{prefix}{name}");
        if kind.is_dir() {
            collect(&path, &format!("{name}/"), found)?;
        } else if kind.is_file() {
            let (size_bytes, sha256) = hash(&path).map_err(|e| errors::storage(&path, &e))?;
            found.push(ModelFile {
                path: name,
                size_bytes,
                sha256,
            });
        } else {
            let error = io::Error::other("neither a file nor a directory");
            return Err(errors::storage(&path, &error));
        }
    }
    Ok(())
}

/// Size and SHA-256 of a file, which is on the disk afterwards.
pub(crate) fn hash(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut block, mut size) = (Sha256::new(), vec![0; BLOCK], 0);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        hash.update(&block[..read]);
    }
    file.sync_all()?;
    Ok((size, hex::encode(hash.finalize())))
}

/// Removes a directory, which need not exist.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), Diagnostic> {
    let mut last = None;
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => last = Some(e),
        }
    }
    match last {
        Some(error) => Err(errors::storage(dir, &error)),
        None => Ok(()),
    }
}

/// Size of all files below a directory, in bytes.
pub(crate) fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            Ok(_) => entry.metadata().map_or(0, |metadata| metadata.len()),
            Err(_) => 0,
        })
        .sum()
}
