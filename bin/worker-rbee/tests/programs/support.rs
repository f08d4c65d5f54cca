//! Starting worker programs and talking to them.

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
/// Far longer than anything here takes: reached only by a hang.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// A worker process; killed when dropped.
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

pub(crate) fn start(program: &str, model: &str, more: &[&str]) -> Process {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let token = Token::load_or_create(&path).unwrap();
    let mut command = Command::new(program);
    command
        .args([
            "--worker-id",
            "w-1",
            "--hive-id",
            "local",
            "--generation",
            "1",
        ])
        // Port 1 has no queen: the worker must do without.
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
    /// A client, as soon as the log tells the port.
    pub(crate) fn client(&mut self) -> WorkerClient {
        let mut lines = self.stderr.as_mut().unwrap().lines();
        let port = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, rest) = line.split_once(" port=")?;
                Some(rest.split_whitespace().next().unwrap().to_owned())
            })
            .expect("the worker ended before it listened");
        let token = Some(self.token.expose().to_owned());
        WorkerClient::new(&format!("http://127.0.0.1:{port}"), token).unwrap()
    }

    pub(crate) fn terminate(&self) {
        let identity = ProcessIdentity::of(self.child.id()).expect("it ended by itself");
        assert_eq!(identity.signal(Signal::Term), Ok(true));
    }

    /// Waits for the end; the exit status and the rest of standard error.
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        if let Some(mut stderr) = self.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        (self.child.wait().unwrap(), text)
    }

    pub(crate) fn fatal(&mut self) -> (i32, FatalLine) {
        let (status, text) = self.end();
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

/// Asks until the model is loaded.
pub(crate) async fn infer(
    client: &WorkerClient,
    request: &InferRequest,
) -> worker_contract::InferResponse {
    let attempt = async {
        loop {
            match client.infer(request).await {
                Ok(response) => return response,
                Err(rest_client::CallError::Answer(503, e)) if e.code == Code::NotReady => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(HANG, attempt).await.unwrap()
}
