//! One JSON and SSE client for all daemons: bearer token, limits, and every failure as a
//! [`Diagnostic`] whose code says which peer it was.

#![warn(missing_docs)]

mod event_reader;
#[cfg(test)]
mod fuzz_tests;

use std::{fmt, time::Duration};

use diagnostics::{Code, Diagnostic, ErrorBody, excerpt};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use event_reader::EventReader;

/// Limit for a connection to be accepted.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Limit for the whole of an ordinary call; streams and jobs have none.
// Re-exported so that clients can share a pool without naming reqwest.
pub use reqwest::Client as HttpClient;

const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Names a peer and the codes its failures have.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// `queen`, `hive`, `worker`.
    pub name: &'static str,
    /// It cannot be reached.
    pub unreachable: Code,
    /// It answered something else than its contract says.
    pub bad_response: Code,
}

/// What went wrong with a call, kept apart because only the first says nothing about the
/// request: it may be sent elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub enum CallError {
    /// The connection was refused, broke, or timed out before an answer.
    Link(Diagnostic),
    /// The peer answered with an error of its own, under this HTTP status.
    Answer(u16, Diagnostic),
}

impl CallError {
    /// The error for a person or for the next boundary.
    pub fn into_diagnostic(self) -> Diagnostic {
        match self {
            Self::Link(diagnostic) | Self::Answer(_, diagnostic) => diagnostic,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(diagnostic) | Self::Answer(_, diagnostic) => diagnostic.fmt(f),
        }
    }
}

impl std::error::Error for CallError {}

impl From<CallError> for Diagnostic {
    fn from(error: CallError) -> Self {
        error.into_diagnostic()
    }
}

/// A client of one daemon. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct RestClient {
    peer: Peer,
    base: String,
    token: Option<String>,
    http: reqwest::Client,
}

impl fmt::Debug for RestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RestClient({} at {})", self.peer.name, self.base)
    }
}

impl RestClient {
    /// A client of the daemon at `base` (`http://127.0.0.1:8500`).
    pub fn new(peer: Peer, base: &str, token: Option<String>) -> Result<Self, Diagnostic> {
        let http = http_client()?;
        Ok(Self::with_http(peer, base, token, http))
    }

    /// The same over an existing connection pool.
    pub fn with_http(peer: Peer, base: &str, token: Option<String>, http: reqwest::Client) -> Self {
        Self {
            peer,
            base: base.trim_end_matches('/').to_owned(),
            token,
            http,
        }
    }

    /// The address that this client calls.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET path`, its JSON parsed.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let request = self.request(Method::GET, path).timeout(CALL_LIMIT);
        self.json(self.send(request).await?).await
    }

    /// `GET path`, its JSON parsed whatever the status: for calls that answer the same
    /// document under 200 and 503.
    pub async fn get_any_status<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let request = self.request(Method::GET, path).timeout(CALL_LIMIT);
        let response = request.send().await.map_err(|e| self.link(&e))?;
        self.json(response).await
    }

    /// `GET path` as text.
    pub async fn get_text(&self, path: &str) -> Result<String, CallError> {
        let request = self.request(Method::GET, path).timeout(CALL_LIMIT);
        let response = self.send(request).await?;
        response.text().await.map_err(|e| self.link(&e))
    }

    /// `POST path` with a JSON body, the answer's JSON parsed; `limit` bounds the call,
    /// `None` leaves it unbounded (jobs bound themselves).
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        limit: Option<Duration>,
    ) -> Result<T, CallError> {
        let mut request = self.request(Method::POST, path).json(body);
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        self.json(self.send(request).await?).await
    }

    /// `POST path` with a JSON body; only the status counts.
    pub async fn post_empty(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<(), CallError> {
        let request = self.request(Method::POST, path).json(body);
        self.send(request.timeout(CALL_LIMIT)).await.map(drop)
    }

    /// `DELETE path`; only the status counts.
    pub async fn delete(&self, path: &str, limit: Option<Duration>) -> Result<(), CallError> {
        let request = self.request(Method::DELETE, path);
        self.send(request.timeout(limit.unwrap_or(CALL_LIMIT)))
            .await
            .map(drop)
    }

    /// Opens an event stream with `method` on `path`. `read` makes an event of its name and
    /// data; what it reads as `None` is passed over. An error in the stream, one that `read`
    /// finds as well, is always [`CallError::Link`].
    pub async fn events<B: Serialize + Sync, T: Send>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        headers: HeaderMap,
        read: fn(&str, &str) -> serde_json::Result<Option<T>>,
    ) -> Result<impl Stream<Item = Result<T, CallError>> + Send + use<B, T>, CallError> {
        let mut request = self
            .request(method, path)
            .header(http::header::ACCEPT, "text/event-stream")
            .headers(headers);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        Ok(self.clone().read_events(response.bytes_stream(), read))
    }

    /// The events in the bytes of an answer, whatever pieces they come in.
    fn read_events<T, B, E>(
        self,
        bytes: impl Stream<Item = Result<B, E>> + Send,
        read: fn(&str, &str) -> serde_json::Result<Option<T>>,
    ) -> impl Stream<Item = Result<T, CallError>> + Send
    where
        T: Send,
        B: AsRef<[u8]> + Send,
        E: std::error::Error + Send + Sync,
    {
        let mut reader = EventReader::default();
        bytes.flat_map(move |piece| {
            let found = match piece {
                Ok(piece) => reader.feed(piece.as_ref()),
                Err(error) => return stream::iter(vec![Err(self.broken(&error))]),
            };
            let read = found.into_iter().filter_map(|event| {
                let event = event.map_err(|e| self.broken(&e));
                let read = event
                    .and_then(|event| read(&event.name, &event.data).map_err(|e| self.broken(&e)));
                read.transpose()
            });
            stream::iter(read.collect::<Vec<_>>())
        })
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, CallError> {
        let response = request.send().await.map_err(|e| self.link(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|e| self.link(&e))?;
        Err(CallError::Answer(
            status.as_u16(),
            self.refusal(status, &text),
        ))
    }

    async fn json<T: DeserializeOwned>(&self, response: reqwest::Response) -> Result<T, CallError> {
        let status = response.status();
        let text = response.text().await.map_err(|e| self.link(&e))?;
        // An empty answer (204) reads as JSON null, which `()` accepts.
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text).map_err(|e| {
            CallError::Answer(
                status.as_u16(),
                Diagnostic::new(
                    self.peer.bad_response,
                    format!(
                        "the {} at {} answered something unexpected: {e}: {}",
                        self.peer.name,
                        self.base,
                        excerpt(text, 120)
                    ),
                )
                .hint(format!(
                    "check that a {} of this version runs there",
                    self.peer.name
                )),
            )
        })
    }

    fn refusal(&self, status: StatusCode, text: &str) -> Diagnostic {
        match serde_json::from_str::<ErrorBody>(text) {
            Ok(body) => body.error.diagnostic,
            Err(_) => Diagnostic::new(
                self.peer.bad_response,
                format!(
                    "the {} at {} answered {status}: {}",
                    self.peer.name,
                    self.base,
                    excerpt(text, 120)
                ),
            ),
        }
    }

    fn link(&self, error: &reqwest::Error) -> CallError {
        CallError::Link(Diagnostic::new(
            self.peer.unreachable,
            format!(
                "the {} at {} does not answer: {}",
                self.peer.name,
                self.base,
                chain(error)
            ),
        ))
    }

    fn broken(&self, error: &dyn std::error::Error) -> CallError {
        CallError::Link(Diagnostic::new(
            self.peer.unreachable,
            format!(
                "the stream from the {} at {} broke: {}",
                self.peer.name,
                self.base,
                chain(error)
            ),
        ))
    }
}

/// A connection pool as every client here has it.
pub fn http_client() -> Result<HttpClient, Diagnostic> {
    reqwest::Client::builder()
        // A proxy from the environment must never see traffic between daemons.
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .build()
        .map_err(|e| Diagnostic::internal(format!("HTTP client: {}", chain(&e))))
}

/// An error with all its causes: reqwest's own `Display` hides them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
