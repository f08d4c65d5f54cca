use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// Returns the SHA-256 of a file in hexadecimal, or `None` if it was cancelled. `progress` is
/// called with the number of bytes of each block.
pub(crate) fn sha256(
    path: &Path,
    cancel: &CancellationToken,
    mut progress: impl FnMut(u64),
) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK]);
    loop {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(Some(hex::encode(hash.finalize())));
        }
        hash.update(&block[..read]);
        progress(read as u64);
    }
}

/// SHA-256 that stands for several files: of the list of their hashes and names.
pub(crate) fn of_list<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut lines = String::new();
    for (sha256, path) in files {
        lines.extend([sha256, "  ", path, "\n"]);
    }
    hex::encode(Sha256::digest(lines))
}
