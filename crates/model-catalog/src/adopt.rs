//! Files that other tools have fetched already.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use daemon_shell::blocking;
use diagnostics::{Diagnostic, escape};
use hive_jobs::JobContext;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{errors, hash};

/// Time between two reports of progress.
const TICK: Duration = Duration::from_millis(250);

/// How a file was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adopted {
    /// It has a second name.
    Linked,
    /// It is on another file system, or of another user.
    Copied,
}

/// A file of another tool, which may not exist, and what it should be.
#[derive(Debug, Clone)]
pub(crate) struct LocalCopy {
    pub(crate) source: PathBuf,
    /// Name that the file gets if it is right.
    pub(crate) target: PathBuf,
    pub(crate) size: u64,
    /// In hexadecimal digits.
    pub(crate) sha256: String,
}

impl LocalCopy {
    /// Links or copies the file, if it is right. Returns its SHA-256. `report` is called with the
    /// number of bytes that were compared.
    pub(crate) async fn take_over(
        self,
        context: &JobContext,
        report: impl Fn(u64),
    ) -> Result<Option<String>, Diagnostic> {
        let compared = Arc::new(AtomicU64::new(0));
        let (copy, cancel, count) = (self.clone(), context.cancel.clone(), Arc::clone(&compared));
        let mut work = pin!(blocking(move || {
            let progress = |bytes| _ = count.fetch_add(bytes, Ordering::Relaxed);
            Ok(copy.adopt(&cancel, progress))
        }));
        let adopted = loop {
            tokio::select! {
                adopted = &mut work => break adopted?,
                () = sleep(TICK) => report(compared.load(Ordering::Relaxed)),
            }
        };
        if context.cancel.is_cancelled() {
            return Err(errors::cancelled("the pull"));
        }
        let name = self.target.file_name().unwrap_or_default();
        let [name, source] = [Path::new(name), &self.source].map(|p| escape(&p.to_string_lossy()));
        let message = match &adopted {
            Ok(Some(Adopted::Linked)) => format!("{name} is linked to {source}"),
            Ok(Some(Adopted::Copied)) => format!("{name} is copied from {source}"),
            Ok(None) => format!("{source} is not {name}, which is fetched"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => format!("cannot use {source}, {name} is fetched: {e}"),
        };
        context.reporter.info("pull", message);
        if !matches!(adopted, Ok(Some(_))) {
            return Ok(None);
        }
        report(self.size);
        Ok(Some(self.sha256))
    }

    /// `None` if the file is not right, or if it was cancelled.
    fn adopt(
        &self,
        cancel: &CancellationToken,
        progress: impl FnMut(u64),
    ) -> io::Result<Option<Adopted>> {
        // A link would get a second name, not the file.
        let source = self.source.canonicalize()?;
        let metadata = fs::metadata(&source)?;
        if !metadata.is_file() || metadata.len() != self.size {
            return Ok(None);
        }
        let new = with_suffix(&self.target, ".adopted");
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let result = self.link_or_copy(&source, &new, cancel, progress);
        if !matches!(result, Ok(Some(_))) {
            let _ = fs::remove_file(&new);
        }
        result
    }

    fn link_or_copy(
        &self,
        source: &Path,
        new: &Path,
        cancel: &CancellationToken,
        progress: impl FnMut(u64),
    ) -> io::Result<Option<Adopted>> {
        let adopted = if fs::hard_link(source, new).is_ok() {
            Adopted::Linked
        } else {
            fs::copy(source, new)?;
            fs::File::open(new)?.sync_data()?;
            Adopted::Copied
        };
        // What is compared is what gets the name, whatever happens to the source.
        let found = hash::sha256(new, cancel, progress)?;
        if found.as_ref() != Some(&self.sha256) {
            return Ok(None);
        }
        fs::rename(new, &self.target)?;
        Ok(Some(adopted))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use sha2::{Digest as _, Sha256};

    use super::*;

    fn take(source: &Path, target: &Path, size: u64, content: &str) -> Option<Adopted> {
        let copy = LocalCopy {
            source: source.to_owned(),
            target: target.to_owned(),
            size,
            sha256: hex::encode(Sha256::digest(content)),
        };
        copy.adopt(&CancellationToken::new(), drop).unwrap()
    }

    #[test]
    fn a_right_file_is_linked_and_a_wrong_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [blob, link, target] = ["blob", "link", "target"].map(|name| dir.path().join(name));
        fs::write(&blob, "content").unwrap();
        std::os::unix::fs::symlink(&blob, &link).unwrap();
        assert_eq!(take(&link, &target, 7, "another"), None);
        assert_eq!(take(&link, &target, 8, "content"), None);
        assert_eq!(take(dir.path(), &target, 7, "content"), None);
        assert!(!target.exists());
        // What an earlier attempt left is not used.
        fs::write(with_suffix(&target, ".adopted"), "damaged").unwrap();
        assert_eq!(take(&link, &target, 7, "content"), Some(Adopted::Linked));
        let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
        assert_eq!(inode(&target), inode(&blob));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_of_another_file_system_is_copied() {
        let shared = Path::new("/dev/shm");
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir_in(shared).unwrap();
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_ne!(device(dir.path()), device(other.path()), "one file system");
        let (source, target) = (other.path().join("blob"), dir.path().join("target"));
        fs::write(&source, "content").unwrap();
        assert_eq!(take(&source, &target, 7, "content"), Some(Adopted::Copied));
        assert_eq!(fs::read_to_string(&target).unwrap(), "content");
        assert_eq!(take(&source, &target, 7, "content"), Some(Adopted::Copied));
    }
}
