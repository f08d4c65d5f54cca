use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use daemon_shell::{ProcessIdentity, Signal, Token};
use reqwest::Method;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use worker_contract::{QUEEN_TOKEN_FILE_ENV, WORKER_TOKEN_FILE_ENV};

use crate::{endpoint::Endpoint, queen::Queen, response::Answer};

/// Argument of a command that stands for the options of the contract.
const OPTIONS: &str = "{options}";
/// Time between two requests while the worker starts.
const POLL: Duration = Duration::from_millis(20);
/// Exit code of a worker whose port is taken.
pub const PORT_TAKEN: i32 = 98;
/// Ports that are tried.
const MAX_PORTS: u32 = 5;

/// The worker to test.
#[derive(Debug, Clone)]
pub enum Target {
    /// A worker that runs.
    Url {
        url: String,
        token_file: Option<PathBuf>,
    },
    /// A program to start.
    Command {
        /// Program and arguments. `{options}` is replaced by the options of the contract; if it is
        /// missing, they are appended.
        command: Vec<String>,
        /// Value of `--model`.
        model: String,
        /// Time that the worker may take until it can infer.
        ready_limit: Duration,
    },
}

/// Starts the worker as a hive does.
#[derive(Clone)]
pub struct Launcher {
    pub command: Vec<String>,
    pub model: String,
    pub ready_limit: Duration,
}

/// Values of the options that the worker must report.
#[derive(Debug, Clone)]
pub struct Identity {
    pub worker_id: String,
    pub generation: u64,
    pub hive_id: String,
    pub device: String,
    pub port: u16,
    pub slots: u32,
}

/// A worker process. Its process group is killed when dropped.
pub struct Running {
    pub identity: Identity,
    pub endpoint: Endpoint,
    pub queen: Queen,
    pub queen_token: String,
    /// First response of `GET /health`, without a token.
    pub health: Answer,
    /// Responses of `GET /ready` until the worker was ready.
    pub ready: Vec<Answer>,
    pub process: Process,
}

pub struct Process {
    child: Child,
    /// Process id, which is also the id of the process group.
    pub pid: u32,
    log: PathBuf,
    /// File with the token of the worker.
    pub token_file: PathBuf,
    _files: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// How a start ended.
enum Started {
    Running(Box<Running>),
    PortTaken(anyhow::Error),
}

impl Launcher {
    /// Runs the program with one argument instead of the options, until it exits.
    pub async fn run_with(&self, argument: &str) -> Result<std::process::Output> {
        let mut command = self.expand(&[argument.to_owned()])?;
        let output = command.kill_on_drop(true).stdin(Stdio::null()).output();
        let limit = self.ready_limit;
        let output = timeout(limit, output).await;
        Ok(output.with_context(|| format!("no exit within {} s", limit.as_secs()))??)
    }

    /// Starts a worker and waits until it can infer. As a hive does, it tries further ports if
    /// another program takes the chosen one first.
    pub async fn start(&self) -> Result<Running> {
        for _ in 1..MAX_PORTS {
            if let Started::Running(running) = self.start_once().await? {
                return Ok(*running);
            }
        }
        match self.start_once().await? {
            Started::Running(running) => Ok(*running),
            Started::PortTaken(error) => Err(error),
        }
    }

    async fn start_once(&self) -> Result<Started> {
        let queen = Queen::start().await?;
        let port = free_port()?;
        let (mut process, identity, token) = self.spawn(port, &queen.url, true)?;
        let endpoint = Endpoint::new(
            format!("http://127.0.0.1:{port}"),
            Some(token.expose().to_owned()),
        )?;
        let limit = Instant::now() + self.ready_limit;
        let mut health = None;
        let mut ready = Vec::new();
        loop {
            if let Some(status) = process.child.try_wait()? {
                let error = anyhow!("the worker exited: {status}\n{}", process.last_lines());
                if status.code() == Some(PORT_TAKEN) {
                    return Ok(Started::PortTaken(error));
                }
                return Err(error);
            }
            if Instant::now() > limit {
                bail!(
                    "the worker is not ready after {} s\n{}",
                    self.ready_limit.as_secs(),
                    process.last_lines()
                );
            }
            if health.is_none() {
                health = endpoint.get_public("/health").await.ok();
            } else if let Ok(answer) = endpoint.call(Method::GET, "/ready", None).await {
                let is_ready = answer.status == 200 && answer.json["ready"] == true;
                ready.push(answer);
                if is_ready {
                    break;
                }
            }
            sleep(POLL).await;
        }
        let running = Running {
            identity,
            endpoint,
            queen,
            queen_token: token.expose().to_owned(),
            health: health.context("no response of `GET /health`")?,
            ready,
            process,
        };
        Ok(Started::Running(Box::new(running)))
    }

    /// Starts a process. Without `tokens`, it does not receive the files of the tokens.
    pub fn spawn(
        &self,
        port: u16,
        queen_url: &str,
        tokens: bool,
    ) -> Result<(Process, Identity, Token)> {
        let files = tempfile::tempdir()?;
        let path = files.path().join("token");
        let token = Token::load_or_create(&path)?;
        let identity = Identity {
            worker_id: "conformance-1".into(),
            generation: 3,
            hive_id: "conformance".into(),
            device: "CPU-0".into(),
            port,
            slots: 2,
        };
        let mut options = Vec::new();
        for (name, value) in [
            ("--worker-id", identity.worker_id.clone()),
            ("--model", self.model.clone()),
            ("--device", identity.device.clone()),
            ("--port", port.to_string()),
            ("--queen-url", queen_url.to_owned()),
            ("--hive-id", identity.hive_id.clone()),
            ("--generation", identity.generation.to_string()),
            ("--slots", identity.slots.to_string()),
        ] {
            // Options that the user wrote are not repeated. Those after `--` are of another program.
            let mut own = self.command.iter().take_while(|word| *word != "--");
            if !own.any(|argument| argument == name) {
                options.extend([name.to_owned(), value]);
            }
        }
        let log = files.path().join("log");
        let output = fs::File::create(&log)?;
        let mut command = self.expand(&options)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        for name in [WORKER_TOKEN_FILE_ENV, QUEEN_TOKEN_FILE_ENV] {
            if tokens {
                command.env(name, &path);
            } else {
                command.env_remove(name);
            }
        }
        let child = command.spawn().context("cannot start the worker")?;
        let pid = child.id().context("the worker has no process id")?;
        let process = Process {
            child,
            pid,
            log,
            token_file: path,
            _files: files,
        };
        Ok((process, identity, token))
    }

    fn expand(&self, options: &[String]) -> Result<Command> {
        let mut arguments: Vec<String> = Vec::new();
        for argument in &self.command {
            if argument == OPTIONS {
                arguments.extend_from_slice(options);
            } else {
                arguments.push(argument.clone());
            }
        }
        if !self.command.iter().any(|argument| argument == OPTIONS) {
            arguments.extend_from_slice(options);
        }
        let (program, arguments) = arguments.split_first().context("the command is empty")?;
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(command)
    }
}

impl Process {
    /// Waits until the process exits. Returns `None` after the limit.
    pub async fn exit(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(Some(status?)),
            Err(_) => Ok(None),
        }
    }

    pub fn terminate(&self) -> Result<()> {
        let process = ProcessIdentity::of(self.pid).context("the worker exited by itself")?;
        process.signal(Signal::Term)?;
        Ok(())
    }

    /// Returns the processes of the group that run, as `pid name`.
    pub fn group(&self) -> Vec<String> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let text = fs::read_to_string(entry.path().join("stat")).ok()?;
                let (head, rest) = text.rsplit_once(')')?;
                let mut fields = rest.split_ascii_whitespace();
                let is_zombie = fields.next()? == "Z";
                let group: u32 = fields.nth(1)?.parse().ok()?;
                (group == self.pid && !is_zombie).then(|| head.replace('(', ""))
            })
            .collect()
    }

    /// Returns the end of the output of the worker.
    pub fn last_lines(&self) -> String {
        last_lines(&self.log)
    }

    fn kill_group(&self) {
        // A group keeps its id as long as one of its processes exists, and the child is not
        // waited for before this if it runs.
        if self.group().is_empty() {
            return;
        }
        if let Some(group) = rustix::process::Pid::from_raw(self.pid as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(5));
    let tail: Vec<String> = tail.map(|line| diagnostics::excerpt(line, 300)).collect();
    tail.join("\n")
}

/// Returns a port that no process listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
