use diagnostics::{Code, Diagnostic};
use futures_util::Stream;
use http::{HeaderMap, Method};
use input_validation::RequestId;
use rest_client::{CallError, Peer, RestClient};

use crate::{
    DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, Health, InferRequest,
    InferResponse, Ready, StreamEvent, TokenizeRequest, TokenizeResponse, WorkerInfo,
};

const PEER: Peer = Peer {
    name: "worker",
    unreachable: Code::WorkerLinkLost,
    bad_response: Code::WorkerLinkLost,
};

/// Calls to one worker.
#[derive(Debug, Clone)]
pub struct WorkerClient(RestClient);

impl WorkerClient {
    /// A client of the worker at `base`.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Diagnostic> {
        RestClient::new(PEER, base, token).map(Self)
    }

    /// The same over an existing connection pool.
    pub fn with_http(base: &str, token: Option<String>, http: rest_client::HttpClient) -> Self {
        Self(RestClient::with_http(PEER, base, token, http))
    }

    /// `GET /health`.
    pub async fn health(&self) -> Result<Health, CallError> {
        self.0.get("/health").await
    }

    /// `GET /ready`: whether it can infer, else how far loading is.
    pub async fn ready(&self) -> Result<Ready, CallError> {
        self.0.get_any_status("/ready").await
    }

    /// `GET /info`.
    pub async fn info(&self) -> Result<WorkerInfo, CallError> {
        self.0.get("/info").await
    }

    /// `POST /v1/infer` as events, ending with the terminal one. A stream that breaks or
    /// ends before it is a [`CallError::Link`].
    pub async fn infer_stream(
        &self,
        request: &InferRequest,
        headers: HeaderMap,
    ) -> Result<impl Stream<Item = Result<StreamEvent, CallError>> + Send + use<>, CallError> {
        let read = StreamEvent::read_sse;
        self.0
            .events(Method::POST, "/v1/infer", Some(request), headers, read)
            .await
    }

    /// `POST /v1/infer` as one document; the request's `stream` must be false.
    pub async fn infer(&self, request: &InferRequest) -> Result<InferResponse, CallError> {
        self.0.post("/v1/infer", request, None).await
    }

    /// `POST /v1/tokenize`.
    pub async fn tokenize(&self, request: &TokenizeRequest) -> Result<TokenizeResponse, CallError> {
        self.0.post("/v1/tokenize", request, None).await
    }

    /// `POST /v1/detokenize`.
    pub async fn detokenize(
        &self,
        request: &DetokenizeRequest,
    ) -> Result<DetokenizeResponse, CallError> {
        self.0.post("/v1/detokenize", request, None).await
    }

    /// `POST /v1/embed`. Dropping the call cancels the request.
    pub async fn embed(&self, request: &EmbedRequest) -> Result<EmbedResponse, CallError> {
        self.0.post("/v1/embed", request, None).await
    }

    /// `DELETE /v1/infer/{id}`: idempotent.
    pub async fn cancel(&self, id: &RequestId) -> Result<(), CallError> {
        self.0.delete(&format!("/v1/infer/{id}"), None).await
    }

    /// `POST /v1/drain`: no new work.
    pub async fn drain(&self) -> Result<(), CallError> {
        self.0.post_empty("/v1/drain", &serde_json::json!({})).await
    }

    /// `POST /v1/shutdown`: finish what runs, then exit.
    pub async fn shutdown(&self) -> Result<(), CallError> {
        self.0
            .post_empty("/v1/shutdown", &serde_json::json!({}))
            .await
    }

    /// `GET /metrics`.
    pub async fn metrics(&self) -> Result<String, CallError> {
        self.0.get_text("/metrics").await
    }
}
