use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;

use crate::errors;

/// Prefix of the temporary files of [`write_atomically`]. One that is left over belongs to a
/// write that was interrupted.
pub const TEMPORARY_PREFIX: &str = ".new-";

/// Replaces the file at `path`. A reader, or a crash, sees the old content or the new content
/// and nothing in between. Only the user may read the file (mode 0600).
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Diagnostic> {
    let dir = path
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned);
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempfile_in(dir)?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| errors::not_written(path, &e))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn replaces_the_file_and_leaves_no_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for content in [b"1", b"2"] {
            write_atomically(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/x");
        let error = write_atomically(&path, b"1").unwrap_err();
        assert_eq!(error.code, Code::StateUnusable);
        assert!(error.message.contains(path.to_str().unwrap()), "{error}");
    }
}
