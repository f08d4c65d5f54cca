use diagnostics::Diagnostic;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{errors, failure::Failure};

/// Interrupts of the user: SIGINT (Ctrl+C), SIGTERM, and SIGHUP (the terminal was closed).
/// The first interrupt cancels the command in order, the second exits the process at once.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    first: CancellationToken,
    second: CancellationToken,
}

impl Interrupts {
    /// Installs the signal handlers.
    pub(crate) fn install() -> Result<Self, Diagnostic> {
        let install = |kind| signal(kind).map_err(|e| errors::no_signal_handler(&e));
        let mut int = install(SignalKind::interrupt())?;
        let mut term = install(SignalKind::terminate())?;
        // A handler would undo `nohup`, which makes the process ignore SIGHUP.
        let mut hup = if is_ignored(SignalKind::hangup()) {
            None
        } else {
            Some(install(SignalKind::hangup())?)
        };
        let interrupts = Self {
            first: CancellationToken::new(),
            second: CancellationToken::new(),
        };
        let tokens = interrupts.clone();
        tokio::spawn(async move {
            for token in [tokens.first, tokens.second] {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    Some(()) = async { hup.as_mut()?.recv().await } => {}
                }
                token.cancel();
            }
        });
        Ok(interrupts)
    }

    /// Runs `work` until it completes or the first interrupt arrives.
    pub(crate) async fn unless_interrupted<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        tokio::select! {
            biased;
            () = self.first.cancelled() => Err(Failure::Interrupted),
            outcome = work => Ok(outcome?),
        }
    }

    /// Completes when the second interrupt arrives.
    pub(crate) async fn second(&self) {
        self.second.cancelled().await;
    }
}

/// Returns whether this process ignores a signal (`SigIgn` in proc_pid_status(5)).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (kind.as_raw_value() - 1) != 0)
}
