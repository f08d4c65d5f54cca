use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use daemon_shell::{ProcessIdentity, Token};
use input_validation::NodeName;
use state_files::{DaemonRecord, Home};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

const START_LIMIT: Duration = Duration::from_secs(20);
const START_POLL: Duration = Duration::from_millis(20);

/// A hive in a home of its own. It is killed when dropped.
#[derive(Debug)]
pub struct HiveProcess {
    pub name: NodeName,
    pub home: Home,
    pub token: Arc<Token>,
    pub url: String,
    pub process: ProcessIdentity,
    child: Child,
    /// Removed with the hive.
    directory: Arc<TempDir>,
}

impl HiveProcess {
    /// Starts `program` in a new directory below `parent`. `environment` replaces variables.
    pub async fn start(
        program: &Path,
        parent: &Path,
        name: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let directory = Arc::new(tempfile::tempdir_in(parent)?);
        Self::start_in(program, directory, name.parse()?, environment).await
    }

    /// Kills the hive as a crash would, and starts it again in its home.
    pub async fn crash_and_restart(
        mut self,
        program: &Path,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        self.kill().await?;
        let (directory, name) = (Arc::clone(&self.directory), self.name.clone());
        Self::start_in(program, directory, name, environment).await
    }

    /// Kills the hive and waits until it has exited.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    async fn start_in(
        program: &Path,
        directory: Arc<TempDir>,
        name: NodeName,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let home = Home::open(Some(directory.path().to_owned()))?;
        let token = Token::load_or_create(&home.node_token(&NodeName::local()))?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(home.hive_log())?;
        let mut child = Command::new(program)
            .arg("--home")
            .arg(home.path())
            .args(["--bind", "127.0.0.1", "--port", "0", "--hive-id"])
            .arg(name.to_string())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let record = Self::record(&home, &mut child).await?;
        Ok(Self {
            name,
            token: Arc::new(token),
            url: record.url,
            process: record.process,
            child,
            home,
            directory,
        })
    }

    /// Waits for the record of this process, and not of an earlier one.
    async fn record(home: &Home, child: &mut Child) -> Result<DaemonRecord> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if let Some(record) = DaemonRecord::read(&home.hive_record())?
                && Some(record.process.pid) == child.id()
            {
                return Ok(record);
            }
            if let Some(status) = child.try_wait()? {
                let log = std::fs::read_to_string(home.hive_log())?;
                bail!("the hive exited: {status}: {log}");
            }
            sleep(START_POLL).await;
        }
        bail!("the hive did not start in time");
    }
}
