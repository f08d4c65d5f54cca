use std::{sync::Arc, time::Duration};

use diagnostics::{Code, Diagnostic};
use hive_contract::HiveShutdownRequest;
use queen_contract::HiveService;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{HiveHost, RunningHive};

/// First and longest pause between two attempts to start a hive.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A hive that ran this long resets the pause.
const STABLE_AFTER: Duration = Duration::from_secs(30);

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
    released: CancellationToken,
}

impl HiveSupervisor {
    pub fn start(host: Arc<dyn HiveHost>) -> Self {
        let (sender, state) = watch::channel(HiveState::Starting);
        let released = CancellationToken::new();
        tokio::spawn(
            released
                .clone()
                .run_until_cancelled_owned(supervise(Arc::clone(&host), sender)),
        );
        Self {
            host,
            state,
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

async fn supervise(host: Arc<dyn HiveHost>, state: watch::Sender<HiveState>) {
    let mut pause = PAUSES.0;
    loop {
        match host.ensure().await {
            Ok(hive) => {
                let since = Instant::now();
                state.send_replace(HiveState::Up(hive.clone()));
                host.lost(&hive).await;
                let loss = host.loss();
                tracing::warn!(pid = hive.process.pid, "{loss}");
                state.send_replace(HiveState::Down(loss));
                if since.elapsed() >= STABLE_AFTER {
                    pause = PAUSES.0;
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(code = %error.code, %error, ?pause, "the hive is not available");
                state.send_replace(HiveState::Down(error));
            }
        }
        pause = tokio::select! {
            () = sleep(pause) => (pause * 2).min(PAUSES.1),
            () = host.changed() => PAUSES.0,
        };
    }
}
