use diagnostics::Diagnostic;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    errors,
    failure::{Failure, Interrupt},
};

/// The interrupts of the user. The first one cancels the command in order, the second exits the
/// process at once.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    first: watch::Receiver<Option<Interrupt>>,
    second: watch::Receiver<Option<Interrupt>>,
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
        let (first, first_received) = watch::channel(None);
        let (second, second_received) = watch::channel(None);
        tokio::spawn(async move {
            for sender in [&first, &second] {
                let interrupt = tokio::select! {
                    _ = int.recv() => Interrupt::Int,
                    _ = term.recv() => Interrupt::Term,
                    Some(()) = async { hup.as_mut()?.recv().await } => Interrupt::Hup,
                };
                sender.send_replace(Some(interrupt));
            }
        });
        Ok(Self {
            first: first_received,
            second: second_received,
        })
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
            interrupt = received(&self.first) => Err(Failure::Interrupted(interrupt)),
            outcome = work => Ok(outcome?),
        }
    }

    /// Completes when the second interrupt arrives, and returns it.
    pub(crate) async fn second(&self) -> Interrupt {
        received(&self.second).await
    }
}

/// Returns the interrupt of a channel when it has arrived.
async fn received(channel: &watch::Receiver<Option<Interrupt>>) -> Interrupt {
    let mut channel = channel.clone();
    let interrupt = channel.wait_for(Option::is_some).await;
    match interrupt.ok().and_then(|interrupt| *interrupt) {
        Some(interrupt) => interrupt,
        // No interrupt can arrive any more.
        None => std::future::pending().await,
    }
}

/// Returns whether this process ignores a signal (`SigIgn` in proc_pid_status(5)).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (kind.as_raw_value() - 1) != 0)
}
