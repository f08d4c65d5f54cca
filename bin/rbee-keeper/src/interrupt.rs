use diagnostics::Diagnostic;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Ctrl+C, and what means the same: SIGTERM, and the terminal being closed. The first ends
/// what runs in order, the second ends the process at once.
#[derive(Debug, Clone)]
pub struct Interrupts {
    first: CancellationToken,
    second: CancellationToken,
}

impl Interrupts {
    /// Catches the signals from now on.
    pub fn catch() -> Result<Self, Diagnostic> {
        let catch = |kind| {
            signal(kind).map_err(|e| Diagnostic::internal(format!("cannot catch a signal: {e}")))
        };
        let mut int = catch(SignalKind::interrupt())?;
        let mut term = catch(SignalKind::terminate())?;
        // `nohup` ignores this one, and a handler would undo that.
        let mut hup = if ignored(SignalKind::hangup()) {
            None
        } else {
            Some(catch(SignalKind::hangup())?)
        };
        let interrupts = Self {
            first: CancellationToken::new(),
            second: CancellationToken::new(),
        };
        let caught = interrupts.clone();
        tokio::spawn(async move {
            for token in [caught.first, caught.second] {
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

    /// Runs `work` until it ends or the first interrupt comes.
    pub async fn or<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        tokio::select! {
            biased;
            () = self.first.cancelled() => Err(Failure::Interrupted),
            done = work => Ok(done?),
        }
    }

    /// Resolves at the second interrupt.
    pub async fn second(&self) {
        self.second.cancelled().await;
    }
}

/// Whether this process was started with a signal ignored (`SigIgn` of proc(5)).
fn ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (kind.as_raw_value() - 1) != 0)
}
