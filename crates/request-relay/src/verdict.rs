//! What a worker's error means for the request.

use diagnostics::{Code, Diagnostic};
use queen_contract::Assigned;
use rest_client::CallError;
use scheduler::AttemptFailure;

use crate::{attempts::AttemptEnd, errors};

/// The tokens of a response so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Tokens that the client has received.
    pub tokens: usize,
    /// Of those, tokens of earlier workers.
    pub before: usize,
    /// The deadline of the request is not near: a worker that reports that it has passed has
    /// another time on its clock.
    pub has_time: bool,
}

/// Judges a call that failed.
pub fn judge_call<T>(error: CallError, assigned: &Assigned, progress: Progress) -> AttemptEnd<T> {
    match error {
        CallError::Link(error) => {
            let error = errors::connection_lost(&error, assigned, progress.tokens);
            AttemptEnd::Failed(AttemptFailure::Link(error))
        }
        CallError::Response(_, error) => judge_error(error, assigned, progress),
    }
}

/// Judges an error that the worker itself reported, as a response or as an event.
pub fn judge_error<T>(error: Diagnostic, assigned: &Assigned, progress: Progress) -> AttemptEnd<T> {
    let Progress {
        tokens,
        before,
        has_time,
    } = progress;
    let failure = match error.code {
        // A worker that produced no token has not begun, whatever earlier workers did.
        Code::AllSlotsBusy | Code::NotReady | Code::Draining if tokens == before => {
            AttemptFailure::Refused(error)
        }
        // A worker accepts the token of its node: another process uses the worker's port.
        Code::MissingApiKey | Code::InvalidApiKey => {
            AttemptFailure::Link(errors::connection_lost(&error, assigned, tokens))
        }
        Code::DeadlineExceeded if has_time => {
            AttemptFailure::Fault(errors::clock_differs(error, assigned))
        }
        // The queen did not cancel the request.
        Code::Cancelled | Code::OriginForbidden => {
            AttemptFailure::Fault(errors::connection_lost(&error, assigned, tokens))
        }
        code if code.http_status() >= 500 => {
            AttemptFailure::Fault(errors::located(error, assigned))
        }
        _ => return AttemptEnd::Rejected(error),
    };
    AttemptEnd::Failed(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned() -> Assigned {
        Assigned {
            worker: "w-0".parse().unwrap(),
            node: "local".parse().unwrap(),
            device: "CPU-0".parse().unwrap(),
            attempt: 1,
        }
    }

    fn judge(code: Code, tokens: usize, before: usize) -> AttemptEnd<()> {
        let error = Diagnostic::new(code, "said by the worker");
        let progress = Progress {
            tokens,
            before,
            has_time: false,
        };
        judge_error(error, &assigned(), progress)
    }

    #[test]
    fn a_deadline_that_has_not_passed_is_the_clock_of_another_machine() {
        let judge = |has_time| {
            let error = Diagnostic::new(Code::DeadlineExceeded, "the deadline has passed");
            let progress = Progress {
                has_time,
                ..Progress::default()
            };
            judge_error::<()>(error, &assigned(), progress)
        };
        assert!(matches!(judge(false), AttemptEnd::Rejected(_)));
        let AttemptEnd::Failed(AttemptFailure::Fault(error)) = judge(true) else {
            panic!("another worker may complete it")
        };
        assert_eq!(
            error.message,
            "worker w-0 on node local ended the request before its deadline, because the clock \
             of its machine differs: the deadline has passed"
        );
        assert_eq!(error.hint.as_deref(), Some("set the clock of node local"));
    }

    #[test]
    fn a_worker_that_is_not_ready_refuses_only_if_it_produced_no_token() {
        for code in [Code::AllSlotsBusy, Code::NotReady, Code::Draining] {
            for (tokens, before) in [(0, 0), (3, 3)] {
                let end = judge(code, tokens, before);
                let AttemptEnd::Failed(AttemptFailure::Refused(error)) = end else {
                    panic!("{code}: {end:?}")
                };
                assert_eq!(error, Diagnostic::new(code, "said by the worker"));
            }
            let end = judge(code, 4, 3);
            assert!(
                matches!(end, AttemptEnd::Failed(AttemptFailure::Fault(_))),
                "{code}: {end:?}"
            );
        }
    }

    #[test]
    fn errors_that_only_the_queen_could_cause_are_lost_connections() {
        for (code, is_other_process) in [
            (Code::Cancelled, false),
            (Code::MissingApiKey, true),
            (Code::InvalidApiKey, true),
            (Code::OriginForbidden, false),
        ] {
            let error = match (judge(code, 2, 0), is_other_process) {
                (AttemptEnd::Failed(AttemptFailure::Fault(error)), false)
                | (AttemptEnd::Failed(AttemptFailure::Link(error)), true) => error,
                (end, _) => panic!("{code}: {end:?}"),
            };
            assert_eq!(error.code, Code::WorkerLinkLost);
            assert_eq!(
                error.message,
                "connection to worker w-0 on node local was lost after 2 tokens: said by the worker"
            );
        }
    }

    #[test]
    fn a_fault_of_the_worker_is_located_and_an_invalid_request_is_rejected() {
        for code in [Code::Internal, Code::InsufficientRam] {
            let end = judge(code, 0, 0);
            let AttemptEnd::Failed(AttemptFailure::Fault(error)) = end else {
                panic!("{code}: {end:?}")
            };
            let expected = Diagnostic::new(code, "said by the worker")
                .detail("worker", "w-0")
                .detail("node", "local");
            assert_eq!(error, expected);
        }
        for code in [
            Code::InvalidRequest,
            Code::ContextLengthExceeded,
            Code::DeadlineExceeded,
        ] {
            let end = judge(code, 2, 0);
            let AttemptEnd::Rejected(error) = end else {
                panic!("{code}: {end:?}")
            };
            assert_eq!(error, Diagnostic::new(code, "said by the worker"));
        }
    }

    #[test]
    fn a_broken_connection_is_a_lost_link() {
        let reset = CallError::Link(Diagnostic::new(Code::WorkerLinkLost, "reset"));
        let end = judge_call::<()>(reset, &assigned(), Progress::default());
        let AttemptEnd::Failed(AttemptFailure::Link(error)) = end else {
            panic!("{end:?}")
        };
        assert_eq!(
            error.message,
            "connection to worker w-0 on node local was lost after 0 tokens: reset"
        );
        assert_eq!(
            error.hint.as_deref(),
            Some(
                "`rbee-keeper node show local` shows whether the node is reachable, and \
                 `rbee-keeper worker logs w-0` what the worker wrote"
            )
        );
    }
}
