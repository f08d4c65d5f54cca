use std::{fs, time::Duration};

use daemon_shell::{DaemonRecord, Home, ProcessIdentity, Token};
use diagnostics::{Code, Diagnostic, escape};
use hive_contract::{HiveClient, ShutdownRequest, WorkerState};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::timeout;

use crate::QueenLifecycle;

/// Longest from the answer to a shutdown to the end of the hive's process.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// What a hive's record of a worker (`run/workers/NAME/spawn.json`) says of its life.
#[derive(Deserialize)]
struct Spawned {
    /// Absent when the hive died right at the start of the worker.
    process: Option<ProcessIdentity>,
    /// Present when the process was known to be gone.
    ended_at: Option<IgnoredAny>,
}

impl QueenLifecycle {
    /// Stops the hive of this home, its workers first: what a queen leaves behind that was
    /// killed or told to let them go on. Workers without a hive get one for as long as it
    /// takes. Returns what was stopped, in order.
    pub async fn stop_left_behind(
        &self,
        drain_seconds: Option<u64>,
    ) -> Result<Vec<String>, Diagnostic> {
        let _lock = self.lock().await?;
        let path = self.home.run().join("hive.json");
        let Some(record) = DaemonRecord::read_alive(&path)? else {
            return self.stop_orphans(drain_seconds).await;
        };
        let token = Token::load(&self.home.keys().join("node-local.token"))?;
        let hive = HiveClient::new(&record.url, Some(token.expose().to_owned()))?;
        let health = hive.health().await?;
        let mut stopped: Vec<String> = hive
            .workers()
            .await?
            .workers
            .into_iter()
            .filter(|worker| worker.state == WorkerState::Running)
            .map(|worker| format!("worker {} ({})", worker.worker_id, worker.model))
            .collect();
        let request = ShutdownRequest {
            stop_workers: true,
            drain_seconds,
        };
        hive.shutdown(&request).await?;
        if timeout(LEAVE_LIMIT, record.process.gone()).await.is_err() {
            return Err(Diagnostic::new(
                Code::HiveUnreachable,
                format!("the hive (pid {}) does not end", record.process.pid),
            )
            .hint(format!(
                "see {}",
                self.home.logs().join("hive.log").display()
            )));
        }
        stopped.push(format!("hive {}", health.hive_id));
        Ok(stopped)
    }

    /// Stops workers whose hive is gone. Only a hive stops workers and only a queen starts a
    /// hive, so a queen is started and stopped again with all that it finds. The caller holds
    /// the lock.
    async fn stop_orphans(&self, drain_seconds: Option<u64>) -> Result<Vec<String>, Diagnostic> {
        if workers_alive(&self.home).is_empty() {
            return Ok(Vec::new());
        }
        self.start().await?;
        let (stopped, refused) = match self.stop_locked(true, drain_seconds).await? {
            Some(queen) => (queen.stopped, queen.refused),
            None => (Vec::new(), None),
        };
        let alive = workers_alive(&self.home);
        if !alive.is_empty() {
            let why = refused.map_or_else(String::new, |why| format!(": {why}"));
            return Err(Diagnostic::new(
                Code::HiveUnreachable,
                format!("no hive could stop the workers {}{why}", alive.join(", ")),
            )
            .hint(format!(
                "see {}, then try again",
                self.home.logs().join("hive.log").display()
            )));
        }
        match refused {
            Some(why) => Err(why),
            None => Ok(stopped),
        }
    }
}

/// Names of the workers that live by the records of the hive, in order. What cannot be read
/// counts as none: the hive sets such a record aside.
fn workers_alive(home: &Home) -> Vec<String> {
    let Ok(folders) = fs::read_dir(home.workers_run()) else {
        return Vec::new();
    };
    let alive = |folder: fs::DirEntry| {
        let bytes = fs::read(folder.path().join("spawn.json")).ok()?;
        let spawned: Spawned = serde_json::from_slice(&bytes).ok()?;
        let lives =
            spawned.ended_at.is_none() && spawned.process.is_none_or(|process| process.is_alive());
        lives.then(|| escape(&folder.file_name().to_string_lossy()))
    };
    let mut names: Vec<String> = folders.flatten().filter_map(alive).collect();
    names.sort();
    names
}
