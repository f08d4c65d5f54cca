use std::{sync::Arc, time::Duration};

use diagnostics::{Code, Diagnostic};
use hive_contract::HiveShutdownRequest;
use queen_contract::HiveService;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use node_link::Attention;

use crate::{HiveHost, RunningHive};

/// First and longest pause between two attempts to start a hive.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A hive that ran this long resets the pause.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Pause between two attempts to find the hive of a machine that is asleep.
const RARE_PAUSE: Duration = Duration::from_secs(15);
/// Pause between two attempts to find the hive of a machine that is being woken.
const CONSTANT_PAUSE: Duration = Duration::from_secs(1);

/// How eagerly a hive is looked for, and why it counts as down meanwhile.
#[derive(Debug, Clone, Default)]
struct Rest {
    attention: Attention,
    reason: Option<Diagnostic>,
}

/// The state of a supervised hive.
#[derive(Debug, Clone)]
pub enum HiveState {
    /// The supervisor looks for a running hive or starts one.
    Starting,
    Up(RunningHive),
    /// The hive is not available, for this reason; another attempt follows.
    Down(Diagnostic),
}

impl HiveState {
    /// Returns the error if, as far as is known, no hive can be started: waiting a short time
    /// does not help.
    pub fn cannot_start(&self) -> Option<&Diagnostic> {
        match self {
            Self::Down(error)
                if matches!(
                    error.code,
                    Code::HiveStartFailed
                        | Code::HiveNotInstalled
                        | Code::VersionIncompatible
                        | Code::SshUnreachable
                        | Code::SshAuthFailed
                        | Code::SshHostKeyUnknown
                        | Code::NodeAsleep
                ) =>
            {
                Some(error)
            }
            _ => None,
        }
    }
}

/// Keeps the hive of a host running: restarts one that exits, with pauses of 1 s doubling to
/// 60 s. Dropping it ends the supervision and leaves the hive as it is.
#[derive(Debug)]
pub struct HiveSupervisor {
    host: Arc<dyn HiveHost>,
    state: watch::Receiver<HiveState>,
    rest: watch::Sender<Rest>,
    released: CancellationToken,
}

impl HiveSupervisor {
    pub fn start(host: Arc<dyn HiveHost>) -> Self {
        let (sender, state) = watch::channel(HiveState::Starting);
        let (rest, wished) = watch::channel(Rest::default());
        let released = CancellationToken::new();
        tokio::spawn(released.clone().run_until_cancelled_owned(supervise(
            Arc::clone(&host),
            sender,
            wished,
        )));
        Self {
            host,
            state,
            rest,
            released,
        }
    }

    /// Returns the state of the hive, now and from now on.
    pub fn state(&self) -> watch::Receiver<HiveState> {
        self.state.clone()
    }

    /// See [`HiveHost::starts_hive`].
    pub fn starts_hive(&self) -> bool {
        self.host.starts_hive()
    }

    /// See [`HiveHost::service`].
    pub fn service(&self) -> Option<HiveService> {
        self.host.service()
    }

    /// How eagerly the hive is looked for while it does not respond. With [`Attention::Rare`], it
    /// counts as down for `reason` until it responds again.
    pub fn set_attention(&self, attention: Attention, reason: Option<Diagnostic>) {
        self.rest.send_replace(Rest { attention, reason });
    }

    /// Ends the supervision, so that the hive is not restarted.
    pub fn release(&self) {
        self.released.cancel();
    }

    /// Stops the hive, which must not be supervised any more. See [`HiveHost::stop`].
    pub async fn stop(
        &self,
        hive: &RunningHive,
        request: &HiveShutdownRequest,
    ) -> Result<(), Diagnostic> {
        self.host.stop(hive, request).await
    }
}

impl Drop for HiveSupervisor {
    fn drop(&mut self) {
        self.released.cancel();
    }
}

async fn supervise(
    host: Arc<dyn HiveHost>,
    state: watch::Sender<HiveState>,
    mut rest: watch::Receiver<Rest>,
) {
    let mut pause = PAUSES.0;
    loop {
        let is_usual = rest.borrow_and_update().attention == Attention::Usual;
        match host.ensure().await {
            Ok(hive) => {
                let since = Instant::now();
                state.send_replace(HiveState::Up(hive.clone()));
                let loss = tokio::select! {
                    () = host.lost(&hive) => {
                        let loss = host.loss();
                        tracing::warn!(pid = hive.process.pid, "{loss}");
                        loss
                    }
                    reason = begins(&mut rest) => reason,
                };
                state.send_replace(HiveState::Down(loss));
                if since.elapsed() >= STABLE_AFTER && rest.borrow().attention == Attention::Usual {
                    pause = PAUSES.0;
                    continue;
                }
            }
            Err(error) => {
                if is_usual {
                    tracing::warn!(code = %error.code, %error, ?pause, "the hive is not available");
                } else {
                    tracing::debug!(code = %error.code, %error, "the hive does not respond yet");
                }
                let reason = rest.borrow().reason.clone();
                state.send_replace(HiveState::Down(reason.unwrap_or(error)));
            }
        }
        pause = next_pause(&*host, &state, &mut rest, pause).await;
    }
}

/// Waits until the next attempt to find the hive. Returns the pause after that one.
async fn next_pause(
    host: &dyn HiveHost,
    state: &watch::Sender<HiveState>,
    rest: &mut watch::Receiver<Rest>,
    pause: Duration,
) -> Duration {
    loop {
        let wished = rest.borrow_and_update().clone();
        let usual = match wished.attention {
            Attention::Usual => pause,
            Attention::Rare => RARE_PAUSE,
            Attention::Constant => CONSTANT_PAUSE,
        };
        tokio::select! {
            () = sleep(usual) => return (pause * 2).min(PAUSES.1),
            () = host.changed() => return PAUSES.0,
            () = changed(rest) => {}
        }
        let wished = rest.borrow().clone();
        match wished.reason {
            // A machine that falls asleep is not looked for at once.
            Some(reason) if wished.attention == Attention::Rare => {
                state.send_replace(HiveState::Down(reason));
            }
            _ => return PAUSES.0,
        }
    }
}

/// Resolves with the reason when a hive that responds is to count as down.
async fn begins(rest: &mut watch::Receiver<Rest>) -> Diagnostic {
    loop {
        changed(rest).await;
        let wished = rest.borrow_and_update().clone();
        if let Rest {
            attention: Attention::Rare,
            reason: Some(reason),
        } = wished
        {
            return reason;
        }
    }
}

async fn changed(rest: &mut watch::Receiver<Rest>) {
    if rest.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
