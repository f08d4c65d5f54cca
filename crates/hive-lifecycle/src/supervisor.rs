use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{LocalHive, RunningHive};

/// First and longest pause between two attempts to have a hive.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A hive that ran this long is not in a loop of crashes.
const STEADY_AFTER: Duration = Duration::from_secs(30);

/// How the hive is.
#[derive(Debug, Clone)]
pub enum HiveState {
    /// It is looked for or started.
    Starting,
    /// It answers.
    Up(RunningHive),
    /// It does not; why, and the next attempt follows by itself.
    Down(Diagnostic),
}

impl HiveState {
    /// Why no hive can be had at all, as far as is known: waiting a little does not help.
    pub fn cannot_start(&self) -> Option<&Diagnostic> {
        match self {
            Self::Down(error)
                if matches!(
                    error.code,
                    Code::HiveStartFailed | Code::HiveNotInstalled | Code::VersionIncompatible
                ) =>
            {
                Some(error)
            }
            _ => None,
        }
    }
}

/// Keeps the local hive running: one that dies is started again, with pauses of 1 s doubling
/// to 60 s. Ends, and leaves the hive as it is, when dropped.
#[derive(Debug)]
pub struct Supervisor {
    state: watch::Receiver<HiveState>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Begins to look after the hive.
    pub fn start(hive: LocalHive) -> Self {
        let (sender, state) = watch::channel(HiveState::Starting);
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(supervise(hive, sender)),
        );
        Self { state, stop }
    }

    /// How the hive is, now and from now on.
    pub fn state(&self) -> watch::Receiver<HiveState> {
        self.state.clone()
    }

    /// Looks after the hive no longer, so that it can be stopped for good.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn supervise(hive: LocalHive, state: watch::Sender<HiveState>) {
    let mut pause = PAUSES.0;
    loop {
        match hive.ensure().await {
            Ok(running) => {
                let since = Instant::now();
                state.send_replace(HiveState::Up(running.clone()));
                running.process.gone().await;
                tracing::warn!(
                    pid = running.process.pid,
                    "the hive ended; it is started again"
                );
                state.send_replace(HiveState::Down(Diagnostic::new(
                    Code::HiveUnreachable,
                    "the hive ended and is started again",
                )));
                if since.elapsed() >= STEADY_AFTER {
                    pause = PAUSES.0;
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(code = %error.code, %error, ?pause, "there is no hive");
                state.send_replace(HiveState::Down(error));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
