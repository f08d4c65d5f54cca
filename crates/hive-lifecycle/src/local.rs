use std::{path::PathBuf, process::Stdio, time::Duration};

use daemon_shell::{ProcessIdentity, Signal, Token};
use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use hive_contract::{API_VERSION, HiveClient, HiveShutdownRequest};
use input_validation::{NodeName, PortRange};
use queen_contract::HiveService;
use rest_client::CallError;
use state_files::{DaemonRecord, Home};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{CatalogOptions, HiveHost, RunningHive, errors, log_tail};

/// Longest time from the start of a hive to its first healthy response.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How often a starting hive is queried; the exit of its process is noticed immediately.
const START_POLL: Duration = Duration::from_millis(20);
/// Time for a hive to exit after each of: the request, SIGTERM, SIGKILL.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// Lines of its log that are reported if a hive does not start.
const LOG_LINES: usize = 5;

/// The queen's own machine.
#[derive(Debug, Clone)]
pub struct LocalHive {
    /// The hive binary.
    pub program: PathBuf,
    /// The state directory that queen and hive share.
    pub home: Home,
    /// Port on the loopback interface; 0 selects any free port.
    pub port: u16,
    /// Ports for workers, as the hive's `--worker-ports`; `None` is the hive's default.
    pub worker_ports: Option<PortRange>,
    /// Its catalog of packages.
    pub catalog: Option<CatalogOptions>,
    /// Log filter, as the hive's `--log`.
    pub log: String,
}

/// What runs in the home of the queen.
enum Found {
    Nothing,
    Hive(RunningHive),
    /// A hive that does not accept the token of this queen.
    OtherToken(ProcessIdentity),
}

impl HiveHost for LocalHive {
    fn ensure(&self) -> BoxFuture<'_, Result<RunningHive, Diagnostic>> {
        Box::pin(async move {
            match self.find().await? {
                Found::Hive(hive) => {
                    tracing::info!(url = hive.client.base(), "found a running hive");
                    return Ok(hive);
                }
                Found::OtherToken(process) => {
                    // No other queen can use this directory, so the token was replaced.
                    let pid = process.pid;
                    tracing::warn!(pid, "the running hive has another token; replacing it");
                    terminate(process).await?;
                }
                Found::Nothing => {}
            }
            self.start().await
        })
    }

    fn lost<'a>(&'a self, hive: &'a RunningHive) -> BoxFuture<'a, ()> {
        Box::pin(hive.process.gone())
    }

    fn stop<'a>(
        &'a self,
        hive: &'a RunningHive,
        request: &'a HiveShutdownRequest,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(stop(hive, request))
    }

    fn service(&self) -> Option<HiveService> {
        Some(HiveService::Process)
    }
}

impl LocalHive {
    async fn find(&self) -> Result<Found, Diagnostic> {
        match DaemonRecord::find(&self.home.hive_record(), &self.home.hive_lock()).await? {
            Some(record) => self.connect(record).await,
            None => Ok(Found::Nothing),
        }
    }

    async fn connect(&self, record: DaemonRecord) -> Result<Found, Diagnostic> {
        let token = self.token()?.expose().to_owned();
        let client = HiveClient::new(&record.url, Some(token))?;
        let health = client.health().await?;
        if health.api_version != API_VERSION {
            return Err(errors::version_incompatible(&record.url, &health));
        }
        // Whoever asks for its health needs no token.
        if let Err(CallError::Response(401 | 403, _)) = client.capabilities().await {
            return Ok(Found::OtherToken(record.process));
        }
        Ok(Found::Hive(RunningHive {
            client,
            process: record.process,
        }))
    }

    async fn start(&self) -> Result<RunningHive, Diagnostic> {
        self.token()?;
        let cannot_execute = |e| errors::cannot_execute(&self.program, &e);
        let (stdout, log_start) = log_tail::open(&self.log_path()).map_err(cannot_execute)?;
        let stderr = stdout.try_clone().map_err(cannot_execute)?;
        let mut command = Command::new(&self.program);
        command
            .arg("--home")
            .arg(self.home.path())
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            // Refused in the home of a hive that has joined another queen.
            .args(["--hive-id", NodeName::local().as_str()])
            .args(["--log", &self.log])
            // Its own process group: Ctrl+C in the queen's terminal must not reach it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        if let Some(ports) = &self.worker_ports {
            command.args(["--worker-ports", &ports.to_string()]);
        }
        if let Some(catalog) = &self.catalog {
            command.args(catalog.arguments());
        }
        let mut child = command.spawn().map_err(cannot_execute)?;
        let pid = child.id();
        tracing::info!(program = %self.program.display(), pid, "started the hive");
        let started = self.wait_until_healthy(&mut child, log_start).await;
        match &started {
            Ok(hive) => tracing::info!(url = hive.client.base(), "the hive is healthy"),
            Err(_) => {
                if let Some(process) = pid.and_then(ProcessIdentity::of) {
                    process.signal_group(Signal::Kill)?;
                }
            }
        }
        // Reap the process whenever it exits, so that it never stays a zombie.
        tokio::spawn(async move { child.wait().await });
        started
    }

    async fn wait_until_healthy(
        &self,
        child: &mut Child,
        log_start: u64,
    ) -> Result<RunningHive, Diagnostic> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Found::Hive(hive) = self.find().await? {
                return Ok(hive);
            }
            tokio::select! {
                status = child.wait() => {
                    let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                    let what = format!("exited during startup: {status}");
                    return Err(self.start_failed(&what, log_start));
                }
                () = sleep(START_POLL) => {}
            }
            if Instant::now() >= deadline {
                let what = format!("was not healthy within {} s", START_LIMIT.as_secs());
                return Err(self.start_failed(&what, log_start));
            }
        }
    }

    fn start_failed(&self, what: &str, log_start: u64) -> Diagnostic {
        let log = self.log_path();
        if let Some(reason) = log_tail::fatal(&log, log_start) {
            return errors::start_refused(reason, &log);
        }
        let lines = log_tail::last_lines(&log, log_start, LOG_LINES);
        errors::start_failed(what, &lines, &log)
    }

    fn token(&self) -> Result<Token, Diagnostic> {
        Token::load_or_create(&self.home.node_token(&NodeName::local()))
    }

    fn log_path(&self) -> PathBuf {
        self.home.hive_log()
    }
}

/// Ends the process of a hive. Its workers keep running.
async fn terminate(process: ProcessIdentity) -> Result<(), Diagnostic> {
    for signal in [Signal::Term, Signal::Kill] {
        process.signal(signal)?;
        if timeout(EXIT_LIMIT, process.gone()).await.is_ok() {
            return Ok(());
        }
    }
    Err(errors::does_not_exit(process.pid))
}

async fn stop(hive: &RunningHive, request: &HiveShutdownRequest) -> Result<(), Diagnostic> {
    let accepted = hive.client.shutdown(request).await;
    if let Err(error) = &accepted {
        tracing::warn!(%error, "the hive did not accept the request to stop");
    }
    let signals: &[Option<Signal>] = match accepted {
        Ok(()) => &[None, Some(Signal::Term), Some(Signal::Kill)],
        Err(_) => &[Some(Signal::Term), Some(Signal::Kill)],
    };
    for signal in signals {
        if let Some(signal) = signal {
            hive.process.signal(*signal)?;
        }
        if timeout(EXIT_LIMIT, hive.process.gone()).await.is_ok() {
            return match accepted {
                // The hive has exited without stopping its workers.
                Err(error) if request.stop_workers => Err(error.into()),
                _ => Ok(()),
            };
        }
    }
    Err(errors::does_not_exit(hive.process.pid))
}
