use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::files;

/// An agent that holds keys (ssh-agent(1)). It ends when it is dropped.
#[derive(Debug)]
pub struct SshAgent {
    dir: TempDir,
    process: Child,
}

impl SshAgent {
    /// Starts an agent without keys.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("agent-").tempdir()?;
        let mut process = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(dir.path().join("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run ssh-agent")?;
        // It prints how to use it as soon as it listens.
        let stdout = process.stdout.take().context("no output")?;
        BufReader::new(stdout).read_line(&mut String::new())?;
        Ok(Self { dir, process })
    }

    /// Value of `SSH_AUTH_SOCK` for clients.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Adds a private key that has no passphrase.
    pub fn add(&self, key: &Path) -> Result<()> {
        let status = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", self.socket())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "ssh-add fails");
        Ok(())
    }

    /// Adds keys that no server accepts.
    pub fn add_useless_keys(&self, count: usize) -> Result<()> {
        for number in 0..count {
            let file = self.dir.path().join(format!("key{number}"));
            files::key(&file, "")?;
            self.add(&file)?;
        }
        Ok(())
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
