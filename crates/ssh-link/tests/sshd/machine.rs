//! A machine with an SSH server, and the queen's side.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use diagnostics::Diagnostic;
use queen_contract::SshNode;
use ssh_link::{SshSession, SshSettings};
use ssh_server::{ALIAS, SshServer};
use state_files::Home;
use tempfile::TempDir;

pub struct Machine {
    pub server: SshServer,
    pub home: Home,
    pub settings: SshSettings,
    _dir: TempDir,
}

impl Machine {
    pub fn start() -> Self {
        Self::with_shell(Path::new("/bin/sh"))
    }

    pub fn with_shell(shell: &Path) -> Self {
        let server = SshServer::start_with_shell(shell).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path().join("h"))).unwrap();
        let settings = SshSettings {
            config_file: Some(server.config()),
            attempt_pauses: [0, 1, 2].map(Duration::from_millis).to_vec(),
            reconnect_pauses: (Duration::from_millis(10), Duration::from_millis(50)),
            ..SshSettings::new(&home).unwrap()
        };
        Self {
            server,
            home,
            settings,
            _dir: dir,
        }
    }

    pub async fn connect(&self) -> Result<SshSession, Diagnostic> {
        SshSession::connect(&node(), &self.settings, &|_| {}).await
    }

    /// Connects; returns the messages as well.
    pub async fn connect_reported(
        &self,
        node: &SshNode,
    ) -> (Result<SshSession, Diagnostic>, Vec<String>) {
        let messages = Mutex::new(Vec::new());
        let report = |event: diagnostics::Narration| messages.lock().unwrap().push(event.message);
        let result = SshSession::connect(node, &self.settings, &report).await;
        (result, messages.into_inner().unwrap())
    }

    pub fn settings(&self) -> Arc<SshSettings> {
        Arc::new(self.settings.clone())
    }

    /// Names of the files in the directory for sockets.
    pub fn sockets(&self) -> Vec<String> {
        let entries = fs::read_dir(self.settings.runtime.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Waits until the client has no connection and no file.
    pub async fn left(&self) {
        let left = async {
            while self.server.connections() > 0 || !self.sockets().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = Duration::from_secs(10);
        let what = || format!("{} {:?}", self.server.connections(), self.sockets());
        tokio::time::timeout(limit, left)
            .await
            .unwrap_or_else(|_| panic!("left: {}", what()));
    }
}

/// Command lines of the processes that use one of these paths: ssh, also for jump hosts.
pub fn processes_with(paths: &[&Path]) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.flat_map(|entry| fs::read(entry.path().join("cmdline")));
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| {
            paths
                .iter()
                .any(|path| line.contains(path.to_str().unwrap()))
        })
        .collect()
}

/// The node that the configuration of the server describes.
pub fn node() -> SshNode {
    SshNode {
        host: ALIAS.parse().unwrap(),
        port: None,
        user: None,
        key_file: None,
        directory: None,
        repository: None,
        branch: None,
    }
}
