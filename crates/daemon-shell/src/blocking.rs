use diagnostics::Diagnostic;

use crate::errors;

/// Runs `work` on a thread where blocking is allowed. A panic in it is an `INTERNAL` error.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Diagnostic> + Send + 'static,
) -> Result<T, Diagnostic> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(errors::task_panicked(&panic)),
    }
}
