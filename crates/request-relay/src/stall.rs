//! When a worker counts as stalled: it sends nothing and its engine completes no step.

use std::time::Duration;

use queen_contract::Assigned;
use scheduler::AttemptFailure;
use tokio::time::timeout;
use worker_contract::WorkerClient;

use crate::{
    attempts::{AttemptEnd, Interrupt, Supervision},
    errors,
};

/// Longest wait for a silent worker to report whether it computes.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// Awaits `work` of a worker; `None` if the worker has stalled for `silence`.
pub(crate) async fn unless_stalled<T>(
    worker: &WorkerClient,
    work: impl Future<Output = T>,
    silence: Duration,
    supervision: &mut Supervision,
) -> Result<Option<T>, Interrupt> {
    let mut work = std::pin::pin!(work);
    let mut patience = silence;
    loop {
        let output = timeout(patience, work.as_mut());
        if let Ok(output) = supervision.unless_interrupted(output).await? {
            return Ok(Some(output));
        }
        let status = remaining_patience(worker, silence);
        match supervision.unless_interrupted(status).await? {
            Some(remaining) => patience = remaining,
            None => return Ok(None),
        }
    }
}

/// Returns how much longer to wait for a silent worker, whose engine may be computing a long
/// prompt of this request or of another one. `None` if it completed no step for `patience`.
async fn remaining_patience(worker: &WorkerClient, patience: Duration) -> Option<Duration> {
    let info = timeout(STATUS_LIMIT, worker.info()).await.ok()?.ok()?;
    let since_step = Duration::from_millis(info.last_step_ms?);
    patience
        .checked_sub(since_step)
        .filter(|remaining| !remaining.is_zero())
}

/// The end of an attempt on a worker that stalled after `tokens` tokens.
pub(crate) fn failure<T>(assigned: &Assigned, silence: Duration, tokens: usize) -> AttemptEnd<T> {
    let error = errors::stalled(assigned, silence.as_secs(), tokens);
    AttemptEnd::Failed(AttemptFailure::Stalled(error))
}
