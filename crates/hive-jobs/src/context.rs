use std::{future::Future, time::Duration};

use diagnostics::Diagnostic;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{Reporter, errors};

/// What an operation gets from its job.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// Receives the events of the operation.
    pub reporter: Reporter,
    /// Cancelled when the job is.
    pub cancel: CancellationToken,
}

impl JobContext {
    /// Context of an operation that is not run as a job.
    pub fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            cancel: CancellationToken::new(),
        }
    }

    /// Runs one phase of the operation. `work` is dropped with `CANCELLED` when the job is
    /// cancelled, and with `DEADLINE_EXCEEDED` when it takes longer than `limit`. `what` names
    /// the phase in the error: "the spawn of worker w-0".
    pub async fn phase<T>(
        &self,
        what: &str,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, Diagnostic>>,
    ) -> Result<T, Diagnostic> {
        let expired = async {
            match limit {
                Some(limit) => {
                    sleep(limit).await;
                    limit
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {
                Err(errors::cancelled(what))
            }
            done = work => done,
            limit = expired => Err(errors::too_slow(what, limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use diagnostics::Code;

    use super::*;

    const LIMIT: Option<Duration> = Some(Duration::from_secs(60));

    #[tokio::test(start_paused = true)]
    async fn a_phase_ends_with_its_work_its_limit_or_the_job() {
        let context = JobContext::new(Reporter::discard());
        for limit in [None, LIMIT] {
            let done = context.phase("it", limit, async { Ok(1) }).await;
            assert_eq!(done, Ok(1));
        }
        let late = context.phase::<()>("the download", LIMIT, pending()).await;
        let late = late.unwrap_err();
        assert_eq!(late.code, Code::DeadlineExceeded);
        assert_eq!(late.message, "the download took longer than 60 s");

        context.cancel.cancel();
        let cancelled = context.phase("the download", None, async { Ok(1) }).await;
        let cancelled = cancelled.unwrap_err();
        assert_eq!(cancelled.code, Code::Cancelled);
        assert_eq!(cancelled.message, "the download was cancelled");
    }
}
