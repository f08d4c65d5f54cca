//! What a worker's error means for the request.

use diagnostics::{Code, Diagnostic};
use queen_contract::Assigned;
use rest_client::CallError;
use scheduler::AttemptFailure;

use crate::{attempts::AttemptEnd, errors};

/// The tokens of a response so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Tokens that the client has received.
    pub(crate) tokens: usize,
    /// Of those, tokens of earlier workers.
    pub(crate) before: usize,
}

/// Judges a call that failed.
pub(crate) fn judge_call<T>(
    error: CallError,
    assigned: &Assigned,
    progress: Progress,
) -> AttemptEnd<T> {
    match error {
        CallError::Link(error) => {
            let error = errors::connection_lost(&error, assigned, progress.tokens);
            AttemptEnd::Failed(AttemptFailure::Link(error))
        }
        CallError::Response(_, error) => judge_error(error, assigned, progress),
    }
}

/// Judges an error that the worker itself reported, as a response or as an event.
pub(crate) fn judge_error<T>(
    error: Diagnostic,
    assigned: &Assigned,
    progress: Progress,
) -> AttemptEnd<T> {
    let Progress { tokens, before } = progress;
    let failure = match error.code {
        // A worker that produced no token has not begun, whatever earlier workers did.
        Code::AllSlotsBusy | Code::NotReady | Code::Draining if tokens == before => {
            AttemptFailure::Refused(error)
        }
        // The queen did not cancel the request, and the token is the queen's, not the client's.
        Code::Cancelled | Code::MissingApiKey | Code::InvalidApiKey | Code::OriginForbidden => {
            AttemptFailure::Fault(errors::connection_lost(&error, assigned, tokens))
        }
        code if code.http_status() >= 500 => {
            AttemptFailure::Fault(errors::located(error, assigned))
        }
        _ => return AttemptEnd::Rejected(error),
    };
    AttemptEnd::Failed(failure)
}
