//! A complete worker: loading, heartbeats, fencing, shutdown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[allow(dead_code)]
mod support;

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, routing::post};
use daemon_shell::{ErrorResponse, Token};
use diagnostics::{Code, Diagnostic};
use http::HeaderMap;
use inference_execution::{
    Runtime, RuntimeConfig,
    mock::{MockEngine, MockSettings},
};
use rest_client::CallError;
use support::{HANG, config};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use worker_contract::{
    InferInput, InferRequest, StreamEvent, WorkerClient, WorkerHeartbeat, WorkerInfo, WorkerStatus,
};
use worker_service::{ServiceConfig, SharedService, run};

/// A queen that forwards heartbeats to the test.
struct FakeQueen {
    url: String,
    heartbeats: mpsc::UnboundedReceiver<(Option<String>, WorkerHeartbeat)>,
    stop: CancellationToken,
}

impl Drop for FakeQueen {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type Forward = mpsc::UnboundedSender<(Option<String>, WorkerHeartbeat)>;

impl FakeQueen {
    /// Starts a queen that refuses heartbeats after the one with this sequence number.
    async fn start(last_accepted: u64) -> Self {
        Self::responding(last_accepted, Code::Fenced).await
    }

    /// Starts a queen that responds with `refusal` to heartbeats after the one with this sequence
    /// number.
    async fn responding(last_accepted: u64, refusal: Code) -> Self {
        let (sender, heartbeats) = mpsc::unbounded_channel();
        let handler = move |State(forward): State<Forward>,
                            headers: HeaderMap,
                            Json(beat): Json<WorkerHeartbeat>| async move {
            let sequence = beat.sequence;
            let token = headers
                .get("authorization")
                .map(|v| v.to_str().unwrap().to_owned());
            forward.send((token, beat)).unwrap();
            if sequence > last_accepted {
                return Err(ErrorResponse(Diagnostic::new(
                    refusal,
                    "generation 4 is registered",
                )));
            }
            Ok(Json(serde_json::json!({})))
        };
        let routes = Router::new()
            .route("/v1/worker-heartbeats", post(handler))
            .with_state(sender);
        let listener = daemon_shell::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(daemon_shell::serve(listener, routes, stop.clone()));
        Self {
            url,
            heartbeats,
            stop,
        }
    }

    /// Waits for a heartbeat with this status.
    async fn heartbeat(&mut self, status: WorkerStatus) -> WorkerInfo {
        let wait = async {
            loop {
                let (token, beat) = self.heartbeats.recv().await.unwrap();
                assert!(token.unwrap().starts_with("Bearer "));
                if beat.worker.status == status {
                    return beat.worker;
                }
            }
        };
        timeout(HANG, wait)
            .await
            .unwrap_or_else(|_| panic!("no heartbeat with {status:?}"))
    }
}

fn start(queen_url: &str, settings: &str) -> (JoinHandle<Result<(), Diagnostic>>, String) {
    let dir = tempfile::tempdir().unwrap();
    let token = Token::load_or_create(&dir.path().join("token")).unwrap();
    let secret = token.expose().to_owned();
    let settings: MockSettings = settings.parse().unwrap();
    let service = ServiceConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        queen_url: queen_url.to_owned(),
        worker_token: Arc::new(token.clone()),
        queen_token: token,
    };
    let slots = settings.slots;
    let handle = tokio::spawn(run(config(), service, move |progress| {
        let (engine, codec) = MockEngine::load(settings, &*progress)?;
        let runtime = RuntimeConfig::new("mock:test".parse()?, slots);
        let runtime = Runtime::start(Box::new(engine), Arc::new(codec), runtime)?;
        Ok(Arc::new(runtime) as SharedService)
    }));
    (handle, secret)
}

fn client(info: &WorkerInfo, secret: &str) -> WorkerClient {
    WorkerClient::new(
        &format!("http://127.0.0.1:{}", info.port),
        Some(secret.to_owned()),
    )
    .unwrap()
}

fn request(id: &str) -> InferRequest {
    InferRequest::new(id.parse().unwrap(), InferInput::Prompt("hello".into()))
}

#[tokio::test]
async fn heartbeats_report_every_status_until_the_worker_stops() {
    let mut queen = FakeQueen::start(u64::MAX).await;
    let (worker, secret) = start(
        &queen.url,
        "slots=1,load_ms=300,tokens_per_second=50,length=75",
    );
    let starting = queen.heartbeat(WorkerStatus::Starting).await;
    assert_ne!(starting.port, 0);
    let ready = queen.heartbeat(WorkerStatus::Ready).await;
    assert_eq!((ready.slots_free, ready.generation.0), (1, 3));

    let client = client(&ready, &secret);
    let stream = client
        .infer_stream(&request("a"), HeaderMap::new())
        .await
        .unwrap();
    queen.heartbeat(WorkerStatus::Busy).await;
    client.shutdown().await.unwrap();
    queen.heartbeat(WorkerStatus::Draining).await;
    // The running request finishes, and its last event arrives although the server stops.
    let events: Vec<StreamEvent> = futures_util::StreamExt::collect::<Vec<_>>(stream)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(matches!(events.last(), Some(StreamEvent::End(_))));
    queen.heartbeat(WorkerStatus::Stopped).await;
    assert_eq!(timeout(HANG, worker).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn superseded_worker_ends_its_requests_and_exits() {
    let mut queen = FakeQueen::start(1).await;
    let (worker, secret) = start(
        &queen.url,
        "slots=1,load_ms=300,tokens_per_second=50,length=4000",
    );
    let ready = queen.heartbeat(WorkerStatus::Ready).await;
    // The third heartbeat reports that the worker is busy and is refused with status 409.
    let client = client(&ready, &secret);
    let stream = client
        .infer_stream(&request("a"), HeaderMap::new())
        .await
        .unwrap();
    let events: Vec<_> = futures_util::StreamExt::collect(stream).await;
    let Some(Ok(StreamEvent::Error(error))) = events.last() else {
        panic!("{:?}", events.last());
    };
    assert_eq!(error.code, Code::Fenced);
    let exit = timeout(HANG, worker).await.unwrap().unwrap().unwrap_err();
    assert_eq!(exit.code, Code::Fenced);
}

#[tokio::test]
async fn worker_does_not_need_a_queen() {
    // A port that was just freed, so that no process listens on it.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (worker, _) = start(&format!("http://{closed}"), "fail=load");
    // The error is that of loading, not that of the missing queen.
    let error = timeout(HANG, worker).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code, Code::InvalidModelFile);
}

#[tokio::test]
async fn a_queen_that_accepts_no_heartbeat_receives_more_of_them() {
    let mut accepting = FakeQueen::start(u64::MAX).await;
    let mut failing = FakeQueen::responding(0, Code::Internal).await;
    let workers = [&accepting, &failing].map(|queen| start(&queen.url, "slots=1"));
    accepting.heartbeat(WorkerStatus::Ready).await;
    failing.heartbeat(WorkerStatus::Ready).await;
    while failing.heartbeats.try_recv().is_ok() {}
    accepting.heartbeat(WorkerStatus::Ready).await;
    let received = failing.heartbeats.len();
    assert!(received >= 3, "{received} while the other received one");
    for (worker, _) in workers {
        worker.abort();
    }
}

#[tokio::test]
async fn occupied_port_has_its_own_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let token = Token::load_or_create(&dir.path().join("token")).unwrap();
    let service = ServiceConfig {
        bind: taken.local_addr().unwrap(),
        queen_url: "http://127.0.0.1:1".into(),
        worker_token: Arc::new(token.clone()),
        queen_token: token,
    };
    let load = |_| -> Result<SharedService, Diagnostic> { panic!("the model must not be loaded") };
    assert_eq!(
        run(config(), service, load).await.unwrap_err().code,
        Code::PortInUse
    );
}

#[tokio::test]
async fn lost_engine_ends_the_worker() {
    let mut queen = FakeQueen::start(u64::MAX).await;
    let (worker, secret) = start(&queen.url, "slots=1,fail=panic");
    let ready = queen.heartbeat(WorkerStatus::Ready).await;
    let response = client(&ready, &secret)
        .infer(&InferRequest {
            stream: false,
            ..request("a")
        })
        .await;
    let expected = "the engine panicked: requested by the mock engine's settings";
    let Err(CallError::Response(500, error)) = response else {
        panic!("{response:?}");
    };
    assert_eq!(error.message, expected);
    let exit = timeout(HANG, worker).await.unwrap().unwrap().unwrap_err();
    assert_eq!(exit.message, expected);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_loading() {
    let mut queen = FakeQueen::start(u64::MAX).await;
    let (worker, secret) = start(&queen.url, "load_ms=600000");
    let starting = queen.heartbeat(WorkerStatus::Starting).await;
    client(&starting, &secret).shutdown().await.unwrap();
    let exit = timeout(Duration::from_secs(10), worker)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(exit, Ok(()));
}
