//! The shell around the pure cores, on real processes: shell scripts that stand where the
//! worker program is looked for.
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
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use daemon_shell::{ProcessIdentity, Token};
use diagnostics::{Code, Diagnostic};
use hive_contract::{JobEvent, SpawnRequest, SpawnResponse, WorkerState};
use hive_jobs::{JobContext, Reporter};
use input_validation::{DeviceId, Generation, WorkerId};
use model_catalog::ModelCatalog;
use serde_json::json;
use state_files::{SpawnRecord, WorkerDir, WorkerDirs};
use tokio_util::sync::CancellationToken;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, path},
};
use worker_lifecycle::{
    PortRange, Settings, StartLimits, StopLimits, SystemProbe, WorkerBinaries, Workers,
};

struct Fixture {
    root: tempfile::TempDir,
    workers: Arc<Workers>,
    told: Arc<Mutex<Vec<JobEvent>>>,
}

/// Workers whose program is this script.
fn fixture(script: &str) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let program = root.path().join("bin/mock-worker-rbee");
    // Written by another process: a descriptor of ours that is open for writing could be
    // inherited by a process that starts at the same time, and the script could not run.
    let written = Command::new("sh")
        .arg("-c")
        .arg(r#"mkdir -p "$(dirname "$1")" && printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod +x "$1""#)
        .args(["sh", program.to_str().unwrap(), script])
        .status();
    assert!(written.unwrap().success());
    let told: Arc<Mutex<Vec<JobEvent>>> = Arc::default();
    let workers = open(&root, &told);
    Fixture {
        root,
        workers,
        told,
    }
}

fn open(root: &tempfile::TempDir, told: &Arc<Mutex<Vec<JobEvent>>>) -> Arc<Workers> {
    let dir = root.path();
    let token_file = dir.join("token");
    let settings = Settings {
        hive_id: "local".parse().unwrap(),
        runs: dirs(root),
        binaries: WorkerBinaries::new(dir.join("bin")),
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
    let catalog = Arc::new(ModelCatalog::new(dir.join("models")));
    let probe = Arc::new(SystemProbe::new(dir.to_owned()));
    Workers::open(settings, catalog, probe, sink(told)).unwrap()
}

fn dirs(root: &tempfile::TempDir) -> WorkerDirs {
    WorkerDirs::new(root.path().join("workers"))
}

fn sink(told: &Arc<Mutex<Vec<JobEvent>>>) -> Reporter {
    let told = Arc::clone(told);
    Reporter::new(move |event| told.lock().unwrap().push(event))
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
            context_length: None,
            slots: Some(3),
            threads: None,
            wait_ready: true,
        };
        let context = JobContext {
            reporter: sink(&self.told),
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

    fn told(&self) -> String {
        format!("{:?}", self.told.lock().unwrap())
    }

    /// The process ids that the script wrote to a file of its folder.
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

/// A worker that never listens and has a child of its own.
const SILENT: &str =
    "echo loading; sleep 600 & printf '%s\\n%s\\n' $$ $! > pids.new; mv pids.new pids; wait";

#[tokio::test]
async fn a_fatal_line_is_the_error() {
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
async fn an_exit_is_told_with_the_last_lines_of_the_log() {
    let f = fixture("echo one; printf 'two \\033[31m\\n' >&2; exit 3");
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert!(error.message.contains("exit code 3"), "{}", error.message);
    assert!(error.message.contains("\n    one\n    two \\u{1b}[31m"));
    assert_eq!(
        f.workers.logs(&id("w-1"), 1).await.unwrap(),
        "two \\u{1b}[31m\n"
    );
}

#[tokio::test]
async fn a_program_that_cannot_run_is_told() {
    let f = fixture("");
    let program = f.root.path().join("bin/mock-worker-rbee");
    fs::remove_file(&program).unwrap();
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::WorkerBinaryNotFound);
    assert!(!f.dir().path().exists(), "nothing was begun");
}

#[tokio::test]
async fn silence_ends_the_whole_process_group() {
    let f = fixture(SILENT);
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert!(error.message.contains("did not answer on port"));
    assert!(error.message.contains("loading"), "{}", error.message);
    for pid in f.pids().await {
        eventually(|| ProcessIdentity::of(pid).is_none().then_some(())).await;
    }
    let last_exit = f.record().last_exit.unwrap();
    assert!(
        last_exit.starts_with("signal 9 (did not answer"),
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
    assert!(error.message.contains("did not answer on port"), "{error}");
    foreign.verify().await;
}

#[tokio::test]
async fn a_cancelled_spawn_leaves_no_process() {
    let f = fixture(SILENT);
    let cancel = CancellationToken::new();
    let (error, pids) = tokio::join!(f.spawn_until(1, &cancel), async {
        let pids = f.pids().await;
        cancel.cancel();
        pids
    });
    assert_eq!(error.unwrap_err().code, Code::Cancelled);
    for pid in pids {
        eventually(|| ProcessIdentity::of(pid).is_none().then_some(())).await;
    }
    assert!(f.record().ended_at.is_some());
}

#[tokio::test]
async fn a_taken_port_is_left_for_the_next_one() {
    let f = fixture("exit 98");
    let error = f.spawn(1).await.unwrap_err();
    assert_eq!(error.code, Code::PortInUse);
    let told = f.told();
    assert_eq!(told.matches("was taken meanwhile").count(), 16, "{told}");
}

#[tokio::test]
async fn secrets_travel_by_file_and_never_as_an_argument() {
    let f = fixture(r#"echo "$@"; echo "$RBEE_WORKER_TOKEN_FILE $RBEE_QUEEN_TOKEN_FILE"; exit 1"#);
    f.spawn(7).await.unwrap_err();
    let record = f.record();
    let log = f.workers.logs(&id("w-1"), 9).await.unwrap();
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
    assert!(
        !serde_json::to_string(&record)
            .unwrap()
            .contains(secret.trim())
    );
}

#[tokio::test]
async fn each_spawn_of_a_name_is_counted_and_keeps_the_log_before() {
    let f = fixture("echo $PPID $$; exit 4");
    f.spawn(1).await.unwrap_err();
    let first = f.workers.logs(&id("w-1"), 9).await.unwrap();
    f.spawn(2).await.unwrap_err();
    let second = f.workers.logs(&id("w-1"), 9).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(fs::read_to_string(f.dir().previous_log()).unwrap(), first);
    let entry = f.workers.get(&id("w-1")).await.unwrap();
    assert_eq!(entry.restarts, 1);
    assert_eq!(entry.generation, Generation(2));
    let fenced = f.spawn(1).await.unwrap_err();
    assert_eq!(fenced.code, Code::Fenced);
}

#[tokio::test]
async fn a_worker_that_ignores_sigterm_is_killed_and_that_is_recorded() {
    let f = fixture(&format!("trap '' TERM; {SILENT}"));
    let (spawned, stopped) = tokio::join!(f.spawn(1), async {
        let pids = f.pids().await;
        f.workers.stop(&id("w-1"), None).await.unwrap();
        for pid in pids {
            eventually(|| ProcessIdentity::of(pid).is_none().then_some(())).await;
        }
    });
    let () = stopped;
    let error = spawned.unwrap_err();
    assert_eq!(error.code, Code::WorkerStartFailed);
    assert!(error.message.contains("SIGKILL"), "{}", error.message);
    let last_exit = f.record().last_exit.unwrap();
    assert!(last_exit.contains("signal 9 (stopped on request; it ignored SIGTERM"));
}

/// A process of its own group that nothing here has started as a worker, and a record that
/// says it is one.
fn foreign(f: &Fixture, worker: &str, shift: u64) -> (std::process::Child, ProcessIdentity) {
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
        restarts: 0,
        stop_cause: None,
        ended_at: None,
        last_exit: None,
    };
    record.write(&dirs(&f.root).of(&record.worker_id)).unwrap();
    (child, identity)
}

#[tokio::test]
async fn the_workers_of_an_earlier_hive_are_stopped_alike_and_together() {
    let f = fixture("");
    let mut children: Vec<_> = (0..5).map(|n| foreign(&f, &format!("w-{n}"), 0)).collect();
    let later = open(&f.root, &f.told);
    assert!(
        later
            .list()
            .await
            .unwrap()
            .iter()
            .all(|w| w.state == WorkerState::Running)
    );
    let begin = Instant::now();
    later.stop_all(Some(Duration::ZERO)).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2));
    for (child, identity) in &mut children {
        assert!(!identity.is_alive());
        child.wait().unwrap();
    }
    for entry in later.list().await.unwrap() {
        assert_eq!(entry.state, WorkerState::Exited);
        assert_eq!(entry.last_exit.as_deref(), Some("stopped with the hive"));
    }
}

#[tokio::test]
async fn another_program_with_the_pid_of_a_worker_is_left_alone() {
    let f = fixture("");
    let (mut child, identity) = foreign(&f, "w-1", 1);
    let entry = f.workers.get(&id("w-1")).await.unwrap();
    assert_eq!(entry.state, WorkerState::Exited);
    f.workers
        .stop(&id("w-1"), Some(Duration::ZERO))
        .await
        .unwrap();
    assert!(identity.is_alive());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let f = fixture("");
    let unknown = id("w-9");
    let code = |e: Result<(), Diagnostic>| e.unwrap_err().code;
    assert_eq!(
        code(f.workers.get(&unknown).await.map(drop)),
        Code::WorkerNotFound
    );
    assert_eq!(
        code(f.workers.logs(&unknown, 1).await.map(drop)),
        Code::WorkerNotFound
    );
    assert_eq!(
        code(f.workers.stop(&unknown, None).await),
        Code::WorkerNotFound
    );
}
