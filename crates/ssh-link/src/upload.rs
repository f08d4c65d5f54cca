use std::{io, path::Path, time::Duration};

use diagnostics::Diagnostic;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::{RemoteCommand, SshSession, errors};

/// Writes standard input to the file `$1` with mode `$2` if it has the SHA-256 `$3`.
const WRITE: &str = r#"
umask 077
file=$(at "$1")
dir=${file%/*}
mkdir -p "$dir" || exit 1
temporary=$(mktemp "$dir/.upload.XXXXXX") || exit 1
trap 'rm -f "$temporary"' EXIT
trap 'exit 1' HUP INT PIPE TERM
cat >"$temporary" || exit 1
if command -v sha256sum >/dev/null; then found=$(sha256sum <"$temporary")
else found=$(shasum -a 256 <"$temporary"); fi
if [ "${found%% *}" != "$3" ]; then
  echo "the checksum is ${found%% *} instead of $3" >&2
  exit 1
fi
chmod "$2" "$temporary" && mv -f "$temporary" "$file"
"#;

/// Slowest transfer that does not time out, in bytes per second.
const SLOWEST: u64 = 64 << 10;

impl SshSession {
    /// Writes a file on the other machine. It appears complete, with its checksum verified, or
    /// not at all. A path `~/…` is in the home directory of the user. Missing directories are
    /// created with mode 0700.
    pub async fn write_file(
        &self,
        path: &str,
        mode: u32,
        content: Vec<u8>,
    ) -> Result<(), Diagnostic> {
        let (bytes, digest) = (content.len() as u64, Sha256::digest(&content));
        let command = write(path, mode, bytes, &digest).stdin(content);
        self.run_ok(&command).await.map(drop)
    }

    /// Copies a file of this machine to the other one. See [`write_file`](Self::write_file).
    pub async fn upload(&self, file: &Path, path: &str, mode: u32) -> Result<(), Diagnostic> {
        let unusable = |e| errors::unusable_file(file, &e);
        let (bytes, digest) = digest(file).await.map_err(unusable)?;
        let command = write(path, mode, bytes, &digest).stdin_file(file);
        self.run_ok(&command).await.map(drop)
    }
}

fn write(path: &str, mode: u32, bytes: u64, digest: &[u8]) -> RemoteCommand {
    RemoteCommand::new("write a file", WRITE)
        .arg(path)
        .arg(format!("{mode:o}"))
        .arg(hex::encode(digest))
        .limit(Duration::from_secs(30 + bytes / SLOWEST))
}

/// Returns the length of a file and its SHA-256.
async fn digest(file: &Path) -> io::Result<(u64, Vec<u8>)> {
    let mut file = tokio::fs::File::open(file).await?;
    let (mut chunk, mut bytes) = (vec![0; 1 << 20], 0);
    let mut digest = Sha256::new();
    loop {
        let count = file.read(&mut chunk).await?;
        if count == 0 {
            return Ok((bytes, digest.finalize().to_vec()));
        }
        bytes += count as u64;
        digest.update(&chunk[..count]);
    }
}
