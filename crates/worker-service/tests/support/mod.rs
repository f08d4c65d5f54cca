//! A worker in this process, and HTTP clients for it.

use std::{sync::Arc, time::Duration};

use daemon_shell::Token;
use http::Method;
use inference_execution::{
    Runtime, RuntimeConfig,
    mock::{MockEngine, MockSettings},
};
use input_validation::Generation;
use tempfile::TempDir;
use text_codec::Codec;
use tokio_util::sync::CancellationToken;
use worker_contract::WorkerClient;
use worker_service::{Worker, WorkerConfig, router};

/// Much longer than any test takes; exceeded only by a hang.
pub const HANG: Duration = Duration::from_secs(30);

pub struct TestWorker {
    pub worker: Worker,
    pub base: String,
    pub token: Arc<Token>,
    pub client: WorkerClient,
    pub http: reqwest::Client,
    stop: CancellationToken,
    _dir: TempDir,
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn config() -> WorkerConfig {
    WorkerConfig {
        id: "w-1".parse().unwrap(),
        generation: Generation(3),
        hive_id: "local".parse().unwrap(),
        model: "mock:test".parse().unwrap(),
        device: "CPU-0".parse().unwrap(),
        port: 0,
        implementation: "rbee-mock".into(),
        version: "0.0.0".into(),
        slots: 2,
    }
}

pub fn runtime(settings: &str) -> Runtime {
    let settings: MockSettings = settings.parse().unwrap();
    let config = RuntimeConfig::new("mock:test".parse().unwrap(), settings.slots);
    let engine = Box::new(MockEngine::new(settings));
    Runtime::start(engine, Arc::new(Codec::byte_level()), config).unwrap()
}

pub async fn serving(settings: &str) -> TestWorker {
    serve(Worker::serving(config(), runtime(settings))).await
}

pub async fn serve(worker: Worker) -> TestWorker {
    let dir = tempfile::tempdir().unwrap();
    let token = Arc::new(Token::load_or_create(&dir.path().join("token")).unwrap());
    let listener = daemon_shell::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let routes = router(worker.clone(), token.clone());
    tokio::spawn(daemon_shell::serve(listener, routes, stop.clone()));
    TestWorker {
        client: WorkerClient::new(&base, Some(token.expose().to_owned())).unwrap(),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        worker,
        base,
        token,
        stop,
        _dir: dir,
    }
}

impl TestWorker {
    pub fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(self.token.expose())
    }

    /// Posts a JSON body. Returns the status and the JSON of the response, or null if it has none.
    pub async fn post(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, serde_json::Value) {
        let response = self
            .call(Method::POST, path)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Waits until no request is open.
    pub async fn idle(&self) {
        let runtime = self.worker.service().unwrap();
        tokio::time::timeout(HANG, runtime.idle()).await.unwrap();
    }
}
