use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use input_validation::NodeName;
use serde_json::Value;
use state_files::{DaemonRecord, Home};
use tempfile::TempDir;

/// A queen, a hive and a mock worker with a home of their own, and nginx in front of the worker.
/// They are stopped when this is dropped.
pub struct Servers {
    _nginx: Nginx,
    _installation: Installation,
    /// URL of the queen.
    pub queen: String,
    /// URL of the worker.
    pub worker: String,
    /// URL of nginx.
    pub proxy: String,
    /// Bearer token of the worker.
    pub token: String,
    pub model: &'static str,
    pub queen_pid: u32,
    pub proxy_pid: u32,
}

impl Servers {
    pub fn start(bin_dir: &Path, model: &'static str) -> Result<Self> {
        let installation = Installation {
            bin_dir: bin_dir.to_owned(),
            home: tempfile::Builder::new().prefix("rbee-bench-").tempdir()?,
        };
        let home = installation.home.path();
        let started = installation.keeper(&["infer", "hello", "--model", model])?;
        ensure!(!started.is_empty(), "the mock worker produced no output");
        let files = Home::at(home);
        let queen = DaemonRecord::read(&files.queen_record())?;
        let queen = queen.context("the queen has no record")?;
        let list = installation.keeper(&["--json", "worker", "list"])?;
        let list: Value = serde_json::from_str(&list)?;
        let port = list["workers"][0]["port"]
            .as_u64()
            .context("the list of workers has no port")?;
        let token = fs::read_to_string(files.node_token(&NodeName::local()))?;
        let (nginx, proxy) = start_nginx(home, port)?;
        Ok(Self {
            proxy_pid: nginx.0.id(),
            queen_pid: queen.process.pid,
            _nginx: nginx,
            _installation: installation,
            queen: queen.url,
            worker: format!("http://127.0.0.1:{port}"),
            proxy,
            token: token.trim().to_owned(),
            model,
        })
    }
}

/// The processes of one home, stopped when this is dropped.
struct Installation {
    bin_dir: PathBuf,
    home: TempDir,
}

impl Installation {
    fn keeper(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(self.bin_dir.join("rbee-keeper"))
            .args(args)
            .env("RBEE_HOME", self.home.path())
            .env("RBEE_QUEEN_PORT", "0")
            .env("RBEE_HIVE_PORT", "0")
            .env("RBEE_WORKER_PORTS", "0")
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "rbee-keeper {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Err(error) = self.keeper(&["queen", "stop"]) {
            eprintln!("{error:#}");
        }
    }
}

/// A process of nginx, killed when this is dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail only if the process has exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts nginx, configured for streams: keep-alive connections to the worker, no buffering.
fn start_nginx(dir: &Path, worker: u64) -> Result<(Nginx, String)> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let dir_text = dir.display();
    let config = format!(
        "worker_processes 1; pid {dir_text}/nginx.pid; error_log {dir_text}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {dir_text}/body; proxy_temp_path {dir_text}/proxy;
    fastcgi_temp_path {dir_text}/f; uwsgi_temp_path {dir_text}/u; scgi_temp_path {dir_text}/s;
    upstream worker {{ server 127.0.0.1:{worker}; keepalive 128; }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0; client_body_buffer_size 1m;
        keepalive_requests 1000000;
        location / {{
            proxy_pass http://worker;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
        }}
    }}
}}
"
    );
    let path = dir.join("nginx.conf");
    fs::write(&path, config)?;
    let nginx = Command::new("nginx")
        .env("PATH", path_with_sbin())
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(&path)
        // One process, which does not leave workers behind when it is killed.
        .args(["-g", "daemon off; master_process off;"])
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start nginx")?;
    Ok((Nginx(nginx), format!("http://127.0.0.1:{port}")))
}

fn path_with_sbin() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}
