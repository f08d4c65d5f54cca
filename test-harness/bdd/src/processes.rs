use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use daemon_shell::{ProcessIdentity, Signal};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{eventually, wait::try_within, within};

/// Environment variable that every process of a scenario inherits; it identifies the scenario.
const FAMILY: &str = "RBEE_TEST_FAMILY";

/// A command that has exited.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Exit code; `None` if a signal terminated the process.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A command in the background. It is killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    identity: ProcessIdentity,
    stdout: Capture,
    stderr: Capture,
}

/// Collects an output stream of a process.
#[derive(Debug)]
struct Capture {
    text: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Capture {
    fn start(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = text.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer).await {
                sink.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { text, task }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        Self {
            identity: ProcessIdentity::of(child.id().unwrap()).unwrap_or(ProcessIdentity {
                pid: child.id().unwrap(),
                start_time: 0,
            }),
            stdout: Capture::start(child.stdout.take().unwrap()),
            stderr: Capture::start(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Whether the process has not exited.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Sends a signal to the process, not to its process group.
    pub fn signal(&self, signal: Signal) {
        self.identity.signal(signal).unwrap();
    }

    /// Waits until the process exits. Panics with its output after `limit`.
    pub async fn finish(mut self, limit: Duration) -> Finished {
        let Some(status) = try_within(limit, self.child.wait()).await else {
            panic!(
                "still running after {limit:?}\nstdout: {}\nstderr: {}",
                self.stdout.so_far(),
                self.stderr.so_far()
            );
        };
        // A daemon that is still running may hold the other end of a pipe open.
        for capture in [&mut self.stdout, &mut self.stderr] {
            let _ = tokio::time::timeout(Duration::from_secs(2), &mut capture.task).await;
        }
        Finished {
            code: status.unwrap().code(),
            stdout: self.stdout.so_far(),
            stderr: self.stderr.so_far(),
        }
    }
}

/// Returns the path of an rbee binary: in `RBEE_BIN_DIR`, by default in the parent of the test
/// binary's directory, where cargo puts binaries.
pub fn binary(name: &str) -> PathBuf {
    let dir = env::var_os("RBEE_BIN_DIR").map_or_else(
        || {
            let exe = env::current_exe().unwrap();
            exe.parent().and_then(Path::parent).unwrap().to_owned()
        },
        PathBuf::from,
    );
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --bins`, or `cargo xtask bdd`, which does",
        path.display()
    );
    path
}

/// All processes that a scenario started, directly or indirectly: each inherits the id of the
/// family in its environment. Dropping the family kills its processes.
#[derive(Debug)]
pub(crate) struct Family(String);

impl Family {
    pub(crate) fn new() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// Makes the process of `command` a member.
    pub(crate) fn adopt(&self, command: &mut Command) {
        let (name, value) = self.variable();
        command.env(name, value);
    }

    /// The environment variable that makes a process a member.
    pub(crate) fn variable(&self) -> (&'static str, &str) {
        (FAMILY, &self.0)
    }

    pub(crate) fn members(&self) -> HashMap<ProcessIdentity, String> {
        members(&self.0)
    }

    /// Waits until all members have exited.
    pub(crate) async fn gone(&self, limit: Duration) {
        eventually(limit, || async {
            let left = self.members();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("still running: {:?}", left.values()))
            }
        })
        .await;
    }

    /// Kills a member and waits until it has exited.
    pub(crate) async fn kill(&self, identity: ProcessIdentity) {
        identity.signal(Signal::Kill).unwrap();
        within(Duration::from_secs(5), "the exit", identity.gone()).await;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for identity in self.members().into_keys() {
            let _ = identity.signal(Signal::Kill);
        }
    }
}

/// Returns the running processes of a family, with their command lines.
fn members(family: &str) -> HashMap<ProcessIdentity, String> {
    let needle = format!("{FAMILY}={family}");
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|b| *b == 0)
            .any(|v| v == needle.as_bytes())
            && let Some(identity) = ProcessIdentity::of(pid)
        {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.insert(identity, line);
        }
    }
    found
}
