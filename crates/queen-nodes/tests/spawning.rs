//! Spawning on a node whose hive is a small HTTP server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a test fails by panicking"
)]

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use daemon_shell::{ProcessIdentity, Token};
use diagnostics::{Code, Diagnostic};
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use hive_contract::{HiveClient, HiveShutdownRequest};
use hive_lifecycle::{HiveHost, RemoteHive, RunningHive};
use input_validation::{Backend, HostKeyFingerprint, NodeName};
use node_link::LocalLink;
use queen_contract::NodeSpec;
use queen_dispatch::{Clock, Dispatcher, WorkerSource as _};
use queen_nodes::{
    Narrate, NodeConfig, NodeConnector, NodeFindings, NodeLimits, NodeParts, NodeTarget, Nodes,
    QueenState,
};
use scheduler::{Scheduler, SchedulerSettings, SpawnTarget};
use serde_json::json;
use state_files::Home;
use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};

const TEST_LIMIT: Duration = Duration::from_secs(20);

/// A hive that was started elsewhere.
#[derive(Debug)]
struct FakeHost(RunningHive);

impl HiveHost for FakeHost {
    fn ensure(&self) -> BoxFuture<'_, Result<RunningHive, Diagnostic>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn lost<'a>(&'a self, _: &'a RunningHive) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    fn stop<'a>(
        &'a self,
        _: &'a RunningHive,
        _: &'a HiveShutdownRequest,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async { Ok(()) })
    }
}

/// These tests register no nodes.
#[derive(Debug)]
struct NoConnector;

impl NodeConnector for NoConnector {
    fn test<'a>(
        &'a self,
        _: NodeTarget<'a>,
        _: Option<&'a HostKeyFingerprint>,
        _: Narrate<'a>,
    ) -> BoxFuture<'a, Result<NodeFindings, Diagnostic>> {
        Box::pin(async { Err(Diagnostic::internal("not used")) })
    }

    fn open(&self, _: NodeTarget<'_>) -> Result<NodeParts, Diagnostic> {
        Err(Diagnostic::internal("not used"))
    }

    fn managed_hive(&self, _: NodeTarget<'_>) -> Result<Arc<RemoteHive>, Diagnostic> {
        Err(Diagnostic::internal("not used"))
    }
}

/// A response to a spawn that sends these events and then stays open.
fn open_stream(events: &'static [&'static str]) -> Response {
    let events = stream::iter(events).map(|event| Ok::<_, std::io::Error>(Bytes::from(*event)));
    let body = Body::from_stream(events.chain(stream::pending()));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

async fn fake_hive(spawn_events: &'static [&'static str]) -> RunningHive {
    serve(
        Router::new()
            .route(
                "/v1/workers",
                get(|| async { Json(json!({"workers": []})) }),
            )
            .route(
                "/v1/workers/spawn",
                post(move || async move { open_stream(spawn_events) }),
            ),
    )
    .await
}

async fn serve(app: Router) -> RunningHive {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    RunningHive {
        client: HiveClient::new(&url, None).unwrap(),
        process: ProcessIdentity::own(),
    }
}

/// A node named `attic`, which is not the queen's own machine.
async fn attic(hive: RunningHive, limits: NodeLimits) -> (Nodes, Dispatcher, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(Some(directory.path().to_owned())).unwrap();
    let name: NodeName = "attic".parse().unwrap();
    let state = QueenState::open(&home).await.unwrap();
    let nodes = Nodes::new(state, Arc::new(NoConnector), limits);
    add(&nodes, &home, &name, hive).await;
    let scheduler = Scheduler::new(SchedulerSettings::default());
    let dispatcher = Dispatcher::start(scheduler, Clock::start(), Arc::new(nodes.clone()));
    (nodes, dispatcher, directory)
}

async fn add(nodes: &Nodes, home: &Home, name: &NodeName, hive: RunningHive) {
    let http = rest_client::http_client().unwrap();
    let node = NodeConfig {
        name: name.clone(),
        spec: NodeSpec::Local,
        link: Arc::new(LocalLink::new(http, "http://127.0.0.1:1".to_owned())),
        token: Arc::new(Token::load_or_create(&home.node_token(name)).unwrap()),
        hive: Some(Arc::new(FakeHost(hive))),
    };
    nodes.add(node).await.unwrap();
}

async fn spawn(events: &'static [&'static str], limits: NodeLimits) -> Diagnostic {
    let (nodes, dispatcher, _home) = attic(fake_hive(events).await, limits).await;
    let target = SpawnTarget {
        model: "mock:a=1".parse().unwrap(),
        node: "attic".parse().unwrap(),
        backend: Backend::Cpu,
        device: None,
    };
    let spawned = nodes.provide(&target, &dispatcher);
    let spawned = timeout(TEST_LIMIT, spawned).await;
    spawned.expect("the spawn ends").unwrap_err()
}

#[tokio::test]
async fn a_spawn_without_events_fails_after_the_limit() {
    let limits = NodeLimits {
        spawn_event: Duration::from_millis(50),
        ..NodeLimits::default()
    };
    const NARRATION: &str = "event: narration\ndata: {\"actor\": \"hive\", \
                             \"action\": \"spawn\", \"message\": \"starting\"}\n\n";
    for events in [&[][..], &[NARRATION]] {
        let error = spawn(events, limits).await;
        assert_eq!(error.code, Code::LoadingTimeout, "{error}");
    }
}

#[tokio::test]
async fn an_error_event_of_another_node_than_local_ends_the_spawn() {
    const REFUSED: &str =
        "event: error\ndata: {\"code\": \"INVALID_MODEL_FILE\", \"message\": \"no\"}\n\n";
    let error = spawn(&[REFUSED], NodeLimits::default()).await;
    assert_eq!(error, Diagnostic::new(Code::InvalidModelFile, "no"));
}

/// A hive whose model has a longer context each time it is shown.
async fn hive_with_a_changing_model() -> RunningHive {
    let shown = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let app = Router::new().route(
        "/v1/models/show",
        post(move || async move {
            let context = shown.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            let model = json!({
                "model": "file:/m.gguf", "format": "gguf", "size_bytes": 1,
                "architecture": "llama", "quantization": "F16", "context_length": context,
                "parameters": 1,
            });
            Json(json!({"model": model, "metadata": {}}))
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    RunningHive {
        client: HiveClient::new(&url, None).unwrap(),
        process: ProcessIdentity::own(),
    }
}

#[tokio::test]
async fn a_model_is_described_as_its_files_are_now() {
    let hive = hive_with_a_changing_model().await;
    let (nodes, _, _home) = attic(hive, NodeLimits::default()).await;
    nodes.settled(TEST_LIMIT).await;
    let model = "file:/m.gguf".parse().unwrap();
    assert_eq!(nodes.known_model(&model), None);
    for context in 1..=2 {
        let described = nodes.described_model(&model).await.unwrap();
        assert_eq!(described.context_length, context);
        assert_eq!(nodes.known_model(&model), Some(described));
    }
}

/// A hive that lists these models, and sends the bodies of pulls to a channel. Every pull is
/// denied.
async fn hive_without_access(
    models: serde_json::Value,
    pulls: tokio::sync::mpsc::UnboundedSender<serde_json::Value>,
) -> RunningHive {
    const DENIED: &str =
        "event: error\ndata: {\"code\": \"MODEL_ACCESS_DENIED\", \"message\": \"no\"}\n\n";
    let pull = move |Json(body): Json<serde_json::Value>| async move {
        pulls.send(body).unwrap();
        Json(json!({"job_id": "j-1"}))
    };
    serve(
        Router::new()
            .route(
                "/v1/models",
                get(move || async move { Json(json!({"models": models})) }),
            )
            .route("/v1/models/pull", post(pull))
            .route(
                "/v1/jobs/{id}/events",
                get(|| async { open_stream(&[DENIED]) }),
            ),
    )
    .await
}

#[tokio::test]
async fn a_spawn_copies_what_another_node_has() {
    let (pulls, mut pulled) = tokio::sync::mpsc::unbounded_channel();
    let fetched = json!([{
        "model": "hf:org/repo:Q4_0", "format": "gguf", "size_bytes": 1, "architecture": "llama",
        "quantization": "Q4_0", "context_length": 512, "parameters": 1,
        "files": {"path": "/m", "revision": "c1", "sha256": "00",
            "added_at": "2026-01-01T00:00:00Z"},
    }]);
    let target = hive_without_access(json!([]), pulls.clone()).await;
    let (nodes, dispatcher, directory) = attic(target, NodeLimits::default()).await;
    let home = Home::at(directory.path());
    let barn = "barn".parse().unwrap();
    let holder = hive_without_access(fetched, pulls).await;
    add(&nodes, &home, &barn, holder).await;
    nodes.settled(TEST_LIMIT).await;
    nodes.models().await;
    let mut provide = async |model: &str| {
        let target = SpawnTarget {
            model: model.parse().unwrap(),
            node: "attic".parse().unwrap(),
            backend: Backend::Cpu,
            device: None,
        };
        let spawned = timeout(TEST_LIMIT, nodes.provide(&target, &dispatcher)).await;
        (spawned.unwrap().unwrap_err(), pulled.try_recv().ok())
    };
    let (error, pull) = provide("hf:org/repo:Q4_0").await;
    // Requests may not fetch models, so the vendor is not asked.
    let expected = json!({"model": "hf:org/repo:Q4_0",
        "copy_from": {"queen_url": "http://127.0.0.1:1", "or_vendor": false}});
    assert_eq!(pull, Some(expected));
    assert_eq!(error.code, Code::ModelAccessDenied);
    let hint = error.hint.unwrap();
    assert!(
        hint.contains("`rbee-keeper pull MODEL --node attic`"),
        "{hint}"
    );
    // No node has the other one.
    assert_eq!(provide("hf:org/other:Q4_0").await.1, None);
    nodes.allow_auto_pull();
    let (_, pull) = provide("hf:org/other:Q4_0").await;
    assert_eq!(pull, Some(json!({"model": "hf:org/other:Q4_0"})));
}
