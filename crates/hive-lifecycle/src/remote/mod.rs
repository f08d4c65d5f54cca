//! A hive on another machine.

mod install;
mod release;
mod scripts;

use std::{path::Path, sync::Arc, time::Duration};

use daemon_shell::{ProcessIdentity, Signal, Token};
use diagnostics::{Diagnostic, Narration};
use futures_util::future::BoxFuture;
use hive_contract::{API_VERSION, HiveClient, HiveShutdownRequest};
use input_validation::{NodeName, PortRange, RemoteDirectory, WorkerId};
use node_link::Link as _;
use ssh_link::{LinkState, RemoteCommand, SshLink, SshSession};
use state_files::{DaemonRecord, Home};
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};

use crate::{HiveHost, RunningHive, errors, log_tail};

pub use release::Release;

/// Longest time from the start of a hive to its record.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Time for a hive to exit after each of: the request, SIGTERM, SIGKILL.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// Lines of its log that are reported if a hive does not start.
const LOG_LINES: usize = 5;

/// Receives messages for the user who waits for a long operation.
pub type Report<'a> = &'a (dyn Fn(Narration) + Send + Sync);

/// The hive of a node that is reached by SSH.
#[derive(Debug)]
pub struct RemoteHive {
    config: RemoteHiveConfig,
    /// Held while the hive is found, started or replaced.
    changing: Mutex<()>,
    installed: Notify,
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
    /// Ports for workers, as the hive's `--worker-ports`; `None` is the hive's default.
    pub worker_ports: Option<PortRange>,
    /// Log filter, as the hive's `--log`.
    pub log: String,
}

/// A log of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeLog {
    Hive,
    Worker(WorkerId),
}

impl RemoteHive {
    /// Creates the host. Does not connect.
    pub fn new(config: RemoteHiveConfig) -> Self {
        Self {
            config,
            changing: Mutex::default(),
            installed: Notify::new(),
        }
    }

    /// Returns the last lines of a log of the node, as they are: escape them before showing them.
    pub async fn log(&self, log: &NodeLog, lines: u32) -> Result<String, Diagnostic> {
        let path = match log {
            NodeLog::Hive => self.home().hive_log(),
            NodeLog::Worker(id) => self.home().worker_dirs().of(id).log(),
        };
        let command = scripts::tail(text(&path)?, lines);
        let output = self.session().await?.run_ok(&command).await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The layout of the node's directory. Its paths begin with `~/` if the directory does.
    fn home(&self) -> Home {
        Home::at(self.config.directory.as_str())
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
            session.run_ok(&scripts::signal(process, signal)).await?;
            if gone(session, process, EXIT_LIMIT).await? {
                return Ok(());
            }
        }
        Err(errors::does_not_exit(process.pid))
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
        Ok(RunningHive {
            client,
            process: record.process,
        })
    }

    async fn start(&self, session: &SshSession) -> Result<RunningHive, Diagnostic> {
        let config = &self.config;
        let home = self.home();
        let (record, log) = (home.hive_record(), home.hive_log());
        let token = home.node_token(&config.name);
        let program = format!("{}/bin/current/{}", config.directory, Release::HIVE);
        let tenths = START_LIMIT.as_millis() / 100;
        let mut command = RemoteCommand::new("start the hive", scripts::START)
            .arg(program)
            .arg(text(&token)?)
            .arg(text(&log)?)
            .arg(text(&record)?)
            .arg(tenths.to_string())
            .arg("--home")
            .arg(config.directory.as_str())
            .arg("--token-file")
            .arg(text(&token)?)
            .arg("--hive-id")
            .arg(config.name.as_str())
            .arg("--bind=127.0.0.1")
            .arg("--port=0")
            .arg(format!("--log={}", config.log));
        if let Some(ports) = &config.worker_ports {
            command = command.arg(format!("--worker-ports={ports}"));
        }
        let command = command.stdin(config.token.expose());
        let output = session.run(&command.limit(START_LIMIT * 2)).await?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let what = match output.status {
            0 => {
                let record = DaemonRecord::parse(&record, &output.stdout)?;
                let record = record.ok_or_else(|| errors::no_record(&config.name))?;
                let hive = self.connect(&record).await?;
                tracing::info!(node = %config.name, pid = record.process.pid, "started the hive");
                return Ok(hive);
            }
            scripts::NOT_INSTALLED => return Err(errors::not_installed(&config.name)),
            scripts::EXITED => "exited during startup".to_owned(),
            scripts::TOO_SLOW => format!("was not ready within {} s", START_LIMIT.as_secs()),
            status => {
                let stderr = &output.stderr;
                return Err(errors::not_started(&config.name, status, stderr));
            }
        };
        if let Some(reason) = log_tail::fatal_in(&printed) {
            return Err(errors::start_refused(reason, &log));
        }
        let lines = log_tail::last_lines_in(&printed, LOG_LINES);
        Err(errors::start_failed(&what, &lines, &log))
    }

    async fn ensure_running(&self) -> Result<RunningHive, Diagnostic> {
        let session = self.session().await?;
        if let Some(hive) = self.find(&session).await? {
            tracing::info!(node = %self.config.name, pid = hive.process.pid, "found a running hive");
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
                session
                    .run_ok(&scripts::signal(hive.process, *signal))
                    .await?;
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
                () = self.installed.notified() => {}
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
