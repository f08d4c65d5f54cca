use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use diagnostics::Diagnostic;
use sha2::{Digest as _, Sha256};
use state_files::Home;
use tempfile::TempDir;

use crate::errors;

/// Longest path of the directory. The address of a Unix socket has at most 107 bytes
/// (`sun_path`, unix(7)); the longest one here is `/s123456/control` with the 17 characters
/// that ssh adds while it creates the socket.
const MAX_PATH_BYTES: usize = 72;
/// Name of the socket of a connection, in the directory of the connection.
pub(crate) const CONTROL_SOCKET: &str = "control";

/// Private directory for the sockets of SSH connections. Only one queen uses it at a time.
#[derive(Debug)]
pub struct RuntimeDirectory(PathBuf);

impl RuntimeDirectory {
    /// Opens the directory in `home`, or one in the directory for temporary files if the path
    /// of `home` is too long for sockets or has characters that are special for ssh. Ends the
    /// connections of an earlier queen that were left over, and removes their files.
    pub fn open(home: &Home) -> Result<Self, Diagnostic> {
        let preferred = home.ssh_sockets();
        let path = if is_suitable(&preferred) {
            preferred
        } else {
            let digest = hex::encode(Sha256::digest(home.path().as_os_str().as_encoded_bytes()));
            PathBuf::from("/tmp").join(format!("rbee-{}", &digest[..16]))
        };
        create_private(&path).map_err(|e| errors::unusable(&path, &e))?;
        let directory = Self(path);
        directory.remove_leftovers();
        Ok(directory)
    }

    /// Creates a directory for one connection or link, which is removed when it is dropped.
    pub(crate) fn create(&self, prefix: &str) -> Result<TempDir, Diagnostic> {
        tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(&self.0)
            .map_err(|e| errors::unusable(&self.0, &e))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let socket = entry.path().join(CONTROL_SOCKET);
            if socket.exists() {
                let ended = Command::new("ssh")
                    .args(["-F", "none", "-o", "LogLevel=QUIET", "-O", "exit", "-S"])
                    .arg(&socket)
                    .arg("none")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
                tracing::info!(socket = %socket.display(), ?ended, "ended a connection that an earlier queen left over");
            }
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(%error, path = %entry.path().display(), "cannot remove a leftover");
            }
        }
    }
}

fn is_suitable(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.len() <= MAX_PATH_BYTES
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(b))
}

/// Creates a directory that other users cannot use, or checks that it is one.
fn create_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let meta = fs::symlink_metadata(path)?;
    let is_own = meta.uid() == rustix::process::geteuid().as_raw();
    let is_private = meta.mode().trailing_zeros() >= 6;
    if meta.is_dir() && is_own && is_private {
        Ok(())
    } else {
        Err(io::Error::other(
            "it is not a directory of this user with mode 0700",
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_home_has_a_directory_with_short_and_plain_paths() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["h", &"long".repeat(30), "with space", "a:b%h${x}"] {
            let home = Home::open(Some(dir.path().join(name))).unwrap();
            let runtime = RuntimeDirectory::open(&home).unwrap();
            let session = runtime.create("s").unwrap();
            assert!(is_suitable(runtime.path()), "{runtime:?}");
            let socket = session.path().join(CONTROL_SOCKET);
            assert!(socket.as_os_str().len() + 17 <= 107, "{socket:?}");
            let mode = fs::metadata(runtime.path()).unwrap().mode();
            assert_eq!(mode & 0o777, 0o700);
            if name != "h" {
                fs::remove_dir_all(runtime.path()).unwrap();
            }
        }
    }

    #[test]
    fn a_directory_that_others_can_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(create_private(&path).is_err());
        let link = dir.path().join("l");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(create_private(&link).is_err());
    }

    #[test]
    fn files_of_an_earlier_queen_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().join("h"))).unwrap();
        let runtime = RuntimeDirectory::open(&home).unwrap();
        let leftover = runtime.create("s").unwrap().keep();
        fs::write(leftover.join(CONTROL_SOCKET), "").unwrap();
        RuntimeDirectory::open(&home).unwrap();
        assert!(!leftover.exists());
    }
}
