//! When a silent worker has failed: its engine completes no step, or it does not respond at all.
//!
//! A machine that is frozen, or cut off without a message, keeps its connections open. Only a
//! question without a response shows that nothing will follow.

use std::{task::Poll, time::Duration};

use futures_util::poll;
use queen_contract::Assigned;
use rest_client::CallError;
use scheduler::AttemptFailure;
use tokio::{
    pin,
    task::consume_budget,
    time::{Instant, timeout},
};
use worker_contract::WorkerClient;

use crate::{
    attempts::{AttemptEnd, Interrupt, Supervision},
    errors,
};

/// Silence after which a worker is asked whether it responds, again and again. With the time for
/// the response and that for a report of the hive, a request moves within 15 s.
const QUESTION_AFTER: Duration = Duration::from_secs(7);
/// Longest wait for the response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(4);

/// Why a silent worker is not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// It responds, and its engine has completed no step for the limit of this relay.
    Stalled,
    /// It has sent nothing for this long, and does not respond.
    Unresponsive(Duration),
}

/// Awaits `work` of a worker, unless the worker fails silently. It has stalled if it sends nothing
/// and completes no step for `limit`.
pub(crate) async fn unless_silent<T>(
    worker: &WorkerClient,
    work: impl Future<Output = T>,
    limit: Duration,
    supervision: &mut Supervision,
) -> Result<Result<T, Silence>, Interrupt> {
    // A worker whose events are always there does not keep its thread from other requests.
    consume_budget().await;
    pin!(work);
    // Most tokens have arrived already: they need no timers.
    if let Poll::Ready(output) = poll!(work.as_mut()) {
        return Ok(Ok(output));
    }
    let silent_since = Instant::now();
    let mut stalled_at = silent_since + limit;
    loop {
        let pause = QUESTION_AFTER.min(stalled_at.saturating_duration_since(Instant::now()));
        let output = timeout(pause, work.as_mut());
        if let Ok(output) = supervision.unless_interrupted(output).await? {
            return Ok(Ok(output));
        }
        let asked = async {
            tokio::select! {
                output = work.as_mut() => Ok(output),
                response = last_step(worker) => Err(response),
            }
        };
        let last_step = match supervision.unless_interrupted(asked).await? {
            Ok(output) => return Ok(Ok(output)),
            Err(None) => return Ok(Err(Silence::Unresponsive(silent_since.elapsed()))),
            Err(Some(response)) => response,
        };
        let now = Instant::now();
        if now >= stalled_at {
            match remaining_patience(last_step, limit) {
                Some(remaining) => stalled_at = now + remaining,
                None => return Ok(Err(Silence::Stalled)),
            }
        }
    }
}

/// How long ago the engine of a worker completed a step, if the worker reports it. `None` if the
/// worker does not respond.
async fn last_step(worker: &WorkerClient) -> Option<Option<Duration>> {
    match timeout(RESPONSE_LIMIT, worker.info()).await {
        Ok(Ok(info)) => Some(info.last_step_ms.map(Duration::from_millis)),
        Ok(Err(CallError::Response(..))) => Some(None),
        Ok(Err(CallError::Link(_))) | Err(_) => None,
    }
}

/// Returns how much longer to wait for a silent worker, whose engine may be computing a long
/// prompt of this request or of another one. `None` if it completed no step for `limit`.
pub fn remaining_patience(last_step: Option<Duration>, limit: Duration) -> Option<Duration> {
    limit
        .checked_sub(last_step?)
        .filter(|remaining| !remaining.is_zero())
}

/// The end of an attempt on a worker that failed silently after `tokens` tokens.
pub fn failure<T>(
    silence: Silence,
    assigned: &Assigned,
    limit: Duration,
    tokens: usize,
) -> AttemptEnd<T> {
    AttemptEnd::Failed(match silence {
        Silence::Stalled => {
            AttemptFailure::Stalled(errors::stalled(assigned, limit.as_secs(), tokens))
        }
        Silence::Unresponsive(silence) => {
            let cause = errors::no_response(silence);
            AttemptFailure::Link(errors::connection_lost(&cause, assigned, tokens))
        }
    })
}
