use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use input_validation::NodeName;
use serde_json::Value;
use state_files::{DaemonRecord, Home};
use tempfile::TempDir;

/// Mock engine that costs nothing, with a slot for every client.
const MODEL: &str = "mock:slots=64,length=16";

/// A queen, a hive and a mock worker with a home of their own, and nginx in front of the worker.
pub struct Servers {
    bin_dir: std::path::PathBuf,
    home: TempDir,
    nginx: Child,
    /// URL of the queen.
    pub queen: String,
    /// URL of the worker.
    pub worker: String,
    /// URL of nginx.
    pub proxy: String,
    /// Bearer token of the worker.
    pub token: String,
    pub model: &'static str,
}

impl Servers {
    pub fn start(bin_dir: &Path) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("rbee-bench-").tempdir()?;
        let started = keeper(bin_dir, home.path(), &["infer", "hello", "--model", MODEL])?;
        ensure!(!started.is_empty(), "the mock worker produced no output");
        let files = Home::at(home.path());
        let queen = DaemonRecord::read(&files.queen_record())?;
        let queen = queen.context("the queen has no record")?.url;
        let list = keeper(bin_dir, home.path(), &["--json", "worker", "list"])?;
        let list: Value = serde_json::from_str(&list)?;
        let port = list["workers"][0]["port"]
            .as_u64()
            .context("the list of workers has no port")?;
        let token = fs::read_to_string(files.node_token(&NodeName::local()))?;
        let (nginx, proxy) = start_nginx(home.path(), port)?;
        Ok(Self {
            bin_dir: bin_dir.to_owned(),
            home,
            nginx,
            queen,
            worker: format!("http://127.0.0.1:{port}"),
            proxy,
            token: token.trim().to_owned(),
            model: MODEL,
        })
    }

    pub fn stop(mut self) -> Result<()> {
        self.nginx.kill()?;
        self.nginx.wait()?;
        keeper(&self.bin_dir, self.home.path(), &["queen", "stop"])?;
        Ok(())
    }
}

fn keeper(bin_dir: &Path, home: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(bin_dir.join("rbee-keeper"))
        .args(args)
        .env("RBEE_HOME", home)
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

/// Starts nginx, configured for streams: keep-alive connections to the worker, no buffering.
fn start_nginx(dir: &Path, worker: u64) -> Result<(Child, String)> {
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
        .args(["-g", "daemon off;"])
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start nginx")?;
    Ok((nginx, format!("http://127.0.0.1:{port}")))
}

fn path_with_sbin() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}
