use std::time::Duration;

use daemon_shell::{DaemonRecord, Token};
use diagnostics::{Code, Diagnostic};
use hive_contract::{HiveClient, ShutdownRequest, WorkerState};
use tokio::time::timeout;

use crate::QueenLifecycle;

/// Longest from the answer to a shutdown to the end of the hive's process.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

impl QueenLifecycle {
    /// Stops the hive of this home, its workers first: what a queen leaves behind that was
    /// killed or told to let them go on. Returns what was stopped, in order.
    pub async fn stop_left_behind(
        &self,
        drain_seconds: Option<u64>,
    ) -> Result<Vec<String>, Diagnostic> {
        let _lock = self.lock().await?;
        let path = self.home.run().join("hive.json");
        let Some(record) = DaemonRecord::read_alive(&path)? else {
            return Ok(Vec::new());
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
}
