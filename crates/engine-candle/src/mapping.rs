use std::{fs::File, io, path::Path};

use diagnostics::{Code, Diagnostic, escape};
use memmap2::Mmap;

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
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: The mapping is read-only and private to this process. Its bytes are only ever
    // read as plain numbers, so a file that another process changes meanwhile gives wrong
    // numbers at worst; one that is cut short meanwhile ends this process by SIGBUS, which
    // the hive reports like any other crash while loading.
    unsafe { Mmap::map(file) }
}
