//! The user that builds run as. A hive that runs as root, to which the kernel applies neither
//! permissions nor limits on processes, uses another one.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown},
    path::Path,
};

/// User and group `nobody`, which own no files.
const NOBODY: u32 = 65534;
/// User and group in the user namespace of the sandbox.
const INSIDE: u32 = 1000;

/// Whether builds run as another user than this process.
pub(crate) fn differs() -> bool {
    rustix::process::geteuid().is_root()
}

/// User id that a build sees as its own.
pub(crate) fn id() -> u32 {
    if differs() { NOBODY } else { INSIDE }
}

/// Makes a file or directory the build's own.
pub(crate) fn give(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if differs() {
        lchown(path, Some(NOBODY), Some(NOBODY))?;
    }
    let mode = metadata.mode() & 0o777;
    let readable = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode | readable))
}

/// Makes a file, directory or link that a build has made this process's own.
pub(crate) fn take(path: &Path) -> io::Result<()> {
    if differs() {
        lchown(path, Some(0), Some(0))?;
    }
    Ok(())
}
