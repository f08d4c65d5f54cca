use std::{fs::File, io::Read as _, path::Path};

use blake2::Blake2b512;
use diagnostics::Diagnostic;
use pkgbuild::{Checksum, RecipeSource};
use sha2::{Digest, Sha256, Sha512};
use tokio_util::sync::CancellationToken;

use crate::errors;

/// Verifies all checksums of a source.
pub(crate) fn verify(
    path: &Path,
    source: &RecipeSource,
    cancel: &CancellationToken,
) -> Result<(), Diagnostic> {
    for checksum in &source.checksums {
        let (kind, expected, found) = match checksum {
            Checksum::Sha256(sum) => ("SHA-256", sum, digest::<Sha256>(path, cancel)?),
            Checksum::Sha512(sum) => ("SHA-512", sum, digest::<Sha512>(path, cancel)?),
            Checksum::Blake2b(sum) => ("BLAKE2b", sum, digest::<Blake2b512>(path, cancel)?),
        };
        let found = hex::encode(found);
        if found != *expected {
            return Err(errors::checksum(
                &source.source.name,
                kind,
                expected,
                &found,
            ));
        }
    }
    Ok(())
}

/// Digest of a file.
pub(crate) fn digest<D: Digest>(
    path: &Path,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, Diagnostic> {
    let failed = |e| errors::storage("read", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if cancel.is_cancelled() {
            return Err(errors::cancelled());
        }
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(digest.finalize().to_vec()),
            read => digest.update(&buffer[..read]),
        }
    }
}
