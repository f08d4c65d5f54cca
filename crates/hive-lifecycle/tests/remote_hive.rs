//! The hive of another machine, through OpenSSH's sshd, with small scripts in place of the
//! programs. The real programs run in the tests of the queen.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a test fails by panicking"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use daemon_shell::Token;
use diagnostics::{Code, Narration};
use hive_lifecycle::{HiveHost as _, NodeLog, Release, RemoteHive, RemoteHiveConfig};
use queen_contract::SshNode;
use ssh_link::{LinkConfig, SshLink, SshSettings};
use ssh_server::SshServer;
use state_files::Home;
use tempfile::TempDir;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

/// A hive that serves `/v1/health` and writes its record, in place of the real one.
const HIVE: &str = r#"#!/usr/bin/env python3
import hashlib, http.server, json, os, sys
if "--version" in sys.argv:
    print("rbee-hive VERSION")
    sys.exit()
home = sys.argv[sys.argv.index("--home") + 1]
name = sys.argv[sys.argv.index("--hive-id") + 1]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
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

struct Node {
    server: SshServer,
    home: Home,
    hive: RemoteHive,
    release: PathBuf,
    messages: Arc<Mutex<Vec<String>>>,
    _dir: TempDir,
}

impl Node {
    fn start() -> Self {
        let server = SshServer::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let release = dir.path().join("release");
        fs::create_dir(&release).unwrap();
        let home = Home::open(Some(dir.path().join("h"))).unwrap();
        let settings = SshSettings {
            config_file: Some(server.config()),
            ..SshSettings::new(&home).unwrap()
        };
        let hive = host(&server, &home, settings, release.clone());
        Self {
            server,
            home,
            hive,
            release,
            messages: Arc::default(),
            _dir: dir,
        }
    }

    fn directory(&self) -> PathBuf {
        self.server.home().join(".rbee")
    }

    /// Puts a hive with this interface version into the release.
    fn release(&self, api_version: u32, more: &str) {
        let record = self.home.hive_record();
        let record = record.file_name().unwrap().to_str().unwrap();
        let text = HIVE
            .replace("VERSION", env!("CARGO_PKG_VERSION"))
            .replace("API", &api_version.to_string())
            .replace("RECORD", record);
        self.release_program(&format!("{text}{more}"));
    }

    fn release_program(&self, text: &str) {
        let file = self.release.join("rbee-hive");
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn report(&self) -> impl Fn(Narration) + Send + Sync + use<> {
        let messages = Arc::clone(&self.messages);
        move |event| messages.lock().unwrap().push(event.message)
    }

    async fn install(&self) {
        self.hive.install(&self.report()).await.unwrap();
    }

    fn current(&self) -> PathBuf {
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

fn host(server: &SshServer, home: &Home, settings: SshSettings, release: PathBuf) -> RemoteHive {
    let name: input_validation::NodeName = "gpu-box".parse().unwrap();
    let link = SshLink::start(LinkConfig {
        name: name.clone(),
        node: SshNode {
            host: ssh_server::ALIAS.parse().unwrap(),
            port: Some(server.port()),
            user: None,
            key_file: None,
            directory: None,
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
        worker_ports: None,
        log: "info".into(),
    })
}

#[tokio::test]
async fn a_hive_is_installed_started_found_and_stopped() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    let error = node.hive.ensure().await.unwrap_err();
    assert_eq!(error.code, Code::HiveNotInstalled);
    assert_eq!(
        error.hint.as_deref(),
        Some("`rbee-keeper node install gpu-box`")
    );

    node.install().await;
    let started = node.hive.ensure().await.unwrap();
    let found = node.hive.ensure().await.unwrap();
    assert_eq!(found.process, started.process);
    assert!(started.process.is_alive());
    let token = Home::at(node.directory()).node_token(&"gpu-box".parse().unwrap());
    assert_eq!(
        fs::metadata(&token).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let log = node.hive.log(&NodeLog::Hive, 1).await.unwrap();
    assert!(log.contains("GET /v1/health"), "{log}");

    let lost = node.hive.lost(&started);
    started.process.signal(daemon_shell::Signal::Kill).unwrap();
    timeout(LIMIT, lost).await.expect("the exit is noticed");
    assert_ne!(node.hive.ensure().await.unwrap().process, started.process);
    node.hive.uninstall(true, &node.report()).await.unwrap_err();
}

#[tokio::test]
async fn the_loss_of_the_link_is_the_loss_of_the_hive() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let hive = node.hive.ensure().await.unwrap();
    let (lost, ()) = tokio::join!(timeout(LIMIT, node.hive.lost(&hive)), async {
        tokio::task::yield_now().await;
        node.server.cut();
    });
    lost.expect("the loss is noticed");
    assert!(hive.process.is_alive(), "the hive outlives the link");
    timeout(LIMIT, node.hive.changed())
        .await
        .expect("the return is noticed");
    assert_eq!(node.hive.ensure().await.unwrap().process, hive.process);
}

#[tokio::test]
async fn a_hive_that_exits_is_reported_with_its_last_log_lines() {
    let node = Node::start();
    let version = env!("CARGO_PKG_VERSION");
    node.release_program(&format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo rbee-hive {version}; exit; }}\n\
         echo 'no such thing' >&2\nexit 3\n"
    ));
    node.install().await;
    let error = timeout(LIMIT, node.hive.ensure())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.code, Code::HiveStartFailed);
    assert_eq!(
        error.message,
        "the hive exited during startup; its log ends with: no such thing"
    );
}

#[tokio::test]
async fn a_hive_of_another_interface_version_is_named_with_both() {
    let node = Node::start();
    node.release(77, "");
    node.install().await;
    let error = node.hive.ensure().await.unwrap_err();
    assert_eq!(error.code, Code::VersionIncompatible);
    assert!(error.message.contains("(interface 77)"), "{error}");
    assert_eq!(
        error.hint.as_deref(),
        Some("`rbee-keeper node upgrade gpu-box`")
    );
    // The upgrade replaces it.
    node.release(hive_contract::API_VERSION, "");
    node.hive.upgrade(&node.report()).await.unwrap();
    node.hive.ensure().await.unwrap();
}

#[tokio::test]
async fn an_upgrade_that_does_not_start_is_rolled_back() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let before = node.hive.ensure().await.unwrap();
    let first = node.current();
    node.release(hive_contract::API_VERSION, "# another build\n");
    node.hive.upgrade(&node.report()).await.unwrap();
    let upgraded = node.hive.ensure().await.unwrap();
    assert_ne!(upgraded.process, before.process);
    let second = node.current();
    assert_ne!(second, first);

    let version = env!("CARGO_PKG_VERSION");
    node.release_program(&format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo rbee-hive {version}; exit; }}\nexit 3\n"
    ));
    let error = node.hive.upgrade(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::HiveStartFailed);
    let expected = format!(
        "the upgrade of node gpu-box failed, and {} runs again: ",
        second.display()
    );
    assert!(error.message.starts_with(&expected), "{error}");
    assert_eq!(node.current(), second);
    assert!(node.hive.ensure().await.unwrap().process.is_alive());
    // An upgrade to what is installed changes nothing.
    node.release(hive_contract::API_VERSION, "# another build\n");
    let running = node.hive.ensure().await.unwrap();
    node.hive.upgrade(&node.report()).await.unwrap();
    assert_eq!(node.hive.ensure().await.unwrap().process, running.process);
    let bin = node.directory().join("bin");
    let kept = fs::read_dir(&bin).unwrap().count();
    assert_eq!(kept, 4, "two versions, `current` and `previous`");
}

#[tokio::test]
async fn programs_that_do_not_run_are_not_made_current() {
    let node = Node::start();
    node.release_program("#!/bin/sh\necho 'Illegal instruction' >&2\nexit 132\n");
    let error = node.hive.install(&node.report()).await.unwrap_err();
    assert_eq!(error.code, Code::HiveNotInstalled);
    assert_eq!(
        error.message,
        "the programs of this release do not run on node gpu-box: Illegal instruction"
    );
    assert!(!Path::new(&node.directory().join("bin/current")).exists());
}

#[tokio::test]
async fn models_stay_unless_their_removal_is_requested() {
    let node = Node::start();
    node.release(hive_contract::API_VERSION, "");
    node.install().await;
    let home = Home::open(Some(node.directory())).unwrap();
    fs::write(home.models().join("m.gguf"), "m").unwrap();
    fs::write(node.server.home().join("own.txt"), "the user's").unwrap();
    node.hive.uninstall(false, &node.report()).await.unwrap();
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names(&node.directory()), ["models"]);
    node.hive.uninstall(true, &node.report()).await.unwrap();
    assert_eq!(names(&node.server.home()), ["own.txt"]);
}
