use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::Path};

/// Creates a file with its complete content and mode 0600. A file that exists is kept.
pub(crate) fn create_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    let written = write();
    let _ = fs::remove_file(&temporary);
    written
}
