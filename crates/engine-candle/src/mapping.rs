use std::{fs::File, io, path::Path};

use diagnostics::{Code, Diagnostic, escape};
use memmap2::{Mmap, UncheckedAdvice};

/// A file mapped into memory for reading.
pub(crate) struct Mapping(Mmap);

impl Mapping {
    /// Maps a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self, Diagnostic> {
        let opened = std::fs::metadata(path).and_then(|metadata| {
            // Opening a pipe would block, and a device cannot be mapped.
            if metadata.is_file() {
                map(&File::open(path)?)
            } else {
                Err(io::Error::other("not a regular file"))
            }
        });
        opened.map(Self).map_err(|error| {
            let path = escape(&path.display().to_string());
            match error.kind() {
                io::ErrorKind::NotFound => {
                    Diagnostic::new(Code::ModelNotFound, format!("{path} does not exist"))
                        .hint("check the path of the model")
                }
                _ => Diagnostic::new(
                    Code::StateUnusable,
                    format!("{path} cannot be read: {error}"),
                )
                .hint("check the permissions of the file"),
            }
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Gives the memory back that holds what was read so far; what is read again comes from
    /// the system's cache of the file.
    #[allow(unsafe_code)]
    pub(crate) fn release(&self) {
        // SAFETY: The mapping is of a file, read-only and private: its pages have nothing that
        // is not in the file, so they read the same after they were dropped.
        let released = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
        // Where it cannot be had, loading only takes more memory.
        let _ = released;
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: The mapping is read-only and private to this process. Its bytes are only ever
    // read as plain numbers, so a file that another process changes meanwhile gives wrong
    // numbers at worst; one that is cut short meanwhile ends this process by SIGBUS, which
    // the hive reports like any other crash while loading.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mapping = Mapping::open(&path).unwrap();
        assert_eq!(mapping.bytes(), bytes);
        mapping.release();
        assert_eq!(mapping.bytes(), bytes);
    }
}
