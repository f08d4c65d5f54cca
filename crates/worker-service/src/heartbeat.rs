use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use jiff::Timestamp;
use queen_contract::QueenClient;
use rest_client::CallError;
use tokio::time::{Instant, sleep_until, timeout};
use worker_contract::{HEARTBEAT_SECONDS, WorkerHeartbeat};

use crate::Worker;

const INTERVAL: Duration = Duration::from_secs(HEARTBEAT_SECONDS);
/// Least time between two heartbeats: a worker whose status flickers sends the last of it.
const LEAST_GAP: Duration = Duration::from_millis(100);
/// Longest wait for the last heartbeat, which only spares the queen its own finding out.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Tells the queen what the worker is doing: every 5 s and when its status changes. A queen
/// that does not answer is tried again with the next one.
pub(crate) struct Heartbeats {
    queen: QueenClient,
    worker: Worker,
    sequence: u64,
    /// What the last attempt led to, so that only changes are logged.
    reached: Option<bool>,
}

impl Heartbeats {
    pub fn new(queen: QueenClient, worker: Worker) -> Self {
        Self {
            queen,
            worker,
            sequence: 0,
            reached: None,
        }
    }

    /// Sends until the queen answers that a newer generation of this worker exists; that
    /// answer is returned.
    pub async fn run(&mut self) -> Diagnostic {
        loop {
            let status = self.worker.status();
            let sent = Instant::now();
            if let Err(fenced) = self.send(INTERVAL).await {
                return fenced;
            }
            sleep_until(sent + LEAST_GAP).await;
            tokio::select! {
                () = sleep_until(sent + INTERVAL) => {}
                () = self.worker.status_other_than(status) => {}
            }
        }
    }

    /// The last one: the worker has stopped.
    pub async fn farewell(&mut self) {
        let _ = self.send(FAREWELL_LIMIT).await;
    }

    async fn send(&mut self, limit: Duration) -> Result<(), Diagnostic> {
        let heartbeat = WorkerHeartbeat {
            worker: self.worker.info(),
            timestamp: Timestamp::now(),
            sequence: self.sequence,
        };
        self.sequence += 1;
        let answer = timeout(limit, self.queen.heartbeat(&heartbeat)).await;
        let problem = match answer {
            Ok(Ok(())) => None,
            Ok(Err(CallError::Answer(409, answer))) => return Err(fenced(&self.worker, &answer)),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", limit.as_secs())),
        };
        if self.reached != Some(problem.is_none()) {
            self.reached = Some(problem.is_none());
            match problem {
                None => tracing::info!(queen = self.queen.base(), "the queen knows this worker"),
                Some(problem) => tracing::warn!(%problem, "the queen was not reached"),
            }
        }
        Ok(())
    }
}

fn fenced(worker: &Worker, answer: &Diagnostic) -> Diagnostic {
    let config = worker.config();
    Diagnostic::new(
        Code::Fenced,
        format!(
            "worker {} of generation {} is superseded: {}",
            config.id,
            config.generation,
            diagnostics::escape(&answer.message)
        ),
    )
    .hint("nothing: a newer process serves under this name")
}
