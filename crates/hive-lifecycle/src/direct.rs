use std::{sync::Arc, time::Duration};

use daemon_shell::{ProcessIdentity, Token};
use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use hive_contract::{API_VERSION, Capabilities, HiveClient, HiveHealth, HiveShutdownRequest};
use input_validation::{NodeName, NodeUrl};
use rest_client::{CallError, HttpClient};
use tokio::time::{sleep, timeout};

use crate::{HiveHost, RunningHive, errors};

/// How often a hive is asked whether it responds.
const POLL: Duration = Duration::from_secs(2);
/// Longest wait for that response.
const POLL_LIMIT: Duration = Duration::from_secs(3);
/// Number of missing responses in succession after which the hive is lost.
const MISSES: u32 = 2;
/// Time for a hive to exit after it was asked to.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// A hive that is reached by its address. Someone else starts it: the queen finds and watches
/// it.
#[derive(Debug, Clone)]
pub struct DirectHive {
    pub node: NodeName,
    pub url: NodeUrl,
    pub token: Arc<Token>,
    pub http: HttpClient,
}

impl DirectHive {
    /// Checks that the hive responds, has this interface version, is the one of the node, and
    /// accepts the token. Returns what it reports.
    ///
    /// Errors: [`Code::HiveUnreachable`](diagnostics::Code::HiveUnreachable),
    /// [`Code::VersionIncompatible`](diagnostics::Code::VersionIncompatible),
    /// [`Code::ConfigInvalid`](diagnostics::Code::ConfigInvalid),
    /// [`Code::HiveStartFailed`](diagnostics::Code::HiveStartFailed) for a token that it refuses.
    pub async fn inspect(&self) -> Result<(HiveHealth, Capabilities), Diagnostic> {
        let client = self.client();
        let health = match client.health().await {
            Ok(health) => health,
            Err(CallError::Link(error)) => {
                let unreachable = errors::not_running(&self.node, &self.url, &error.message);
                return Err(match error.hint {
                    Some(hint) => unreachable.hint(hint),
                    None => unreachable,
                });
            }
            Err(error) => return Err(error.into()),
        };
        if health.api_version != API_VERSION {
            return Err(errors::version_incompatible(self.url.as_str(), &health));
        }
        if health.hive_id != self.node {
            return Err(errors::other_name(&self.node, &self.url, &health.hive_id));
        }
        match client.capabilities().await {
            Ok(capabilities) => Ok((health, capabilities)),
            Err(CallError::Response(401 | 403, _)) => {
                Err(errors::wrong_token(&self.node, &self.url))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the client of the hive.
    pub fn client(&self) -> HiveClient {
        let token = Some(self.token.expose().to_owned());
        HiveClient::with_http(self.url.as_str(), token, self.http.clone())
    }
}

impl HiveHost for DirectHive {
    fn ensure(&self) -> BoxFuture<'_, Result<RunningHive, Diagnostic>> {
        Box::pin(async move {
            let (health, _) = self.inspect().await?;
            Ok(RunningHive {
                client: self.client(),
                // A process of another machine: it matches none here.
                process: ProcessIdentity {
                    pid: health.pid,
                    start_time: 0,
                },
            })
        })
    }

    fn lost<'a>(&'a self, hive: &'a RunningHive) -> BoxFuture<'a, ()> {
        Box::pin(unresponsive(hive))
    }

    fn stop<'a>(
        &'a self,
        hive: &'a RunningHive,
        request: &'a HiveShutdownRequest,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(shut_down(hive, request))
    }

    fn starts_hive(&self) -> bool {
        false
    }

    fn loss(&self) -> Diagnostic {
        errors::lost(&self.node, &self.url)
    }
}

/// Resolves when a hive of another machine does not respond any more.
pub(crate) async fn unresponsive(hive: &RunningHive) {
    let mut misses = 0;
    while misses < MISSES {
        sleep(POLL).await;
        misses = if responds(hive).await { 0 } else { misses + 1 };
    }
}

/// Stops a hive of another machine, and returns when it does not respond any more.
pub(crate) async fn shut_down(
    hive: &RunningHive,
    request: &HiveShutdownRequest,
) -> Result<(), Diagnostic> {
    hive.client.shutdown(request).await?;
    let exited = async {
        while responds(hive).await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let exited = timeout(EXIT_LIMIT, exited).await;
    exited.map_err(|_| errors::does_not_exit(hive.process.pid))
}

async fn responds(hive: &RunningHive) -> bool {
    let health = timeout(POLL_LIMIT, hive.client.health()).await;
    // A hive that responds with an error is there.
    !matches!(health, Err(_) | Ok(Err(CallError::Link(_))))
}
