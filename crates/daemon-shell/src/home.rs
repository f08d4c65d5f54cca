use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use diagnostics::{Code, Diagnostic};

/// The folder that holds all state: `RBEE_HOME`, else `~/.rbee`. It and its folders belong
/// to the user alone (0700).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// Opens the folder, made if missing; `None` is `~/.rbee`.
    pub fn open(dir: Option<PathBuf>) -> Result<Self, Diagnostic> {
        let dir = match dir {
            Some(dir) => dir,
            None => env::home_dir()
                .ok_or_else(|| {
                    Diagnostic::new(Code::ConfigInvalid, "this user has no home directory")
                        .hint("name a folder for rbee's state: set `RBEE_HOME`")
                })?
                .join(".rbee"),
        };
        let dir = std::path::absolute(&dir).map_err(|e| unusable(&dir, &e))?;
        let home = Self(dir);
        for dir in [
            home.0.clone(),
            home.run(),
            home.workers_run(),
            home.logs(),
            home.keys(),
            home.models(),
        ] {
            make_private_dir(&dir)?;
        }
        Ok(home)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Records and locks of running daemons.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// One folder for each worker of this machine.
    pub fn workers_run(&self) -> PathBuf {
        self.0.join("run/workers")
    }

    /// Logs of the daemons.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Tokens.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Model files.
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("cannot use {}: {error}", path.display()),
    )
    .hint("check its owner and permissions, or set `RBEE_HOME` to another folder")
}

fn make_private_dir(dir: &Path) -> Result<(), Diagnostic> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| unusable(dir, &e))
}

/// Writes `content` under `path` so that a reader, or a crash, sees the old file or the new
/// one and nothing between; only the user may read it (0600).
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Diagnostic> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| unusable(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_files_belong_to_the_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().join("state"))).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(home.path()), 0o700);
        assert_eq!(mode(&home.keys()), 0o700);
        let file = home.run().join("x");
        write_atomically(&file, b"1").unwrap();
        write_atomically(&file, b"2").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"2");
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read_dir(home.run()).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn a_home_that_is_a_file_is_refused_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Home::open(Some(file.path().to_owned())).unwrap_err();
        assert_eq!(error.code, Code::StateUnusable);
        assert!(error.message.contains(file.path().to_str().unwrap()));
    }
}
