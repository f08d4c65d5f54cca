//! The processes: an engine, and a worker that is attached to it.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::{AdapterArgs, CLIENTS, TOKENS, requests::Target};
use crate::process;

/// An engine and a worker that is attached to it, without a queen.
pub(super) struct Worker {
    processes: Vec<Child>,
    _home: TempDir,
    http: reqwest::Client,
    url: String,
    engine: String,
    token: String,
}

impl Drop for Worker {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Worker {
    pub async fn start(args: &AdapterArgs) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
        let token = "ab".repeat(32);
        let token_file = home.path().join("token");
        fs::write(&token_file, &token)?;
        fs::set_permissions(&token_file, PermissionsExt::from_mode(0o600))?;
        let (port, engine_port) = (free_port()?, free_port()?);
        let engine = format!("http://127.0.0.1:{engine_port}");
        let mut worker = Self {
            processes: Vec::new(),
            _home: home,
            http: reqwest::Client::builder()
                .no_proxy()
                // llama.cpp's server closes the connection of a stream without saying so.
                .pool_max_idle_per_host(0)
                .tcp_nodelay(true)
                .build()?,
            url: format!("http://127.0.0.1:{port}"),
            engine: engine.clone(),
            token,
        };
        let mut server = args.engine_command(engine_port)?;
        server
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        worker
            .processes
            .push(server.spawn().context("cannot start the engine")?);
        worker.wait_until_ready(&format!("{engine}/health")).await?;
        let mut adapter = Command::new(args.bin_dir.join("adapter-worker-rbee"));
        adapter
            .args([
                "--worker-id",
                "bench",
                "--device",
                "CPU-0",
                "--hive-id",
                "bench",
            ])
            .args(["--generation", "1", "--queen-url", "http://127.0.0.1:9"])
            .args(["--log", "error", "--slots", &CLIENTS.to_string()])
            .args(["--port", &port.to_string(), "--model"])
            .arg(&args.model)
            .args(["--engine", "llama-cpp", "--attach", &engine])
            .env("RBEE_WORKER_TOKEN_FILE", &token_file)
            .env("RBEE_QUEEN_TOKEN_FILE", &token_file)
            .stdin(Stdio::null());
        worker
            .processes
            .push(adapter.spawn().context("cannot start the adapter")?);
        let url = format!("{}/ready", worker.url);
        worker.wait_until_ready(&url).await?;
        Ok(worker)
    }

    async fn wait_until_ready(&mut self, url: &str) -> Result<()> {
        loop {
            let response = self.http.get(url).bearer_auth(&self.token).send().await;
            if response.is_ok_and(|response| response.status() == 200) {
                return Ok(());
            }
            for process in &mut self.processes {
                let exited = process.try_wait()?;
                ensure!(exited.is_none(), "a process exited: {exited:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// CPU time of the adapter so far, in seconds.
    pub fn adapter_cpu_seconds(&self) -> Result<f64> {
        let adapter = self.processes.last().context("there is no adapter")?;
        process::cpu_seconds(adapter.id())
    }

    pub fn engine_target(&self) -> Target {
        Target {
            http: self.http.clone(),
            url: format!("{}/v1/chat/completions", self.engine),
            token: self.token.clone(),
            mark: "\"delta\":{\"content\":\"",
            body: |_, text| {
                json!({"messages": [{"role": "user", "content": text}], "stream": true,
                    "temperature": 0, "max_tokens": TOKENS})
            },
        }
    }

    pub fn adapter_target(&self) -> Target {
        Target {
            http: self.http.clone(),
            url: format!("{}/v1/infer", self.url),
            token: self.token.clone(),
            mark: "event: token\n",
            body: |id, text| {
                json!({"request_id": id, "max_tokens": TOKENS, "sampling": {"temperature": 0},
                    "input": {"messages": [{"role": "user", "content": text}]}})
            },
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
