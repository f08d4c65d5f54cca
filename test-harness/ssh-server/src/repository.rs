//! A git repository with a small crate that builds programs of rbee's names.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use tempfile::TempDir;

const MANIFEST: &str = "[package]\nname = \"tiny\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
const LOCK: &str = "version = 4\n\n[[package]]\nname = \"tiny\"\nversion = \"0.0.0\"\n";

/// A repository whose default branch is `main`.
#[derive(Debug)]
pub struct Repository(TempDir);

impl Repository {
    /// Creates a repository with these programs: names, and the bodies of their `main` functions.
    pub fn new(programs: &[(&str, String)]) -> Result<Self> {
        let repository = Self(tempfile::tempdir()?);
        repository.git(&["init", "--quiet", "--initial-branch", "main"])?;
        repository.write("Cargo.toml", MANIFEST)?;
        repository.write("Cargo.lock", LOCK)?;
        repository.commit_programs(programs)?;
        Ok(repository)
    }

    /// URL for `git clone`.
    pub fn url(&self) -> String {
        format!("file://{}", self.0.path().display())
    }

    /// Changes programs and commits that.
    pub fn commit_programs(&self, programs: &[(&str, String)]) -> Result<()> {
        for (name, body) in programs {
            let text = format!("fn main() {{\n{body}\n}}\n");
            self.write(&format!("src/bin/{name}.rs"), &text)?;
        }
        self.git(&["add", "."])?;
        self.git(&[
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "programs",
        ])
    }

    /// Runs git in the repository.
    pub fn git(&self, arguments: &[&str]) -> Result<()> {
        let status = Command::new("git")
            .args(["-c", "user.name=test", "-c", "user.email=test@example.org"])
            .args(arguments)
            .current_dir(self.0.path())
            .status()?;
        ensure!(status.success(), "git {arguments:?} fails");
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.0.path().join(name);
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        Ok(fs::write(file, text)?)
    }
}
