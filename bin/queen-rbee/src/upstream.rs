//! What an answer, or none, of a worker means for the request.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use hive_contract::WorkerState;
use queen_contract::Assigned;
use rest_client::CallError;
use scheduler::{Assignment, Lost};
use tokio::time::timeout;
use worker_contract::WorkerClient;
use worker_registry::Lease;

use crate::app::App;

/// A hive that is slow to tell of a lost worker does not hold up the request.
const POST_MORTEM_LIMIT: Duration = Duration::from_secs(2);

/// What becomes of a request whose worker said no or nothing.
#[derive(Debug)]
pub enum Verdict {
    /// Another worker may do better.
    Move(Lost),
    /// The request itself is at fault.
    Refuse(Diagnostic),
}

/// A client of the worker that a request was given to.
pub fn worker_client(app: &App, assignment: &Assignment) -> WorkerClient {
    WorkerClient::with_http(
        &format!("http://127.0.0.1:{}", assignment.worker.port),
        Some(app.node_token.expose().to_owned()),
        app.http.clone(),
    )
}

/// The tokens of an answer so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Those that the client has.
    pub tokens: usize,
    /// Those of them that came from workers before this one.
    pub before: usize,
}

/// Judges a call that failed.
pub fn judge_call(error: CallError, assigned: &Assigned, progress: Progress) -> Verdict {
    match error {
        CallError::Link(error) => {
            Verdict::Move(Lost::Link(lost(&error, assigned, progress.tokens)))
        }
        CallError::Answer(_, error) => judge_answer(error, assigned, progress),
    }
}

/// Judges an error that the worker itself told, as an answer or as an event.
pub fn judge_answer(error: Diagnostic, assigned: &Assigned, progress: Progress) -> Verdict {
    let Progress { tokens, before } = progress;
    match error.code {
        // One that gave nothing has not begun, however far others came.
        Code::AllSlotsBusy | Code::NotReady | Code::Draining if tokens == before => {
            Verdict::Move(Lost::Refused(error))
        }
        // Nobody here cancelled it, and the key is the queen's, not the client's.
        Code::Cancelled | Code::MissingApiKey | Code::InvalidApiKey | Code::OriginForbidden => {
            Verdict::Move(Lost::Fault(lost(&error, assigned, tokens)))
        }
        code if code.http_status() >= 500 => Verdict::Move(Lost::Fault(located(error, assigned))),
        _ => Verdict::Refuse(error),
    }
}

/// The worker gave nothing for too long.
pub fn stalled(assigned: &Assigned, seconds: u64, tokens: usize) -> Lost {
    let error = Diagnostic::new(
        Code::WorkerStalled,
        format!(
            "worker {} on node {} gave nothing for {seconds} s, {tokens} tokens in",
            assigned.worker, assigned.node
        ),
    );
    Lost::Link(located(error, assigned))
}

fn lost(cause: &Diagnostic, assigned: &Assigned, tokens: usize) -> Diagnostic {
    let error = Diagnostic::new(
        Code::WorkerLinkLost,
        format!(
            "worker {} on node {} was lost after {tokens} tokens: {cause}",
            assigned.worker, assigned.node
        ),
    )
    .hint(format!("see `rbee-keeper worker logs {}`", assigned.worker))
    .detail("tokens", tokens);
    located(error, assigned)
}

fn located(error: Diagnostic, assigned: &Assigned) -> Diagnostic {
    error
        .detail("worker", assigned.worker.as_str())
        .detail("node", assigned.node.as_str())
}

/// Asks the hive whether the worker's process is gone. If so the loss is a crash, with what
/// is known of the exit, and the worker need not be waited for.
pub async fn post_mortem(app: &App, assignment: &Assignment, lost: Lost) -> (Lost, Option<Lease>) {
    let Lost::Link(mut error) = lost else {
        return (lost, None);
    };
    let lease = assignment.lease();
    let Ok(hive) = app.hive_now() else {
        return (Lost::Link(error), None);
    };
    let asked = timeout(POST_MORTEM_LIMIT, hive.client.worker(&lease.worker)).await;
    let gone = match asked {
        Ok(Ok(entry)) if entry.generation == lease.generation => {
            (entry.state == WorkerState::Exited).then_some(entry.last_exit)
        }
        _ => None,
    };
    match gone {
        None => (Lost::Link(error), None),
        Some(last_exit) => {
            error.code = Code::WorkerCrashed;
            if let Some(exit) = last_exit {
                error.message = format!("{} ({})", error.message, diagnostics::excerpt(&exit, 200));
            }
            (Lost::Link(error), Some(lease))
        }
    }
}
