use std::{path::PathBuf, process::Stdio, time::Duration};

use daemon_shell::{ProcessIdentity, Signal, Token};
use diagnostics::{Code, Diagnostic};
use hive_contract::{API_VERSION, Health, HiveClient, ShutdownRequest};
use input_validation::NodeName;
use state_files::{DaemonRecord, Home};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::log;

/// A hive that was started is healthy within this time.
const HEALTHY_WITHIN: Duration = Duration::from_secs(10);
/// How often the start is looked at; a process that ends is noticed at once.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A hive that was told to end has this long, twice: for SIGTERM and for SIGKILL.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How the hive of this machine is started.
#[derive(Debug, Clone)]
pub struct LocalHive {
    /// The program.
    pub program: PathBuf,
    /// The state folder that queen and hive share.
    pub home: Home,
    /// Where it listens on loopback; 0 is any free port.
    pub port: u16,
    /// Ports for workers, as the hive's `--worker-ports` takes them; absent, its default.
    pub worker_ports: Option<String>,
    /// What it logs, as its `--log` takes it.
    pub log: String,
}

/// A hive that answers.
#[derive(Debug, Clone)]
pub struct RunningHive {
    /// Calls to it.
    pub client: HiveClient,
    /// Its process.
    pub process: ProcessIdentity,
    /// What it said of itself.
    pub health: Health,
}

impl LocalHive {
    /// The hive of this state folder: the one that runs, else one that is started now.
    ///
    /// Errors: [`Code::VersionIncompatible`] when the one that runs is of another version,
    /// [`Code::HiveUnreachable`] when it does not answer, [`Code::HiveStartFailed`].
    pub async fn ensure(&self) -> Result<RunningHive, Diagnostic> {
        if let Some(hive) = self.find().await? {
            tracing::info!(url = hive.client.base(), "found the hive that runs");
            return Ok(hive);
        }
        self.start().await
    }

    /// The hive that runs, if one does.
    pub async fn find(&self) -> Result<Option<RunningHive>, Diagnostic> {
        match DaemonRecord::read_alive(&self.home.hive_record())? {
            Some(record) => self.connect(record).await.map(Some),
            None => Ok(None),
        }
    }

    async fn start(&self) -> Result<RunningHive, Diagnostic> {
        self.token()?;
        let log_path = self.log_path();
        let (log_file, log_start) = log::open(&log_path).map_err(|e| self.cannot_start(&e))?;
        let second = log_file.try_clone().map_err(|e| self.cannot_start(&e))?;
        let mut command = Command::new(&self.program);
        command
            .arg("--home")
            .arg(self.home.path())
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--log", &self.log])
            // A group of its own: Ctrl+C at the queen's terminal is not meant for it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log_file)
            .stderr(second);
        if let Some(ports) = &self.worker_ports {
            command.args(["--worker-ports", ports]);
        }
        let mut child = command.spawn().map_err(|e| self.cannot_start(&e))?;
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
        // The child is waited for to its end, so that it never stays as a zombie.
        tokio::spawn(async move { child.wait().await });
        started
    }

    async fn wait_until_healthy(
        &self,
        child: &mut Child,
        log_start: u64,
    ) -> Result<RunningHive, Diagnostic> {
        let deadline = Instant::now() + HEALTHY_WITHIN;
        let failed = |what: String| self.start_failed(&what, log_start);
        loop {
            if let Some(hive) = self.find().await? {
                return Ok(hive);
            }
            tokio::select! {
                status = child.wait() => {
                    let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                    return Err(failed(format!("ended while it started: {status}")));
                }
                () = sleep(LOOK_EVERY) => {}
            }
            if Instant::now() >= deadline {
                return Err(failed(format!(
                    "was not healthy after {} s",
                    HEALTHY_WITHIN.as_secs()
                )));
            }
        }
    }

    /// Why a hive did not start: in its own last words, if it said them.
    fn start_failed(&self, what: &str, log_start: u64) -> Diagnostic {
        if let Some(fatal) = log::fatal(&self.log_path(), log_start) {
            let hint = match fatal.code {
                Code::PortInUse => {
                    "stop what listens there, or choose another port: `rbee-keeper --hive-port PORT queen start`"
                        .to_owned()
                }
                _ => fatal.hint.unwrap_or_else(|| format!("see {}", self.log_path().display())),
            };
            return Diagnostic::new(
                Code::HiveStartFailed,
                format!("the hive cannot start: {}", fatal.message),
            )
            .hint(hint);
        }
        let lines = log::last_lines(&self.log_path(), log_start, 5);
        let told = if lines.is_empty() {
            String::new()
        } else {
            format!("; its last words: {}", lines.join(" | "))
        };
        Diagnostic::new(Code::HiveStartFailed, format!("the hive {what}{told}"))
            .hint(format!("see {}", self.log_path().display()))
    }

    async fn connect(&self, record: DaemonRecord) -> Result<RunningHive, Diagnostic> {
        let token = self.token()?.expose().to_owned();
        let client = HiveClient::new(&record.url, Some(token))?;
        let health = client.health().await?;
        if health.api_version != API_VERSION {
            return Err(Diagnostic::new(
                Code::VersionIncompatible,
                format!(
                    "the hive at {} is version {} (interface {}), this queen is version {} (interface {API_VERSION})",
                    record.url,
                    diagnostics::excerpt(&health.version, 40),
                    health.api_version,
                    env!("CARGO_PKG_VERSION"),
                ),
            )
            .hint("stop the old hive, then start the queen again: `rbee-keeper queen stop`, `rbee-keeper queen start`")
            .detail("hive_api_version", health.api_version)
            .detail("queen_api_version", API_VERSION));
        }
        Ok(RunningHive {
            client,
            process: record.process,
            health,
        })
    }

    fn token(&self) -> Result<Token, Diagnostic> {
        Token::load_or_create(&self.home.node_token(&NodeName::local()))
    }

    fn log_path(&self) -> PathBuf {
        self.home.hive_log()
    }

    fn cannot_start(&self, error: &std::io::Error) -> Diagnostic {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::HiveNotInstalled,
            _ => Code::HiveStartFailed,
        };
        Diagnostic::new(
            code,
            format!("cannot start {}: {error}", self.program.display()),
        )
        .hint("rbee binaries must be in the same directory; build them with `cargo build`")
    }
}

impl RunningHive {
    /// Stops the hive, its workers first if asked to, and returns when its process is gone.
    /// One that does not end by itself gets SIGTERM, then SIGKILL.
    pub async fn stop(&self, request: &ShutdownRequest) -> Result<(), Diagnostic> {
        let told = self.client.shutdown(request).await;
        if let Err(error) = &told {
            tracing::warn!(%error, "the hive did not take the order to stop");
        }
        for signal in [None, Some(Signal::Term), Some(Signal::Kill)] {
            // Without workers to stop, a hive that took no order gets its signal at once.
            if signal.is_none() && told.is_err() {
                continue;
            }
            if let Some(signal) = signal {
                self.process.signal(signal)?;
            }
            if timeout(ENDS_WITHIN, self.process.gone()).await.is_ok() {
                return match told {
                    // It ended, and nobody stopped its workers.
                    Err(error) if request.stop_workers => Err(error.into()),
                    _ => Ok(()),
                };
            }
        }
        Err(Diagnostic::internal(format!(
            "the hive (process {}) does not end",
            self.process.pid
        )))
    }
}
