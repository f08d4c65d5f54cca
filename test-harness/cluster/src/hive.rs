use std::path::{Path, PathBuf};

use anyhow::Result;
use daemon_shell::Token;
use input_validation::NodeName;
use state_files::Home;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::{self, Environment};

/// A hive in a home of its own. It is killed when dropped, and its home is removed.
#[derive(Debug)]
pub struct HiveProcess {
    pub name: NodeName,
    pub home: Home,
    pub token: Token,
    pub url: String,
    child: Child,
    program: PathBuf,
    _directory: TempDir,
}

impl HiveProcess {
    /// Starts the hive of `bin_dir` in a new directory below `parent`.
    pub async fn start(
        bin_dir: &Path,
        parent: &Path,
        name: &str,
        environment: Environment<'_>,
    ) -> Result<Self> {
        let directory = tempfile::tempdir_in(parent)?;
        let (home, name) = (
            Home::open(Some(directory.path().to_owned()))?,
            name.parse()?,
        );
        let token = Token::load_or_create(&home.node_token(&NodeName::local()))?;
        let program = bin_dir.join("rbee-hive");
        let (child, url) = run(&program, &home, &name, environment).await?;
        Ok(Self {
            name,
            home,
            token,
            url,
            child,
            program,
            _directory: directory,
        })
    }

    /// Kills the hive and waits until it has exited.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Starts the hive again, after it was killed. Its URL differs.
    pub async fn restart(&mut self, environment: Environment<'_>) -> Result<()> {
        (self.child, self.url) = run(&self.program, &self.home, &self.name, environment).await?;
        Ok(())
    }
}

async fn run(
    program: &Path,
    home: &Home,
    name: &NodeName,
    environment: Environment<'_>,
) -> Result<(Child, String)> {
    let mut command = Command::new(program);
    command
        .arg("--home")
        .arg(home.path())
        .args(["--bind", "127.0.0.1", "--port", "0", "--hive-id"])
        .arg(name.to_string());
    let (log, record) = (home.hive_log(), home.hive_record());
    let (child, record) = process::start(command, environment, &log, &record).await?;
    Ok((child, record.url))
}
