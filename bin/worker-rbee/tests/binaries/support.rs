//! Starts worker processes and sends requests to them.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::Duration,
};

use daemon_shell::{ProcessIdentity, Signal, Token};
use diagnostics::Code;
use tempfile::TempDir;
use worker_contract::{
    FatalLine, InferInput, InferRequest, QUEEN_TOKEN_FILE_ENV, WORKER_TOKEN_FILE_ENV, WorkerClient,
};

pub(crate) const MOCK: &str = env!("CARGO_BIN_EXE_mock-worker-rbee");
pub(crate) const CANDLE: &str = env!("CARGO_BIN_EXE_llm-cpu-worker-rbee");
/// Much longer than any test takes; exceeded only by a hang.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// A worker process. It is killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) stderr: Option<BufReader<ChildStderr>>,
    token: Token,
    _dir: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn start(binary: &str, model: &str, more: &[&str]) -> Process {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let token = Token::load_or_create(&path).unwrap();
    let mut command = Command::new(binary);
    command
        .args([
            "--worker-id",
            "w-1",
            "--hive-id",
            "local",
            "--generation",
            "1",
        ])
        // No queen listens on port 1, and the worker does not need one.
        .args(["--queen-url", "http://127.0.0.1:1", "--model", model])
        .args(more)
        .env(WORKER_TOKEN_FILE_ENV, &path)
        .env(QUEEN_TOKEN_FILE_ENV, &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = child.stderr.take().map(BufReader::new);
    Process {
        child,
        stderr,
        token,
        _dir: dir,
    }
}

pub(crate) const CPU_0: [&str; 4] = ["--device", "CPU-0", "--port", "0"];

impl Process {
    /// Returns a client when the log shows the port.
    pub(crate) fn client(&mut self) -> WorkerClient {
        let mut lines = self.stderr.as_mut().unwrap().lines();
        let port = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, rest) = line.split_once(" port=")?;
                Some(rest.split_whitespace().next().unwrap().to_owned())
            })
            .expect("the worker exited before it listened");
        let token = Some(self.token.expose().to_owned());
        WorkerClient::new(&format!("http://127.0.0.1:{port}"), token).unwrap()
    }

    pub(crate) fn terminate(&self) {
        let identity = ProcessIdentity::of(self.child.id()).expect("the worker exited by itself");
        assert_eq!(identity.signal(Signal::Term), Ok(true));
    }

    /// Waits for the exit. Returns the status and the rest of standard error.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        if let Some(mut stderr) = self.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        (self.child.wait().unwrap(), text)
    }

    /// Waits for the exit. Returns the exit code and the reported error.
    pub(crate) fn fatal(&mut self) -> (i32, FatalLine) {
        let (status, text) = self.wait();
        let last = text.lines().last().unwrap_or_default();
        let line = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {text}"));
        (status.code().unwrap(), line)
    }
}

pub(crate) fn request(id: &str) -> InferRequest {
    InferRequest {
        stream: false,
        ..InferRequest::new(id.parse().unwrap(), InferInput::Prompt("hello".into()))
    }
}

/// Sends a request, and retries while the model loads.
pub(crate) async fn infer(
    client: &WorkerClient,
    request: &InferRequest,
) -> worker_contract::InferResponse {
    let attempt = async {
        loop {
            match client.infer(request).await {
                Ok(response) => return response,
                Err(rest_client::CallError::Response(503, e)) if e.code == Code::NotReady => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(HANG, attempt).await.unwrap()
}
