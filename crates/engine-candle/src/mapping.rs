use std::{fs::File, io, path::Path};

use diagnostics::Diagnostic;
use memmap2::{Mmap, UncheckedAdvice};

use crate::errors;

/// A read-only memory-mapped file.
pub(crate) struct Mapping(Mmap);

impl Mapping {
    /// Maps a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self, Diagnostic> {
        let mapped = std::fs::metadata(path).and_then(|metadata| {
            // Opening a pipe would block, and a device cannot be mapped.
            if metadata.is_file() {
                map(&File::open(path)?)
            } else {
                Err(io::Error::other("not a regular file"))
            }
        });
        mapped
            .map(Self)
            .map_err(|error| errors::unreadable_file(path, &error))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Releases the memory of pages read so far; they are read again from the page cache if needed.
    #[allow(unsafe_code)]
    pub(crate) fn release(&self) {
        // SAFETY: The mapping is a private, read-only mapping of a file, so its pages hold nothing
        // but the content of the file and read the same after they were dropped.
        let released = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
        // On failure, loading only uses more memory.
        let _ = released;
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: The mapping is read-only and private to this process. Its bytes are only read as
    // plain numbers: if another process modifies the file, the numbers are wrong at worst; if it
    // truncates the file, SIGBUS terminates this process, which the hive reports like any other
    // crash during loading.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_read_the_same() {
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
