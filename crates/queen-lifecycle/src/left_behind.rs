use std::time::Duration;

use daemon_shell::Token;
use diagnostics::Diagnostic;
use hive_contract::{HiveClient, HiveShutdownRequest, WorkerState};
use input_validation::NodeName;
use state_files::{DaemonRecord, Home, SpawnRecord};
use tokio::time::timeout;

use crate::{
    QueenLifecycle,
    errors::{hive_did_not_exit, workers_not_stopped},
};

/// Maximum time from the response to a shutdown request to the exit of the hive.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

impl QueenLifecycle {
    /// Stops the hive of this home and its workers, which keep running when a queen is killed or
    /// is stopped alone. For workers without a hive, one is started to stop them. Returns what
    /// was stopped, in order.
    pub async fn stop_left_behind(
        &self,
        drain_seconds: Option<u64>,
    ) -> Result<Vec<String>, Diagnostic> {
        let _lock = self.lock().await?;
        let record = DaemonRecord::find(&self.home.hive_record(), &self.home.hive_lock()).await?;
        let Some(record) = record else {
            return self.stop_orphans(drain_seconds).await;
        };
        let token = Token::load(&self.home.node_token(&NodeName::local()))?;
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
        let request = HiveShutdownRequest {
            stop_workers: true,
            drain_seconds,
        };
        hive.shutdown(&request).await?;
        if timeout(EXIT_LIMIT, record.process.gone()).await.is_err() {
            let log = self.home.hive_log();
            return Err(hive_did_not_exit(record.process.pid, EXIT_LIMIT, &log));
        }
        stopped.push(format!("hive {}", health.hive_id));
        Ok(stopped)
    }

    /// Stops workers whose hive is gone. Only a hive stops workers and only a queen starts a
    /// hive, so a queen is started, and stopped again with its hive and workers. The caller
    /// holds the lock.
    async fn stop_orphans(&self, drain_seconds: Option<u64>) -> Result<Vec<String>, Diagnostic> {
        if workers_alive(&self.home)?.is_empty() {
            return Ok(Vec::new());
        }
        self.start().await?;
        let (stopped, refused) = match self.stop_locked(true, drain_seconds).await? {
            Some(queen) => (queen.stopped, queen.refused),
            None => (Vec::new(), None),
        };
        let alive = workers_alive(&self.home)?;
        if !alive.is_empty() {
            let log = self.home.hive_log();
            return Err(workers_not_stopped(&alive, refused.as_ref(), &log));
        }
        match refused {
            Some(reason) => Err(reason),
            None => Ok(stopped),
        }
    }
}

/// Ids of the workers that may be running according to the hive's spawn records, sorted. A
/// damaged record counts as none: the hive sets it aside.
fn workers_alive(home: &Home) -> Result<Vec<String>, Diagnostic> {
    let dirs = home.worker_dirs();
    let mut alive = Vec::new();
    for id in dirs.ids()? {
        let record = SpawnRecord::read(&dirs.of(&id))?.intact();
        if record.is_some_and(|record| record.may_be_running()) {
            alive.push(id.to_string());
        }
    }
    Ok(alive)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use daemon_shell::ProcessIdentity;
    use diagnostics::Code;
    use input_validation::Generation;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_worker_counts_as_alive_by_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().to_owned())).unwrap();
        let own = ProcessIdentity::own();
        let gone = ProcessIdentity {
            start_time: own.start_time + 1,
            ..own
        };
        let ended = Some(Timestamp::UNIX_EPOCH);
        for (id, process, ended_at) in [
            ("running", Some(own), None),
            ("unknown", None, None),
            ("dead", Some(gone), None),
            ("exited", Some(own), ended),
            ("damaged", Some(own), None),
        ] {
            let record = SpawnRecord {
                worker_id: id.parse().unwrap(),
                generation: Generation(1),
                model: "mock:a=1".parse().unwrap(),
                device: "CPU-0".parse().unwrap(),
                port: 1,
                argv: Vec::new(),
                process,
                started_at: Timestamp::UNIX_EPOCH,
                engine: None,
                restarts: 0,
                stop_cause: None,
                ended_at,
                last_exit: None,
                part_of: None,
            };
            record
                .write(&home.worker_dirs().of(&record.worker_id))
                .unwrap();
        }
        let damaged = home.worker_dirs().of(&"damaged".parse().unwrap());
        fs::write(damaged.spawn_record(), "{").unwrap();
        assert_eq!(workers_alive(&home).unwrap(), ["running", "unknown"]);
        fs::write(damaged.spawn_record(), r#"{"format": 99}"#).unwrap();
        assert_eq!(workers_alive(&home).unwrap_err().code, Code::StateTooNew);
    }
}
