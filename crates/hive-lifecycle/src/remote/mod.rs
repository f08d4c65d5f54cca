//! A hive on another machine.

mod build;
mod glibc;
mod install;
mod release;
mod scripts;
mod service;
mod start;

use std::{
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use daemon_shell::{ProcessIdentity, Signal, Token};
use diagnostics::{Diagnostic, Narration};
use futures_util::future::BoxFuture;
use hive_contract::{API_VERSION, HiveClient, HiveShutdownRequest};
use input_validation::{NodeName, PortRange, RemoteDirectory};
use node_link::Link as _;
use queen_contract::{HiveService, NodeLog};
use rest_client::CallError;
use ssh_link::{LinkState, SshLink, SshSession};
use state_files::{DaemonRecord, Home};
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};

use crate::{CatalogOptions, HiveHost, RunningHive, errors};

pub use build::Source;
pub use release::Release;

/// Longest time from the start of a hive to its record.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Time for a hive to exit after each of: the request, SIGTERM, SIGKILL.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Receives messages for the user who waits for a long operation.
pub type Report<'a> = &'a (dyn Fn(Narration) + Send + Sync);

/// The hive of a node that is reached by SSH.
#[derive(Debug)]
pub struct RemoteHive {
    config: RemoteHiveConfig,
    /// Held while the hive is found, started or replaced.
    changing: Mutex<()>,
    /// Who keeps the hive running, as found last.
    service: std::sync::Mutex<Option<HiveService>>,
    /// Notified when another version is installed or another hive is running.
    replaced: Notify,
}

/// What the hive of a node needs.
#[derive(Debug, Clone)]
pub struct RemoteHiveConfig {
    pub name: NodeName,
    pub link: Arc<SshLink>,
    /// The node's directory of rbee.
    pub directory: RemoteDirectory,
    /// The secret shared by the queen and the node's hive and workers.
    pub token: Arc<Token>,
    /// What is installed on the node.
    pub release: Release,
    /// From what it is built on a node on which it does not run.
    pub source: Option<Source>,
    /// Ports for workers, as the hive's `--worker-ports`; `None` is the hive's default.
    pub worker_ports: Option<PortRange>,
    /// Its catalog of packages.
    pub catalog: Option<CatalogOptions>,
    /// Log filter, as the hive's `--log`.
    pub log: String,
}

impl RemoteHive {
    /// Creates the host. Does not connect.
    pub fn new(config: RemoteHiveConfig) -> Self {
        Self {
            config,
            changing: Mutex::default(),
            service: std::sync::Mutex::default(),
            replaced: Notify::new(),
        }
    }

    /// Returns the last lines of a log of the node, as they are: escape them before showing them.
    pub async fn log(&self, log: NodeLog, lines: u32) -> Result<String, Diagnostic> {
        let path = match log {
            NodeLog::Hive => self.home().hive_log(),
            NodeLog::Build => self.home().build_log(),
        };
        let command = scripts::tail(text(&path)?, lines);
        let output = self.session().await?.run_ok(&command).await?;
        if output.stdout.is_empty() && log == NodeLog::Build {
            return Err(errors::not_built(&self.config.name));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The layout of the node's directory. Its paths begin with `~/` if the directory does.
    fn home(&self) -> Home {
        Home::at(self.config.directory.as_str())
    }

    fn set_service(&self, service: HiveService) {
        let mut known = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(service);
    }

    async fn session(&self) -> Result<SshSession, Diagnostic> {
        Ok(self.config.link.connected().await?.session)
    }

    /// Returns the running hive, if any.
    async fn find(&self, session: &SshSession) -> Result<Option<RunningHive>, Diagnostic> {
        let Some(record) = self.record(session).await? else {
            return Ok(None);
        };
        match self.connect(&record).await {
            Ok(hive) => Ok(Some(hive)),
            Err(error) => {
                // A hive that has exited is none; one that runs and does not respond is an error.
                let output = session.run(&scripts::runs(record.process)).await?;
                if output.status == 0 {
                    Err(error)
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Reads the record of a hive, which may have exited.
    async fn record(&self, session: &SshSession) -> Result<Option<DaemonRecord>, Diagnostic> {
        let path = self.home().hive_record();
        let read = scripts::read_file("find the hive", text(&path)?);
        let output = session.run_ok(&read).await?;
        DaemonRecord::parse(&path, &output.stdout)
    }

    /// Returns the process of the hive, whether or not it responds.
    async fn running_process(
        &self,
        session: &SshSession,
    ) -> Result<Option<ProcessIdentity>, Diagnostic> {
        let Some(record) = self.record(session).await? else {
            return Ok(None);
        };
        let output = session.run(&scripts::runs(record.process)).await?;
        Ok((output.status == 0).then_some(record.process))
    }

    /// Ends the process of a hive. Its workers keep running.
    async fn terminate(
        &self,
        session: &SshSession,
        process: ProcessIdentity,
    ) -> Result<(), Diagnostic> {
        for signal in [Signal::Term, Signal::Kill] {
            self.signal(session, process, signal).await?;
            if gone(session, process, EXIT_LIMIT).await? {
                return Ok(());
            }
        }
        Err(errors::does_not_exit(process.pid))
    }

    /// Signals the process. systemd is asked to end its service, or it would start it again.
    async fn signal(
        &self,
        session: &SshSession,
        process: ProcessIdentity,
        signal: Signal,
    ) -> Result<(), Diagnostic> {
        if signal == Signal::Term && self.stop_service(session, process).await? {
            return Ok(());
        }
        let command = scripts::signal(process, signal);
        session.run_ok(&command).await.map(drop)
    }

    async fn connect(&self, record: &DaemonRecord) -> Result<RunningHive, Diagnostic> {
        let port = record.port().ok_or_else(|| errors::no_port(&record.url))?;
        let endpoint = self.config.link.endpoint(port).await?;
        let token = self.config.token.expose().to_owned();
        let client = HiveClient::with_http(&endpoint.base, Some(token), endpoint.http);
        let health = client.health().await?;
        if health.pid != record.process.pid || health.hive_id != self.config.name {
            return Err(errors::another_hive(
                &record.url,
                &health,
                &self.config.name,
            ));
        }
        if health.api_version != API_VERSION {
            return Err(errors::remote_version_incompatible(
                &self.config.name,
                &health,
            ));
        }
        if health.version != Release::VERSION {
            let (node, own) = (&self.config.name, Release::VERSION);
            let found = diagnostics::excerpt(&health.version, 40);
            tracing::warn!(%node, found, own, "the hive is of another version, with the same interface");
        }
        // Whoever asks for its health needs no token.
        if let Err(CallError::Response(401 | 403, _)) = client.capabilities().await {
            return Err(errors::other_token(&self.config.name));
        }
        Ok(RunningHive {
            client,
            process: record.process,
        })
    }

    async fn ensure_running(&self) -> Result<RunningHive, Diagnostic> {
        let session = self.session().await?;
        if let Some(hive) = self.find(&session).await? {
            tracing::info!(node = %self.config.name, pid = hive.process.pid, "found a running hive");
            let service = self.service_of(&session, hive.process).await?;
            self.set_service(service);
            return Ok(hive);
        }
        self.start(&session).await
    }

    async fn stop_hive(
        &self,
        hive: &RunningHive,
        request: &HiveShutdownRequest,
    ) -> Result<(), Diagnostic> {
        let session = self.session().await?;
        let accepted = hive.client.shutdown(request).await;
        if let Err(error) = &accepted {
            tracing::warn!(node = %self.config.name, %error, "the hive did not accept the request to stop");
        }
        let signals: &[Option<Signal>] = match accepted {
            Ok(()) => &[None, Some(Signal::Term), Some(Signal::Kill)],
            Err(_) => &[Some(Signal::Term), Some(Signal::Kill)],
        };
        for signal in signals {
            if let Some(signal) = signal {
                self.signal(&session, hive.process, *signal).await?;
            }
            if gone(&session, hive.process, EXIT_LIMIT).await? {
                return match accepted {
                    // The hive has exited without stopping its workers.
                    Err(error) if request.stop_workers => Err(error.into()),
                    _ => Ok(()),
                };
            }
        }
        Err(errors::does_not_exit(hive.process.pid))
    }
}

impl HiveHost for RemoteHive {
    fn ensure(&self) -> BoxFuture<'_, Result<RunningHive, Diagnostic>> {
        Box::pin(async move {
            let _changing = self.changing.lock().await;
            self.ensure_running().await
        })
    }

    fn lost<'a>(&'a self, hive: &'a RunningHive) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Ok(session) = self.session().await {
                let watch = scripts::watch(hive.process);
                tokio::select! {
                    _ = session.run(&watch) => {}
                    _ = session.closed() => {}
                }
            }
        })
    }

    fn stop<'a>(
        &'a self,
        hive: &'a RunningHive,
        request: &'a HiveShutdownRequest,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async move {
            let _changing = self.changing.lock().await;
            self.stop_hive(hive, request).await
        })
    }

    fn service(&self) -> Option<HiveService> {
        *self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link that has returned, or an installation.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut link = self.config.link.state();
            link.mark_unchanged();
            let connected = async {
                while link.changed().await.is_ok() {
                    if matches!(*link.borrow_and_update(), LinkState::Up(_)) {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = connected => {}
                () = self.replaced.notified() => {}
            }
        })
    }
}

/// Waits until a process of the node has exited. Returns `false` if it runs after `limit`.
async fn gone(
    session: &SshSession,
    process: ProcessIdentity,
    limit: Duration,
) -> Result<bool, Diagnostic> {
    match timeout(limit, session.run_ok(&scripts::watch(process))).await {
        Ok(ended) => ended.map(|_| true),
        Err(_) => Ok(false),
    }
}

/// A path of the node as text. It is made of a [`RemoteDirectory`] and names of rbee.
fn text(path: &Path) -> Result<&str, Diagnostic> {
    path.to_str()
        .ok_or_else(|| Diagnostic::internal(format!("{} is not UTF-8", path.display())))
}
