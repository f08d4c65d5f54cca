use std::time::Duration;

use diagnostics::Diagnostic;
use jiff::Timestamp;
use queen_contract::QueenClient;
use rest_client::CallError;
use tokio::time::{Instant, sleep_until, timeout};
use worker_contract::{HEARTBEAT_SECONDS, WorkerHeartbeat};

use crate::{errors, worker::Worker};

const INTERVAL: Duration = Duration::from_secs(HEARTBEAT_SECONDS);
/// After a heartbeat that the queen did not answer, the next one follows sooner: it may have been
/// started again.
const RETRY: Duration = Duration::from_secs(1);
/// Minimum time between two heartbeats. If the status changes more often, only the last status
/// is sent.
const MIN_GAP: Duration = Duration::from_millis(100);
/// Time limit of the last heartbeat. Without it, the queen detects later that the worker is gone.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends the worker's status to the queen every 5 s and whenever it changes, and every second while
/// the queen does not respond.
pub(crate) struct Heartbeats {
    queen: QueenClient,
    worker: Worker,
    sequence: u64,
    /// Whether the last heartbeat was accepted. Only changes are logged.
    accepted: Option<bool>,
}

impl Heartbeats {
    pub fn new(queen: QueenClient, worker: Worker) -> Self {
        Self {
            queen,
            worker,
            sequence: 0,
            accepted: None,
        }
    }

    /// Sends heartbeats until the queen responds that a newer generation of this worker exists.
    /// Returns the resulting error.
    pub async fn run(&mut self) -> Diagnostic {
        loop {
            let status = self.worker.status();
            let sent = Instant::now();
            if let Err(superseded) = self.send(INTERVAL).await {
                return superseded;
            }
            sleep_until(sent + MIN_GAP).await;
            tokio::select! {
                () = sleep_until(sent + self.pause()) => {}
                () = self.worker.status_changed(status) => {}
            }
        }
    }

    fn pause(&self) -> Duration {
        if self.accepted == Some(false) {
            RETRY
        } else {
            INTERVAL
        }
    }

    /// Sends the last heartbeat.
    pub async fn send_last(&mut self) {
        let _ = self.send(LAST_TIMEOUT).await;
    }

    /// Returns an error only if the worker is superseded.
    async fn send(&mut self, limit: Duration) -> Result<(), Diagnostic> {
        let heartbeat = WorkerHeartbeat {
            worker: self.worker.info(),
            timestamp: Timestamp::now(),
            sequence: self.sequence,
        };
        self.sequence += 1;
        let problem = match timeout(limit, self.queen.heartbeat(&heartbeat)).await {
            Ok(Ok(())) => None,
            Ok(Err(CallError::Response(409, refusal))) => {
                let config = self.worker.config();
                return Err(errors::superseded(&config.id, config.generation, &refusal));
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no response within {} s", limit.as_secs())),
        };
        if self.accepted != Some(problem.is_none()) {
            self.accepted = Some(problem.is_none());
            match problem {
                None => {
                    tracing::info!(queen = self.queen.base(), "the queen accepted a heartbeat");
                }
                Some(problem) => tracing::warn!(%problem, "cannot send heartbeats to the queen"),
            }
        }
        Ok(())
    }
}
