use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use state_files::DaemonRecord;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

const START_LIMIT: Duration = Duration::from_secs(30);
const START_POLL: Duration = Duration::from_millis(20);

/// Environment variables of a process, in addition to those of this one.
pub(crate) type Environment<'a> = &'a [(&'a str, &'a str)];

/// Starts a daemon that logs to a file, and waits until it has written its record. It is killed
/// when the child is dropped.
pub(crate) async fn start(
    mut command: Command,
    environment: Environment<'_>,
    log: &Path,
    record: &Path,
) -> Result<(Child, DaemonRecord)> {
    let program = command.as_std().get_program().to_owned();
    let output = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)?;
    let mut child = command
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        // An earlier process may have left one.
        if let Some(record) = DaemonRecord::read(record)?
            && Some(record.process.pid) == child.id()
        {
            return Ok((child, record));
        }
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(log)?;
            bail!("{} exited: {status}: {log}", program.display());
        }
        sleep(START_POLL).await;
    }
    bail!("{} did not start in time", program.display());
}
