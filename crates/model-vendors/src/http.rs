//! Requests to vendors, whose responses are limited in size, time and number of redirects.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use diagnostics::Diagnostic;
use file_transfer::{
    RemoteFile, Secret,
    rules::{self, BadRedirect, MAX_REDIRECTS},
    tls_client,
};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{self, HeaderMap},
    redirect::Policy,
};

use crate::errors;

/// Maximum size of a response that is parsed.
pub(crate) const MAX_BODY_BYTES: u64 = 32 << 20;
const MAX_ATTEMPTS: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest `Retry-After` that is waited for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// A client for small responses. Clones share its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Http {
    /// Created when it is needed, because it loads the certificates of the system.
    client: Arc<OnceLock<Client>>,
    /// Whether to ignore the proxies of the environment.
    direct: bool,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Get<'a> {
    pub(crate) url: Url,
    /// Token, sent to the origin of `url` only.
    pub(crate) bearer: Option<&'a Secret>,
    pub(crate) accept: Option<&'static str>,
    pub(crate) range: Option<Range<u64>>,
    /// Maximum size of the body.
    pub(crate) limit: u64,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Empty unless the status is a success.
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl<'a> Get<'a> {
    pub(crate) fn new(url: Url) -> Self {
        Self {
            url,
            bearer: None,
            accept: None,
            range: None,
            limit: MAX_BODY_BYTES,
        }
    }

    pub(crate) fn bearer(self, bearer: Option<&'a Secret>) -> Self {
        Self { bearer, ..self }
    }
}

/// Why an attempt failed.
enum Failure {
    /// A later attempt can succeed, after this time if the server states one.
    Temporary(Diagnostic, Option<Duration>),
    Permanent(Diagnostic),
}

impl Http {
    /// A client for processes of rbee, whose requests do not pass through a proxy.
    pub(crate) fn direct() -> Self {
        Self {
            direct: true,
            ..Self::default()
        }
    }

    fn client(&self) -> Result<Client, Diagnostic> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = tls_client(|| {
            let builder = Client::builder()
                .user_agent(concat!("rbee/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .connect_timeout(Duration::from_secs(10))
                .read_timeout(Duration::from_secs(30))
                .timeout(Duration::from_secs(120));
            if self.direct {
                builder.no_proxy()
            } else {
                builder
            }
        });
        let client = client.map_err(|error| errors::no_client(&error))?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// Sends a request, follows redirects, and repeats it if the server fails.
    ///
    /// Errors: `DOWNLOAD_FAILED`; statuses of the client's errors are returned as replies.
    pub(crate) async fn get(&self, request: &Get<'_>) -> Result<Reply, Diagnostic> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (error, retry_after) = match self.attempt(request).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Permanent(error)) => return Err(error),
                Err(Failure::Temporary(error, retry_after)) => (error, retry_after),
            };
            let delay = retry_after.unwrap_or(FIRST_DELAY * 2_u32.pow(attempt - 1));
            if attempt == MAX_ATTEMPTS || delay > MAX_RETRY_AFTER {
                return Err(errors::after_attempts(error, attempt, retry_after));
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// Reads a part of a file; the result is shorter if the file is.
    pub(crate) async fn read(
        &self,
        file: &RemoteFile,
        range: Range<u64>,
    ) -> Result<Reply, Diagnostic> {
        let url =
            Url::parse(&file.url).map_err(|_| errors::invalid_response(&file.url, "no URL"))?;
        let request = Get {
            limit: range.end - range.start,
            range: Some(range),
            ..Get::new(url).bearer(file.bearer.as_ref())
        };
        self.get(&request).await
    }

    async fn attempt(&self, request: &Get<'_>) -> Result<Reply, Failure> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(request, &url).await?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                url = redirected(&url, &response).map_err(Failure::Permanent)?;
            } else if is_temporary(status) {
                let error = errors::server_failed(&url, status.as_u16());
                return Err(Failure::Temporary(error, retry_after(response.headers())));
            } else if status.is_success() {
                return read_body(request, &url, response).await;
            } else {
                return Ok(Reply {
                    status,
                    headers: response.headers().clone(),
                    body: Bytes::new(),
                });
            }
        }
        Err(Failure::Permanent(errors::redirect_loop(
            &request.url,
            MAX_REDIRECTS,
        )))
    }

    async fn send(&self, request: &Get<'_>, url: &Url) -> Result<Response, Failure> {
        let client = self.client().map_err(Failure::Permanent)?;
        let mut builder = client.get(url.clone());
        builder = builder.header(header::ACCEPT_ENCODING, "identity");
        let token = request
            .bearer
            .filter(|_| rules::same_origin(url, &request.url));
        if let Some(value) = token.and_then(rules::bearer) {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        if let Some(accept) = request.accept {
            builder = builder.header(header::ACCEPT, accept);
        }
        if let Some(range) = &request.range {
            let range = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            builder = builder.header(header::RANGE, range);
        }
        let sent = builder.send().await;
        sent.map_err(|error| Failure::Temporary(errors::unreachable(url, &error), None))
    }
}

fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    file_transfer::retry_after(value, SystemTime::now())
}

fn redirected(from: &Url, response: &Response) -> Result<Url, Diagnostic> {
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok());
    rules::redirect_target(from, location).map_err(|bad| match bad {
        BadRedirect::Invalid => {
            errors::invalid_response(from.as_str(), "a redirect without a target")
        }
        BadRedirect::Unsafe(target) => errors::unsafe_redirect(from, &target),
    })
}

async fn read_body(request: &Get<'_>, url: &Url, mut response: Response) -> Result<Reply, Failure> {
    let invalid = |what: &str| Failure::Permanent(errors::invalid_response(url.as_str(), what));
    let (status, headers) = (response.status(), response.headers().clone());
    if rules::is_compressed(&headers) {
        return Err(invalid("a compressed body, which was not asked for"));
    }
    let expected = request.range.clone().unwrap_or(0..0);
    if status == StatusCode::PARTIAL_CONTENT {
        let start = format!("bytes {}-", expected.start);
        let stated = headers.get(header::CONTENT_RANGE);
        if !stated.is_some_and(|stated| stated.as_bytes().starts_with(start.as_bytes())) {
            return Err(invalid("another range than was asked for"));
        }
    } else if expected.start > 0 {
        return Err(invalid("a whole file in place of a range"));
    }
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|e| Failure::Temporary(errors::unreachable(url, &e), None))?;
        let Some(chunk) = chunk else {
            break;
        };
        let left = request.limit as usize - body.len();
        if chunk.len() > left && request.range.is_none() {
            return Err(Failure::Permanent(errors::body_too_large(
                url,
                request.limit,
            )));
        }
        // A server that ignores the range sends more than was asked for.
        body.extend_from_slice(&chunk[..left.min(chunk.len())]);
        if request.range.is_some() && body.len() as u64 == request.limit {
            break;
        }
    }
    Ok(Reply {
        status,
        headers,
        body: body.into(),
    })
}
