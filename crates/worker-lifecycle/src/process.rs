use std::{path::Path, process::Stdio, sync::Arc};

use daemon_shell::{ProcessIdentity, blocking, oom_kills};
use diagnostics::Diagnostic;
use jiff::Timestamp;
use state_files::SpawnRecord;
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::Instant,
};
use worker_contract::{QUEEN_TOKEN_FILE_ENV, WORKER_TOKEN_FILE_ENV};

use crate::{
    errors::{binary_does_not_start, unusable},
    exit::Exit,
    host::WorkerHost,
    record::mark_ended,
};

/// Number of lines at the end of a log that may say why a process aborted.
const CAUSE_LINES: usize = 4;

/// A worker process that this hive started.
pub(crate) struct WorkerProcess {
    pub record: SpawnRecord,
    pub started: Instant,
    /// Its exit, once that is in the record.
    pub exit: watch::Receiver<Option<Exit>>,
}

impl WorkerProcess {
    /// Starts `program` with the arguments of `record`, and with `environment` in addition to the
    /// hive's. The record is written before and after,
    /// so that a later hive finds the process whenever this hive dies.
    pub async fn start(
        host: &WorkerHost,
        program: &Path,
        environment: &[(String, String)],
        mut record: SpawnRecord,
    ) -> Result<Self, Diagnostic> {
        let (runs, first) = (Arc::clone(&host.runs), record.clone());
        let log = host.runs.log(&record.worker_id);
        let (stdout, stderr) = blocking(move || {
            runs.write(&first)?;
            let open = || {
                let file = log.create()?;
                Ok((file.try_clone()?, file))
            };
            open().map_err(|e: std::io::Error| unusable(&log.path(), &e))
        })
        .await?;

        let oom_kills_before = oom_kills();
        let started = Instant::now();
        let spawned = Command::new(program)
            .args(&record.argv[1..])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env(WORKER_TOKEN_FILE_ENV, &host.settings.token_file)
            .env(QUEEN_TOKEN_FILE_ENV, &host.settings.token_file)
            .current_dir(host.runs.dir(&record.worker_id).path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // In a group of its own, a Ctrl+C at the hive's terminal does not reach the worker,
            // and a signal to the group reaches the worker's children.
            .process_group(0)
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(e) => {
                let end = |r: &mut SpawnRecord| mark_ended(r, Timestamp::now(), None);
                host.update(&record, end).await?;
                return Err(binary_does_not_start(program, &e));
            }
        };
        record.process = child.id().and_then(ProcessIdentity::of);
        let exit = reap(host, child, record.clone(), oom_kills_before);
        host.exits.insert(&record.worker_id, exit.clone());
        let process = record.process;
        host.update(&record, move |r| r.process = process).await?;
        Ok(Self {
            record,
            started,
            exit,
        })
    }
}

/// Waits for the child in a task, so that it never stays a zombie, and records its exit.
fn reap(
    host: &WorkerHost,
    mut child: Child,
    record: SpawnRecord,
    oom_kills_before: Option<u64>,
) -> watch::Receiver<Option<Exit>> {
    let (sender, receiver) = watch::channel(None);
    let (runs, node_events) = (Arc::clone(&host.runs), host.node_events.clone());
    tokio::spawn(async move {
        let exit = match child.wait().await {
            Ok(status) => Exit::of(status, oom_kills_before),
            Err(_) => Exit::Unknown,
        };
        let id = record.worker_id.clone();
        let log = runs.log(&id);
        let tail = blocking(move || Ok(log.tail(CAUSE_LINES).unwrap_or_default())).await;
        let exit = exit.explained_by(&tail.unwrap_or_default());
        let updated = blocking(move || {
            runs.update(&record, |r| {
                r.process = record.process;
                mark_ended(r, Timestamp::now(), Some(exit));
            })
        })
        .await;
        match updated {
            Ok(Some(SpawnRecord {
                stop_cause: Some(cause),
                ..
            })) => node_events.info("exit", format!("worker {id} exited: {exit} ({cause})")),
            Ok(_) => node_events.warn("exit", format!("worker {id} exited unexpectedly: {exit}")),
            Err(e) => node_events.warn("exit", format!("worker {id} exited: {exit}; {e}")),
        }
        let _ = sender.send(Some(exit));
    });
    receiver
}
