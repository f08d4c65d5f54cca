use diagnostics::{Code, Diagnostic};
use futures_util::Stream;
use http::{HeaderMap, Method};
use input_validation::RequestId;
use rest_client::{CallError, Peer, RestClient};

use crate::{
    DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, InferRequest,
    InferResponse, Ready, StreamEvent, TokenizeRequest, TokenizeResponse, WorkerHealth, WorkerInfo,
};

const PEER: Peer = Peer {
    name: "worker",
    unreachable: Code::WorkerLinkLost,
    bad_response: Code::WorkerLinkLost,
};

/// Client of a worker.
#[derive(Debug, Clone)]
pub struct WorkerClient(RestClient);

impl WorkerClient {
    /// Creates a client of the worker at the URL `base`. `token` is the node's token.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Diagnostic> {
        RestClient::new(PEER, base, token).map(Self)
    }

    /// Creates a client that uses the connection pool of `http`.
    pub fn with_http(base: &str, token: Option<String>, http: rest_client::HttpClient) -> Self {
        Self(RestClient::with_http(PEER, base, token, http))
    }

    /// Calls `GET /health`.
    pub async fn health(&self) -> Result<WorkerHealth, CallError> {
        self.0.get("/health").await
    }

    /// Calls `GET /ready`. A worker that is not ready is not an error.
    pub async fn ready(&self) -> Result<Ready, CallError> {
        self.0.get_any_status("/ready").await
    }

    /// Calls `GET /info`.
    pub async fn info(&self) -> Result<WorkerInfo, CallError> {
        self.0.get("/info").await
    }

    /// Calls `POST /v1/infer` and returns the events. A connection that fails in the middle of
    /// the stream is a [`CallError::Link`]. Dropping the stream cancels the request.
    pub async fn infer_stream(
        &self,
        request: &InferRequest,
        headers: HeaderMap,
    ) -> Result<impl Stream<Item = Result<StreamEvent, CallError>> + Send + use<>, CallError> {
        let parse = StreamEvent::read_sse;
        self.0
            .events(Method::POST, "/v1/infer", Some(request), headers, parse)
            .await
    }

    /// Calls `POST /v1/infer` and returns the complete response; `stream` of the request must be
    /// false. Dropping the future cancels the request.
    pub async fn infer(&self, request: &InferRequest) -> Result<InferResponse, CallError> {
        self.0.post("/v1/infer", request, None).await
    }

    /// Calls `POST /v1/tokenize`.
    pub async fn tokenize(&self, request: &TokenizeRequest) -> Result<TokenizeResponse, CallError> {
        self.0.post("/v1/tokenize", request, None).await
    }

    /// Calls `POST /v1/detokenize`.
    pub async fn detokenize(
        &self,
        request: &DetokenizeRequest,
    ) -> Result<DetokenizeResponse, CallError> {
        self.0.post("/v1/detokenize", request, None).await
    }

    /// Calls `POST /v1/embed`. Dropping the future cancels the request.
    pub async fn embed(&self, request: &EmbedRequest) -> Result<EmbedResponse, CallError> {
        self.0.post("/v1/embed", request, None).await
    }

    /// Calls `DELETE /v1/infer/{id}`, which cancels the request if it is running.
    pub async fn cancel(&self, id: &RequestId) -> Result<(), CallError> {
        self.0.delete(&format!("/v1/infer/{id}"), None).await
    }

    /// Calls `POST /v1/drain`: the worker refuses new requests.
    pub async fn drain(&self) -> Result<(), CallError> {
        self.0.post_empty("/v1/drain", &serde_json::json!({})).await
    }

    /// Calls `POST /v1/shutdown`: the worker finishes running requests and exits.
    pub async fn shutdown(&self) -> Result<(), CallError> {
        self.0
            .post_empty("/v1/shutdown", &serde_json::json!({}))
            .await
    }

    /// Calls `GET /metrics`.
    pub async fn metrics(&self) -> Result<String, CallError> {
        self.0.get_text("/metrics").await
    }
}
