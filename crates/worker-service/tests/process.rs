//! The worker as a whole: loading, heartbeats, fencing, shutdown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

#[allow(dead_code)]
mod support;

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, routing::post};
use daemon_shell::{Answer, Token};
use diagnostics::{Code, Diagnostic};
use http::HeaderMap;
use inference_execution::{
    RuntimeConfig,
    mock::{MockEngine, MockSettings},
};
use support::{HANG, config};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use worker_contract::{
    InferInput, InferRequest, StreamEvent, WorkerClient, WorkerHeartbeat, WorkerInfo, WorkerStatus,
};
use worker_service::{Loaded, ServiceConfig, run};

/// A queen that passes heartbeats on to the test and answers as it is told.
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

type Told = mpsc::UnboundedSender<(Option<String>, WorkerHeartbeat)>;

impl FakeQueen {
    async fn start(fences_above: u64) -> Self {
        let (sender, heartbeats) = mpsc::unbounded_channel();
        let take = move |State(told): State<Told>,
                         headers: HeaderMap,
                         Json(beat): Json<WorkerHeartbeat>| async move {
            let sequence = beat.sequence;
            let token = headers
                .get("authorization")
                .map(|v| v.to_str().unwrap().to_owned());
            told.send((token, beat)).unwrap();
            if sequence > fences_above {
                return Err(Answer(Diagnostic::new(Code::Fenced, "generation 4 serves")));
            }
            Ok(Json(serde_json::json!({})))
        };
        let routes = Router::new()
            .route("/v1/worker-heartbeats", post(take))
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

    /// The next heartbeat with this status.
    async fn told(&mut self, status: WorkerStatus) -> WorkerInfo {
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
            .unwrap_or_else(|_| panic!("never told {status:?}"))
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
        runtime: RuntimeConfig::new("mock:test".parse().unwrap(), settings.slots),
    };
    let handle = tokio::spawn(run(config(), service, move |progress| {
        let (engine, codec) = MockEngine::load(settings, &*progress)?;
        Ok(Loaded {
            engine: Box::new(engine),
            codec,
        })
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
async fn the_queen_is_told_of_every_state_until_the_end() {
    let mut queen = FakeQueen::start(u64::MAX).await;
    let (worker, secret) = start(
        &queen.url,
        "slots=1,load_ms=300,tokens_per_second=50,length=25",
    );
    let starting = queen.told(WorkerStatus::Starting).await;
    assert_ne!(starting.port, 0);
    let ready = queen.told(WorkerStatus::Ready).await;
    assert_eq!((ready.slots_free, ready.generation.0), (1, 3));

    let client = client(&ready, &secret);
    let stream = client
        .infer_stream(&request("a"), HeaderMap::new())
        .await
        .unwrap();
    queen.told(WorkerStatus::Busy).await;
    client.shutdown().await.unwrap();
    queen.told(WorkerStatus::Draining).await;
    // What runs finishes, and the last event arrives although the server stops.
    let events: Vec<StreamEvent> = futures_util::StreamExt::collect::<Vec<_>>(stream)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(matches!(events.last(), Some(StreamEvent::End(_))));
    queen.told(WorkerStatus::Stopped).await;
    assert_eq!(timeout(HANG, worker).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn a_fenced_worker_ends_what_runs_and_itself() {
    let mut queen = FakeQueen::start(1).await;
    let (worker, secret) = start(
        &queen.url,
        "slots=1,load_ms=300,tokens_per_second=50,length=4000",
    );
    let ready = queen.told(WorkerStatus::Ready).await;
    // The third heartbeat, which tells that it is busy, is answered 409.
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
    let ended = timeout(HANG, worker).await.unwrap().unwrap().unwrap_err();
    assert_eq!(ended.code, Code::Fenced);
}

#[tokio::test]
async fn without_a_queen_it_serves_all_the_same() {
    // A port that was free an instant ago and that nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (worker, _) = start(&format!("http://{closed}"), "fail=load");
    // Even its failure to load is its own, not that of the missing queen.
    let error = timeout(HANG, worker).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code, Code::InvalidModelFile);
}

#[tokio::test]
async fn a_taken_port_is_told_apart() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let token = Token::load_or_create(&dir.path().join("token")).unwrap();
    let service = ServiceConfig {
        bind: taken.local_addr().unwrap(),
        queen_url: "http://127.0.0.1:1".into(),
        worker_token: Arc::new(token.clone()),
        queen_token: token,
        runtime: RuntimeConfig::new("mock:test".parse().unwrap(), 1),
    };
    let load = |_| -> Result<Loaded, Diagnostic> { panic!("it must not load") };
    assert_eq!(
        run(config(), service, load).await.unwrap_err().code,
        Code::PortInUse
    );
}

#[tokio::test]
async fn an_engine_that_is_lost_ends_the_worker() {
    let mut queen = FakeQueen::start(u64::MAX).await;
    let (worker, secret) = start(&queen.url, "slots=1,fail=panic");
    let ready = queen.told(WorkerStatus::Ready).await;
    let answer = client(&ready, &secret)
        .infer(&InferRequest {
            stream: false,
            ..request("a")
        })
        .await;
    assert!(answer.is_err());
    let error = timeout(HANG, worker).await.unwrap().unwrap().unwrap_err();
    assert!(error.message.contains("panicked"), "{error}");
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_loading() {
    let mut queen = FakeQueen::start(u64::MAX).await;
    let (worker, secret) = start(&queen.url, "load_ms=600000");
    let starting = queen.told(WorkerStatus::Starting).await;
    client(&starting, &secret).shutdown().await.unwrap();
    let ended = timeout(Duration::from_secs(10), worker)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended, Ok(()));
}
