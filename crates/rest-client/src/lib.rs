//! HTTP client for the interfaces of rbee's processes: JSON calls and event streams with a
//! bearer token and time limits. Every failure is a [`Diagnostic`] whose code names the peer.

#![warn(missing_docs)]

mod errors;
mod event_reader;
#[cfg(test)]
mod fuzz_tests;
mod line_reader;

use std::{fmt, path::Path, time::Duration};

use bytes::Bytes;
use diagnostics::{Code, Diagnostic};
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use http::{HeaderMap, Method, StatusCode, header};
use input_validation::CertificateFingerprint;
use serde::{Serialize, de::DeserializeOwned};

pub use errors::CallError;
// Clients share a connection pool without a dependency on reqwest.
pub use reqwest::{Client as HttpClient, Upgraded};

use event_reader::EventReader;
use line_reader::LineReader;

/// Time limit for establishing a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for a call, unless the caller sets another one. Event streams have no limit.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Kind of process that a client calls, and the codes of its errors.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Name in messages: `queen`, `hive` or `worker`.
    pub name: &'static str,
    /// Code if the peer cannot be reached or the connection fails.
    pub unreachable: Code,
    /// Code if the response does not conform to the peer's contract.
    pub bad_response: Code,
}

/// A response whose body arrives in pieces as it is read.
pub struct Download {
    /// A successful status: 200 or 206.
    pub status: StatusCode,
    /// Headers of the response.
    pub headers: HeaderMap,
    /// The body. After an error nothing follows.
    pub body: BoxStream<'static, Result<Bytes, CallError>>,
}

/// Reads the body of an error response with this HTTP status, of a peer whose errors have another
/// form than those of rbee.
pub type ErrorReader = fn(u16, &str) -> Option<Diagnostic>;

/// Client of one process. Clones share a connection pool.
#[derive(Clone)]
pub struct RestClient {
    peer: Peer,
    base: String,
    token: Option<String>,
    http: reqwest::Client,
    read_error: Option<ErrorReader>,
}

impl fmt::Debug for RestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RestClient({} at {})", self.peer.name, self.base)
    }
}

impl RestClient {
    /// Creates a client of the process at the URL `base`, such as `http://127.0.0.1:8500`.
    /// `token` is the bearer token of its requests.
    pub fn new(peer: Peer, base: &str, token: Option<String>) -> Result<Self, Diagnostic> {
        let http = http_client()?;
        Ok(Self::with_http(peer, base, token, http))
    }

    /// Creates a client that uses the connection pool of `http`.
    pub fn with_http(peer: Peer, base: &str, token: Option<String>, http: reqwest::Client) -> Self {
        Self {
            peer,
            base: base.trim_end_matches('/').to_owned(),
            token,
            http,
            read_error: None,
        }
    }

    /// Reads error responses with `read` first.
    #[must_use]
    pub fn with_error_reader(mut self, read: ErrorReader) -> Self {
        self.read_error = Some(read);
        self
    }

    /// Returns the URL of the process, without a trailing `/`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends `GET path` and parses the JSON of the response. Time limit: 10 s.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.get_within(path, CALL_LIMIT).await
    }

    /// Sends `GET path` and parses the JSON of the response. The time limit is `limit`.
    pub async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<T, CallError> {
        let request = self.request(Method::GET, path).timeout(limit);
        self.json(self.send(request).await?).await
    }

    /// Sends `GET path` and parses the JSON of the response whatever its status is, for
    /// endpoints that send the same document with 200 and 503. Time limit: 10 s.
    pub async fn get_any_status<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let request = self.request(Method::GET, path).timeout(CALL_LIMIT);
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        self.json(response).await
    }

    /// Sends `GET path` and returns the response as text. Time limit: 10 s.
    pub async fn get_text(&self, path: &str) -> Result<String, CallError> {
        let request = self.request(Method::GET, path).timeout(CALL_LIMIT);
        let response = self.send(request).await?;
        response.text().await.map_err(|e| self.unreachable(&e))
    }

    /// Sends `GET path` with the parameters `query` and returns the response with its body as a
    /// stream, without a time limit.
    pub async fn download(
        &self,
        path: &str,
        query: &[(&str, &str)],
        headers: HeaderMap,
    ) -> Result<Download, CallError> {
        let request = self.request(Method::GET, &with_query(path, query));
        let request = request.headers(headers);
        let response = self.send(request).await?;
        let client = self.clone();
        Ok(Download {
            status: response.status(),
            headers: response.headers().clone(),
            body: response
                .bytes_stream()
                .map(move |chunk| chunk.map_err(|e| client.unreachable(&e)))
                .boxed(),
        })
    }

    /// Sends `POST path` with a JSON body and parses the JSON of the response. `limit` is the
    /// time limit; `None` is for operations that have limits of their own.
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

    /// Sends `POST path` with a JSON body for a long operation and returns the response that
    /// says that it has started (`Prefer: respond-async`, RFC 7240). Time limit: 10 s.
    pub async fn start<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, CallError> {
        let request = self.request(Method::POST, path).json(body);
        let request = request.header("prefer", "respond-async");
        self.json(self.send(request.timeout(CALL_LIMIT)).await?)
            .await
    }

    /// Sends `POST path` with a JSON body and ignores the body of the response. Time limit:
    /// 10 s.
    pub async fn post_empty(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<(), CallError> {
        self.post_empty_within(path, body, CALL_LIMIT).await
    }

    /// Sends `PUT path` with a JSON body and parses the JSON of the response. Time limit: 10 s.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, CallError> {
        let request = self.request(Method::PUT, path).json(body);
        self.json(self.send(request.timeout(CALL_LIMIT)).await?)
            .await
    }

    /// As [`post_empty`](Self::post_empty), with a limit of its own.
    pub async fn post_empty_within(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        limit: Duration,
    ) -> Result<(), CallError> {
        let request = self.request(Method::POST, path).json(body);
        self.send(request.timeout(limit)).await.map(drop)
    }

    /// Sends `DELETE path` and ignores the body of the response. The time limit is `limit` or
    /// 10 s.
    pub async fn delete(&self, path: &str, limit: Option<Duration>) -> Result<(), CallError> {
        let request = self.request(Method::DELETE, path);
        self.send(request.timeout(limit.unwrap_or(CALL_LIMIT)))
            .await
            .map(drop)
    }

    /// Sends `DELETE path` and returns the object of the response. The time limit is `limit` or
    /// 10 s.
    pub async fn delete_for<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Option<Duration>,
    ) -> Result<T, CallError> {
        let request = self.request(Method::DELETE, path);
        self.json(
            self.send(request.timeout(limit.unwrap_or(CALL_LIMIT)))
                .await?,
        )
        .await
    }

    /// Sends a request and returns the event stream of the response, without a time limit.
    ///
    /// `parse` converts the name and the data of an event. Events for which it returns `None`
    /// are skipped. Errors in the stream, those of `parse` included, are always
    /// [`CallError::Link`].
    pub async fn events<B: Serialize + Sync, T: Send>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        headers: HeaderMap,
        parse: fn(&str, &str) -> serde_json::Result<Option<T>>,
    ) -> Result<impl Stream<Item = Result<T, CallError>> + Send + use<B, T>, CallError> {
        let mut request = self
            .request(method, path)
            .header(http::header::ACCEPT, "text/event-stream")
            .headers(headers);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        Ok(self.clone().parse_events(response.bytes_stream(), parse))
    }

    /// Sends `POST path` with a JSON body and returns the lines of the response as they arrive,
    /// without a time limit. Lines for which `parse` returns `None` are skipped. Errors in the
    /// stream, those of `parse` included, are always [`CallError::Link`].
    pub async fn lines<B: Serialize + Sync, T: Send>(
        &self,
        path: &str,
        body: &B,
        parse: fn(&str) -> serde_json::Result<Option<T>>,
    ) -> Result<impl Stream<Item = Result<T, CallError>> + Send + use<B, T>, CallError> {
        let request = self.request(Method::POST, path).json(body);
        let response = self.send(request).await?;
        let (peer, base) = (self.peer, self.base.clone());
        let mut reader = LineReader::default();
        Ok(response.bytes_stream().flat_map(move |chunk| {
            let failed = |error: &dyn std::error::Error| errors::stream_failed(peer, &base, error);
            let lines = match chunk {
                Ok(chunk) => reader.feed(&chunk),
                Err(error) => return stream::iter(vec![Err(failed(&error))]),
            };
            let parsed = lines.into_iter().filter_map(|line| {
                let line = line.map_err(|e| failed(&e));
                let parsed = line.and_then(|line| parse(&line).map_err(|e| failed(&e)));
                parsed.transpose()
            });
            stream::iter(parsed.collect::<Vec<_>>())
        }))
    }

    /// Parses the chunks of an event stream.
    fn parse_events<T, B, E>(
        self,
        chunks: impl Stream<Item = Result<B, E>> + Send,
        parse: fn(&str, &str) -> serde_json::Result<Option<T>>,
    ) -> impl Stream<Item = Result<T, CallError>> + Send
    where
        T: Send,
        B: AsRef<[u8]> + Send,
        E: std::error::Error + Send + Sync,
    {
        let mut reader = EventReader::default();
        chunks.flat_map(move |chunk| {
            let failed =
                |error: &dyn std::error::Error| errors::stream_failed(self.peer, &self.base, error);
            let events = match chunk {
                Ok(chunk) => reader.feed(chunk.as_ref()),
                Err(error) => return stream::iter(vec![Err(failed(&error))]),
            };
            let parsed = events.into_iter().filter_map(|event| {
                let event = event.map_err(|e| failed(&e));
                let parsed =
                    event.and_then(|event| parse(&event.name, &event.data).map_err(|e| failed(&e)));
                parsed.transpose()
            });
            stream::iter(parsed.collect::<Vec<_>>())
        })
    }

    /// Sends `GET path` with the parameters `query` and returns the connection, which has the
    /// protocol `protocol` from then on (RFC 9110, section 7.8). Time limit: 10 s.
    pub async fn upgrade(
        &self,
        path: &str,
        query: &[(&str, String)],
        protocol: &'static str,
    ) -> Result<Upgraded, CallError> {
        let request = self
            .request(Method::GET, &with_query(path, query))
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, protocol)
            .timeout(CALL_LIMIT);
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return response.upgrade().await.map_err(|e| self.unreachable(&e));
        }
        let text = response.text().await.map_err(|e| self.unreachable(&e))?;
        Err(errors::error_response(self.peer, &self.base, status, &text))
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, CallError> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|e| self.unreachable(&e))?;
        let read = self
            .read_error
            .and_then(|read| read(status.as_u16(), &text));
        Err(match read {
            Some(error) => CallError::Response(status.as_u16(), error),
            None => errors::error_response(self.peer, &self.base, status, &text),
        })
    }

    async fn json<T: DeserializeOwned>(&self, response: reqwest::Response) -> Result<T, CallError> {
        let status = response.status();
        let text = response.text().await.map_err(|e| self.unreachable(&e))?;
        // `()` deserializes from `null`, which stands for an empty body (204).
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text)
            .map_err(|e| errors::unexpected_body(self.peer, &self.base, status, text, &e))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        errors::unreachable(self.peer, &self.base, error)
    }
}

/// Appends parameters to a path. Their values are escaped.
fn with_query(path: &str, query: &[(&str, impl AsRef<str>)]) -> String {
    // The base is not used.
    let encoded = reqwest::Url::parse_with_params("http://base", query);
    let encoded = encoded.ok().and_then(|url| url.query().map(str::to_owned));
    format!("{path}?{}", encoded.unwrap_or_default())
}

/// Creates a connection pool for [`RestClient::with_http`].
pub fn http_client() -> Result<HttpClient, Diagnostic> {
    // Processes of one machine speak plain HTTP to each other: no certificates are loaded.
    build(reqwest::Client::builder().tls_certs_only([]))
}

/// Creates a connection pool whose connections all lead to a Unix socket, whatever the URL is.
pub fn unix_socket_client(socket: &Path) -> Result<HttpClient, Diagnostic> {
    let builder = reqwest::Client::builder().tls_certs_only([]);
    build(builder.unix_socket(socket))
}

/// Creates a connection pool for a server that has the certificate with this fingerprint.
/// Connections to any other server fail.
pub fn pinned_client(certificate: &CertificateFingerprint) -> Result<HttpClient, Diagnostic> {
    let tls = pinned_tls::client_config(certificate.digest())?;
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    // Only a connection of HTTP/1.1 can change its protocol.
    build(builder.https_only(true).http1_only())
}

fn build(builder: reqwest::ClientBuilder) -> Result<HttpClient, Diagnostic> {
    builder
        // Requests contain tokens and must not pass through a proxy from the environment.
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .build()
        .map_err(|e| errors::no_http_client(&e))
}
