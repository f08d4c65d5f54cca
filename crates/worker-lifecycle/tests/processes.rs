//! [`Workers`] on real processes: shell scripts in place of the worker binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use daemon_shell::{ProcessIdentity, Token};
use device_probe::SystemProbe;
use diagnostics::{Code, Diagnostic};
use engine_catalog::EngineCatalog;
use hive_contract::{JobEvent, SpawnRequest, SpawnResponse, WorkerState};
use hive_jobs::{JobContext, JobRegistry, NodeEvents, Reporter};
use input_validation::{DeviceId, Generation, PortRange, WorkerId};
use model_catalog::ModelCatalog;
use serde_json::json;
use state_files::{Home, SpawnRecord, WorkerDir, WorkerDirs};
use tokio_util::sync::CancellationToken;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, path},
};
use worker_lifecycle::{LifecycleSettings, StartLimits, StopLimits, Workers};
use worker_provisioning::{ProvisionSettings, Provisioner};

struct Fixture {
    root: tempfile::TempDir,
    workers: Arc<Workers>,
    events: Arc<Mutex<Vec<JobEvent>>>,
}

/// Workers whose binary is this script.
fn fixture(script: &str) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let program = root.path().join("bin/mock-worker-rbee");
    // Another process writes the script. A descriptor of this process that is open for writing
    // could be inherited by a process that another test starts, and the script could not run.
    let written = Command::new("sh")
        .arg("-c")
        .arg(r#"mkdir -p "$(dirname "$1")" && printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod +x "$1""#)
        .args(["sh", program.to_str().unwrap(), script])
        .status();
    assert!(written.unwrap().success());
    let events: Arc<Mutex<Vec<JobEvent>>> = Arc::default();
    let workers = open(&root, &events);
    Fixture {
        root,
        workers,
        events,
    }
}

fn provisioner(dir: &Path) -> Arc<Provisioner> {
    let settings = ProvisionSettings::new(
        Home::open(Some(dir.to_owned())).unwrap(),
        dir.join("bin"),
        "0.1.0",
    );
    let jobs = Arc::new(JobRegistry::new(NodeEvents::default()));
    Arc::new(Provisioner::open(settings, jobs).unwrap())
}

fn open(root: &tempfile::TempDir, events: &Arc<Mutex<Vec<JobEvent>>>) -> Arc<Workers> {
    let dir = root.path();
    let token_file = dir.join("token");
    let settings = LifecycleSettings {
        hive_id: "local".parse().unwrap(),
        runs: dirs(root),
        binaries: provisioner(dir),
        engines: EngineCatalog::new(Home::at(dir).engines()),
        ports: PortRange::Any,
        token: Token::load_or_create(&token_file).unwrap(),
        token_file,
        start_limits: StartLimits {
            silence: Duration::from_secs(2),
            ..StartLimits::default()
        },
        stop_limits: StopLimits {
            drain: Duration::from_secs(2),
            terminate: Duration::from_millis(300),
            kill: Duration::from_secs(5),
        },
    };
    let home = Home::at(dir);
    let catalog = ModelCatalog::open(home.model_dirs(), home.model_database(), Vec::new()).unwrap();
    let catalog = Arc::new(catalog);
    let probe = Arc::new(SystemProbe::new(dir.to_owned()));
    Workers::open(settings, catalog, probe, collector(events)).unwrap()
}

fn dirs(root: &tempfile::TempDir) -> WorkerDirs {
    WorkerDirs::new(root.path().join("workers"))
}

fn collector(events: &Arc<Mutex<Vec<JobEvent>>>) -> Reporter {
    let events = Arc::clone(events);
    Reporter::new(move |event| events.lock().unwrap().push(event))
}

fn id(text: &str) -> WorkerId {
    text.parse().unwrap()
}

impl Fixture {
    async fn spawn(&self, generation: u64) -> Result<SpawnResponse, Diagnostic> {
        self.spawn_until(generation, &CancellationToken::new())
            .await
    }

    async fn spawn_until(
        &self,
        generation: u64,
        cancel: &CancellationToken,
    ) -> Result<SpawnResponse, Diagnostic> {
        let request = SpawnRequest {
            worker_id: id("w-1"),
            generation: Generation(generation),
            model: "mock:load_ms=1".parse().unwrap(),
            device: DeviceId::Cpu(0),
            queen_url: "http://127.0.0.1:1".to_owned(),
            engine: None,
            context_length: None,
            slots: Some(3),
            threads: None,
            wait_ready: true,
            split: None,
        };
        let context = JobContext {
            reporter: collector(&self.events),
            cancel: cancel.clone(),
        };
        self.workers.spawn(request, &context).await
    }

    fn dir(&self) -> WorkerDir {
        dirs(&self.root).of(&id("w-1"))
    }

    fn record(&self) -> SpawnRecord {
        SpawnRecord::read(&self.dir()).unwrap().intact().unwrap()
    }

    fn last_exit(&self) -> String {
        self.record().last_exit.unwrap()
    }

    async fn log(&self, lines: usize) -> String {
        self.workers.logs(&id("w-1"), lines).await.unwrap()
    }

    /// The messages of all narration so far.
    fn narration(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let narrations = events.iter().filter_map(|event| match event {
            JobEvent::Narration(narration) => Some(narration.message.clone()),
            _ => None,
        });
        narrations.collect()
    }

    /// The two process ids that [`SILENT`] writes to a file.
    async fn pids(&self) -> Vec<u32> {
        let file = self.dir().path().join("pids");
        eventually(|| {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let pids: Vec<u32> = text.lines().map(|pid| pid.parse().unwrap()).collect();
            (pids.len() == 2).then_some(pids)
        })
        .await
    }
}

async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        tick.tick().await;
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "not within 10 s");
    }
}

async fn assert_gone(pids: Vec<u32>) {
    assert!(!pids.is_empty());
    for pid in pids {
        eventually(|| ProcessIdentity::of(pid).is_none().then_some(())).await;
    }
}

/// A worker that never listens and has a child process.
const SILENT: &str =
    "echo loading; sleep 600 & printf '%s\\n%s\\n' $$ $! > pids.new; mv pids.new pids; wait";

#[tokio::test]
async fn the_fatal_line_of_a_worker_is_the_error_of_the_spawn() {
    let f = fixture(
        r#"echo starting; echo '{"fatal":{"code":"INVALID_MODEL_FILE","message":"cut short at byte 7"}}' >&2; exit 1"#,
    );
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidModelFile);
    assert_eq!(error.message, "cut short at byte 7");
    assert_eq!(
        error.hint.as_deref(),
        Some("read its log with `rbee-keeper worker logs w-1`")
    );
    let entry = f.workers.get(&id("w-1")).await.unwrap();
    assert_eq!(entry.state, WorkerState::Exited);
    assert_eq!(entry.last_exit.as_deref(), Some("exit code 1"));
}

#[tokio::test]
async fn an_exit_without_a_reason_is_reported_with_the_end_of_the_log() {
    let f = fixture("echo one; printf 'two \\033[31m\\n' >&2; exit 3");
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert_eq!(
        error.message,
        "worker w-1 exited during startup: exit code 3; its log ends with:\n    one\n    two \\u{1b}[31m"
    );
    assert_eq!(f.log(1).await, "two \\u{1b}[31m\n");
}

#[tokio::test]
async fn a_missing_binary_fails_before_anything_is_written() {
    let f = fixture("");
    let program = f.root.path().join("bin/mock-worker-rbee");
    fs::remove_file(&program).unwrap();
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::WorkerBinaryNotFound);
    assert!(!f.dir().path().exists());
}

#[tokio::test]
async fn a_silent_worker_is_killed_with_its_process_group() {
    let f = fixture(SILENT);
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::WorkerStartFailed);
    let expected = format!(
        "worker w-1 did not respond on port {} within 2 s; its log ends with:\n    loading",
        f.record().port
    );
    assert_eq!(error.message, expected);
    assert_gone(f.pids().await).await;
    let last_exit = f.last_exit();
    assert!(
        last_exit.starts_with("signal 9 (did not respond on port"),
        "{last_exit}"
    );
}

#[tokio::test]
async fn a_worker_of_another_rbee_on_the_port_is_not_taken_for_ours() {
    let f = fixture(SILENT);
    let (spawned, foreign) = tokio::join!(f.spawn(1), async {
        f.pids().await;
        let listener = TcpListener::bind(("127.0.0.1", f.record().port)).unwrap();
        let foreign = MockServer::builder().listener(listener).start().await;
        let health = json!({"status": "ok", "worker_id": "w-1", "generation": 1,
            "version": "0.1.0", "api_version": worker_contract::API_VERSION});
        let healthy = ResponseTemplate::new(200).set_body_json(health);
        let public = Mock::given(path("/health")).respond_with(healthy);
        public.expect(1..).mount(&foreign).await;
        let refusal = ResponseTemplate::new(401);
        Mock::given(any())
            .respond_with(refusal)
            .mount(&foreign)
            .await;
        foreign
    });
    let error = spawned.unwrap_err();
    assert!(error.message.contains("did not respond on port"), "{error}");
    foreign.verify().await;
}

#[tokio::test]
async fn a_cancelled_spawn_leaves_no_process() {
    let f = fixture(SILENT);
    let cancel = CancellationToken::new();
    let (spawned, pids) = tokio::join!(f.spawn_until(1, &cancel), async {
        let pids = f.pids().await;
        cancel.cancel();
        pids
    });
    assert_eq!(spawned.unwrap_err().code, Code::Cancelled);
    assert_gone(pids).await;
    assert!(f.record().ended_at.is_some());
}

#[tokio::test]
async fn another_port_is_tried_when_the_chosen_one_is_taken() {
    let f = fixture("exit 98");
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::PortInUse);
    let narration = f.narration();
    let retries = narration
        .iter()
        .filter(|message| message.contains("was taken before worker w-1 bound it"));
    assert_eq!(retries.count(), 16, "{narration:?}");
}

#[tokio::test]
async fn secrets_are_passed_as_files_and_not_as_arguments() {
    let f = fixture(r#"echo "$@"; echo "$RBEE_WORKER_TOKEN_FILE $RBEE_QUEEN_TOKEN_FILE"; exit 1"#);
    f.spawn(7).await.unwrap_err();
    let record = f.record();
    let log = f.log(9).await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[0],
        format!(
            "--worker-id w-1 --model load_ms=1 --device CPU-0 --port {} --queen-url http://127.0.0.1:1 --hive-id local --generation 7 --alias mock:load_ms=1 --slots 3",
            record.port
        )
    );
    let file = f.root.path().join("token");
    assert_eq!(lines[1], format!("{0} {0}", file.display()));
    let secret = fs::read_to_string(file).unwrap();
    let stored = fs::read_to_string(f.dir().spawn_record()).unwrap();
    assert!(!secret.trim().is_empty());
    assert!(!stored.contains(secret.trim()));
}

#[tokio::test]
async fn a_respawn_counts_a_restart_and_keeps_the_previous_log() {
    let f = fixture("echo $PPID $$; exit 4");
    f.spawn(1).await.unwrap_err();
    let first = f.log(9).await;
    f.spawn(2).await.unwrap_err();
    let second = f.log(9).await;
    assert!(!first.is_empty() && !second.is_empty());
    assert_ne!(first, second);
    assert_eq!(fs::read_to_string(f.dir().previous_log()).unwrap(), first);
    let entry = f.workers.get(&id("w-1")).await.unwrap();
    assert_eq!(entry.restarts, 1);
    assert_eq!(entry.generation, Generation(2));
    let fenced = f.spawn(1).await.unwrap_err();
    assert_eq!(fenced.code, Code::Fenced);
}

#[tokio::test]
async fn a_worker_that_ignores_sigterm_is_killed_and_the_record_says_so() {
    let f = fixture(&format!("trap '' TERM; {SILENT}"));
    let (spawned, ()) = tokio::join!(f.spawn(1), async {
        let pids = f.pids().await;
        f.workers.stop(&id("w-1"), None, None).await.unwrap();
        assert_gone(pids).await;
    });
    let error = spawned.unwrap_err();
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert!(error.message.contains("SIGKILL"), "{}", error.message);
    assert_eq!(
        f.last_exit(),
        "signal 9 (stopped on request; it ignored SIGTERM for 0 s and was sent SIGKILL)"
    );
}

/// A process in its own process group that `f` has not started, and a spawn record that names
/// it. Its start time in the record is `shift` ticks later than the real one.
fn recorded_process(
    f: &Fixture,
    worker: &str,
    shift: u64,
) -> (std::process::Child, ProcessIdentity) {
    use std::os::unix::process::CommandExt as _;
    let child = Command::new("sleep")
        .arg("600")
        .process_group(0)
        .spawn()
        .unwrap();
    let identity = ProcessIdentity::of(child.id()).unwrap();
    let record = SpawnRecord {
        worker_id: id(worker),
        generation: Generation(1),
        model: "mock:load_ms=1".parse().unwrap(),
        device: DeviceId::Cpu(0),
        port: 1,
        argv: vec!["sleep".to_owned(), "600".to_owned()],
        process: Some(ProcessIdentity {
            start_time: identity.start_time + shift,
            ..identity
        }),
        started_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        engine: None,
        restarts: 0,
        stop_cause: None,
        ended_at: None,
        last_exit: None,
        part_of: None,
    };
    record.write(&dirs(&f.root).of(&record.worker_id)).unwrap();
    (child, identity)
}

#[tokio::test]
async fn the_workers_of_an_earlier_hive_are_stopped_in_parallel() {
    let f = fixture("");
    let mut children: Vec<_> = (0..5)
        .map(|n| recorded_process(&f, &format!("w-{n}"), 0))
        .collect();
    let later = open(&f.root, &f.events);
    let running = later.list().await.unwrap();
    assert_eq!(running.len(), 5);
    assert!(running.iter().all(|w| w.state == WorkerState::Running));
    let begin = Instant::now();
    later.stop_all(Some(Duration::ZERO)).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2));
    for (child, identity) in &mut children {
        assert!(!identity.is_alive());
        child.wait().unwrap();
    }
    let stopped = later.list().await.unwrap();
    assert_eq!(stopped.len(), 5);
    for entry in stopped {
        assert_eq!(entry.state, WorkerState::Exited);
        assert_eq!(entry.last_exit.as_deref(), Some("stopped with the hive"));
    }
}

#[tokio::test]
async fn another_process_with_the_pid_of_a_worker_is_not_signalled() {
    let f = fixture("");
    let (mut child, identity) = recorded_process(&f, "w-1", 1);
    let entry = f.workers.get(&id("w-1")).await.unwrap();
    assert_eq!(entry.state, WorkerState::Exited);
    f.workers
        .stop(&id("w-1"), None, Some(Duration::ZERO))
        .await
        .unwrap();
    assert!(identity.is_alive());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn an_unknown_worker_is_not_found() {
    let f = fixture("");
    let unknown = id("w-9");
    for result in [
        f.workers.get(&unknown).await.map(drop),
        f.workers.logs(&unknown, 1).await.map(drop),
        f.workers.stop(&unknown, None, None).await,
    ] {
        assert_eq!(result.unwrap_err().code, Code::WorkerNotFound);
    }
}
