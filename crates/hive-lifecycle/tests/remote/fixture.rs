//! A node with an SSH server, and the queen's side.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use daemon_shell::Token;
use diagnostics::Narration;
use hive_lifecycle::{CatalogOptions, Release, RemoteHive, RemoteHiveConfig, Source};
use queen_contract::SshNode;
use ssh_link::{LinkConfig, SshLink, SshSettings};
use ssh_server::SshServer;
use state_files::Home;
use tempfile::TempDir;

/// The catalog that the hive is started with.
pub const CATALOG: [&str; 2] = ["https://catalog.example/a b", "RWQkey+/="];

/// A hive that serves `/v1/health` and writes its record, in place of the real one.
const HIVE: &str = r#"#!/usr/bin/env python3
import hashlib, http.server, json, os, sys
if "--version" in sys.argv:
    print("rbee-hive VERSION")
    sys.exit()
home = sys.argv[sys.argv.index("--home") + 1]
name = sys.argv[sys.argv.index("--hive-id") + 1]
token = open(sys.argv[sys.argv.index("--token-file") + 1]).read().strip()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/v1/health" and self.headers["authorization"] != "Bearer " + token:
            return self.send_error(401)
        body = json.dumps({"status": "ok", "hive_id": name, "version": "VERSION",
            "api_version": API, "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open("/proc/self/stat") as stat:
    start = int(stat.read().rsplit(")", 1)[1].split()[19])
record = {"format": 2, "process": {"pid": os.getpid(), "start_time": start},
    "url": "http://127.0.0.1:%d" % server.server_port, "version": "VERSION",
    "api_version": API, "started_at": "2026-01-01T00:00:00Z"}
text = json.dumps(record, separators=(",", ":")).encode()
record["checksum"] = hashlib.sha256(text).hexdigest()[:16]
os.makedirs(home + "/run", exist_ok=True)
with open(home + "/run/RECORD.new", "w") as file:
    json.dump(record, file, indent=2)
os.rename(home + "/run/RECORD.new", home + "/run/RECORD")
print("started", flush=True)
server.serve_forever()
"#;

pub struct Node {
    pub server: SshServer,
    pub home: Home,
    settings: SshSettings,
    pub hive: RemoteHive,
    release: PathBuf,
    messages: Arc<Mutex<Vec<String>>>,
    _dir: TempDir,
}

impl Node {
    pub fn start() -> Self {
        Self::with_source(None)
    }

    pub fn with_source(source: Option<Source>) -> Self {
        let server = SshServer::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let release = dir.path().join("release");
        fs::create_dir(&release).unwrap();
        let home = Home::open(Some(dir.path().join("h"))).unwrap();
        let settings = SshSettings {
            config_file: Some(server.config()),
            ..SshSettings::new(&home).unwrap()
        };
        let hive = host(&server, &home, settings.clone(), release.clone(), source);
        Self {
            server,
            home,
            settings,
            hive,
            release,
            messages: Arc::default(),
            _dir: dir,
        }
    }

    /// The host as another queen creates it, or this one after a change of the source.
    pub fn host(&self, source: Option<Source>) -> RemoteHive {
        let (settings, release) = (self.settings.clone(), self.release.clone());
        host(&self.server, &self.home, settings, release, source)
    }

    /// Forgets the token of the node: a host that is created from now on has another one.
    pub fn forget_token(&self) {
        fs::remove_file(self.home.node_token(&"gpu-box".parse().unwrap())).unwrap();
    }

    pub fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap().clone()
    }

    pub fn directory(&self) -> PathBuf {
        self.server.home().join(".rbee")
    }

    /// Puts a hive with this interface version into the release.
    pub fn release(&self, api_version: u32, more: &str) {
        self.release_program(&format!("{}{more}", self.text(api_version)));
    }

    pub fn text(&self, api_version: u32) -> String {
        let record = self.home.hive_record();
        let record = record.file_name().unwrap().to_str().unwrap();
        HIVE.replace("VERSION", env!("CARGO_PKG_VERSION"))
            .replace("API", &api_version.to_string())
            .replace("RECORD", record)
    }

    pub fn release_program(&self, text: &str) {
        let file = self.release.join("rbee-hive");
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn report(&self) -> impl Fn(Narration) + Send + Sync + use<> {
        let messages = Arc::clone(&self.messages);
        move |event| messages.lock().unwrap().push(event.message)
    }

    pub async fn install(&self) {
        self.hive.install(&self.report()).await.unwrap();
    }

    pub fn current(&self) -> PathBuf {
        fs::read_link(self.directory().join("bin/current")).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(Some(record)) =
            state_files::DaemonRecord::read_alive(&Home::at(self.directory()).hive_record())
        {
            let _ = record.process.signal(daemon_shell::Signal::Kill);
        }
    }
}

fn host(
    server: &SshServer,
    home: &Home,
    settings: SshSettings,
    release: PathBuf,
    source: Option<Source>,
) -> RemoteHive {
    let name: input_validation::NodeName = "gpu-box".parse().unwrap();
    let link = SshLink::start(LinkConfig {
        name: name.clone(),
        node: SshNode {
            host: ssh_server::ALIAS.parse().unwrap(),
            port: Some(server.port()),
            user: None,
            key_file: None,
            directory: None,
            repository: None,
            branch: None,
        },
        settings: Arc::new(settings),
        queen_url: "http://127.0.0.1:1".into(),
        port_file: home.queen_port_on(&name),
    });
    RemoteHive::new(RemoteHiveConfig {
        token: Arc::new(Token::load_or_create(&home.node_token(&name)).unwrap()),
        name,
        link: Arc::new(link.unwrap()),
        directory: "~/.rbee".parse().unwrap(),
        release: Release::new(release),
        source,
        worker_ports: None,
        catalog: Some(CatalogOptions::new(CATALOG[0].into(), Some(CATALOG[1].into())).unwrap()),
        log: "info".into(),
    })
}
