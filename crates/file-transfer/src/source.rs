//! Requests for a file: redirects, signed URLs, tokens.

use std::{
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use diagnostics::Diagnostic;
use reqwest::{Client, ClientBuilder, Response, Url, header, redirect::Policy};

use crate::{
    RemoteFile, Secret, errors,
    response::{self, Content, Linked, Meaning},
    rules::{self, MAX_REDIRECTS},
    trust::tls_client,
};

/// Time limit for establishing a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Connections to all servers.
#[derive(Debug)]
pub(crate) struct Http {
    proxies: bool,
    plain: OnceLock<Client>,
    /// Created when it is needed, because it loads the certificates of the system.
    tls: OnceLock<Client>,
}

impl Http {
    /// `proxies` are those of the environment.
    pub(crate) fn new(proxies: bool) -> Self {
        Self {
            proxies,
            plain: OnceLock::new(),
            tls: OnceLock::new(),
        }
    }

    fn client(&self, url: &Url) -> Result<Client, Diagnostic> {
        let is_tls = url.scheme() == "https";
        let cell = if is_tls { &self.tls } else { &self.plain };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let builder = || builder(self.proxies);
        let client = if is_tls {
            tls_client(builder)
        } else {
            // Plain HTTP needs no certificates.
            builder().tls_certs_only([]).build()
        };
        let client = client.map_err(|e| errors::no_client(&e))?;
        Ok(cell.get_or_init(|| client).clone())
    }
}

fn builder(proxies: bool) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("rbee/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        // Parallel ranges are for parallel connections.
        .http1_only();
    if proxies { builder } else { builder.no_proxy() }
}

/// Why a request or its body failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No attempt will succeed.
    Final(Diagnostic),
    /// Another attempt can succeed, at the earliest after some time.
    Retry {
        error: Diagnostic,
        after: Option<Duration>,
    },
    /// The server has another version of the file than before.
    Changed,
    /// The range begins at or after the end of the file, whose size may be stated.
    Beyond(Option<u64>),
}

impl Failure {
    pub(crate) fn retry(error: Diagnostic) -> Self {
        Self::Retry { error, after: None }
    }
}

/// A response whose body follows.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) response: Response,
    pub(crate) content: Content,
    /// SHA-256 of the file, if its origin stated it.
    pub(crate) sha256: Option<[u8; 32]>,
}

/// Where the redirects of a file end.
#[derive(Debug, Clone)]
struct Resolved {
    url: Url,
    linked: Linked,
    number: u64,
}

/// A file that requests are sent for.
#[derive(Debug)]
pub(crate) struct Source {
    http: Arc<Http>,
    url: Url,
    bearer: Option<Secret>,
    /// Time limit for the headers of a response, and between the parts of a body.
    stall: Duration,
    resolved: Mutex<Option<Resolved>>,
    /// Held by the one that follows the redirects.
    resolving: tokio::sync::Mutex<u64>,
}

impl Source {
    pub(crate) fn new(
        http: Arc<Http>,
        file: &RemoteFile,
        stall: Duration,
    ) -> Result<Self, Diagnostic> {
        let url = Url::parse(&file.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| errors::invalid_url(&file.url))?;
        Ok(Self {
            http,
            url,
            bearer: file.bearer.clone(),
            stall,
            resolved: Mutex::default(),
            resolving: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Asks for a range, or for the whole file, at the URL where its redirects ended before, or
    /// follows them.
    pub(crate) async fn open(&self, range: Option<Range<u64>>) -> Result<Opened, Failure> {
        let range = range.as_ref();
        let known = self.resolved();
        if let Some(known) = known
            && let Some(opened) = self.ask_again(known, range).await?
        {
            return Ok(opened);
        }
        let mut number = self.resolving.lock().await;
        if let Some(known) = self.resolved() {
            drop(number);
            if let Some(opened) = self.ask_again(known, range).await? {
                return Ok(opened);
            }
            number = self.resolving.lock().await;
        }
        *number += 1;
        self.follow(range, *number).await
    }

    fn resolved(&self) -> Option<Resolved> {
        self.slot().clone()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Resolved>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks at a URL that was found before. `None` if it has expired.
    async fn ask_again(
        &self,
        known: Resolved,
        range: Option<&Range<u64>>,
    ) -> Result<Option<Opened>, Failure> {
        let (response, meaning) = self.send(&known.url, range, &known.linked).await?;
        let expired = match &meaning {
            Meaning::Redirect(_) => true,
            Meaning::Denied(_) | Meaning::Missing(_) => known.url != self.url,
            _ => false,
        };
        if !expired {
            return self.accept(response, meaning, known).map(Some);
        }
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|r| r.number == known.number) {
            *slot = None;
        }
        Ok(None)
    }

    /// Follows the redirects from the URL of the file.
    async fn follow(&self, range: Option<&Range<u64>>, number: u64) -> Result<Opened, Failure> {
        let mut url = self.url.clone();
        let mut linked = Linked::default();
        for _ in 0..=MAX_REDIRECTS {
            let (response, meaning) = self.send(&url, range, &linked).await?;
            let Meaning::Redirect(location) = meaning else {
                let known = Resolved {
                    url,
                    linked,
                    number,
                };
                return self.accept(response, meaning, known);
            };
            linked = Linked::of(response.headers()).or(linked);
            url = rules::redirect_target(&url, location.as_deref())
                .map_err(|bad| Failure::Final(errors::bad_redirect(&url, &bad)))?;
        }
        Err(Failure::Final(errors::failed(format!(
            "{} redirects more than {MAX_REDIRECTS} times",
            errors::show_url(&self.url)
        ))))
    }

    async fn send(
        &self,
        url: &Url,
        range: Option<&Range<u64>>,
        linked: &Linked,
    ) -> Result<(Response, Meaning), Failure> {
        let client = self.http.client(url).map_err(Failure::Final)?;
        let mut request = client.get(url.clone());
        for (name, value) in response::request_headers(range) {
            request = request.header(name, value);
        }
        if let Some(bearer) = &self.bearer
            && rules::same_origin(url, &self.url)
        {
            let value = rules::bearer(bearer).ok_or_else(|| {
                Failure::Final(errors::failed("the token has characters that none has"))
            })?;
            request = request.header(header::AUTHORIZATION, value);
        }
        let response = tokio::time::timeout(self.stall, request.send())
            .await
            .map_err(|_| self.stalled(url))?
            .map_err(|e| {
                Failure::retry(errors::failed(format!(
                    "the request to {} failed: {}",
                    errors::show_host(url),
                    errors::chain(&e)
                )))
            })?;
        let meaning = response::interpret(
            response.status(),
            response.headers(),
            range,
            linked,
            SystemTime::now(),
        );
        Ok((response, meaning))
    }

    /// The failure of a request that got nothing for too long.
    pub(crate) fn stalled(&self, url: &Url) -> Failure {
        Failure::retry(errors::stalled(url, self.stall.as_secs_f64()))
    }

    pub(crate) fn stall(&self) -> Duration {
        self.stall
    }

    fn accept(
        &self,
        response: Response,
        meaning: Meaning,
        known: Resolved,
    ) -> Result<Opened, Failure> {
        let is_origin = rules::same_origin(&known.url, &self.url);
        let said =
            |what: &str| errors::failed(format!("{} sent {what}", errors::show_host(&known.url)));
        match meaning {
            Meaning::Content(content) => {
                // Other hosts may compute their ETags in other ways.
                let stated = known.linked.etag.as_deref();
                let own = content.etag.as_deref().filter(|_| is_origin);
                let sha256 = stated.or(own).and_then(response::sha256);
                if known
                    .linked
                    .size
                    .is_some_and(|size| content.size.is_some_and(|s| s != size))
                {
                    return Err(Failure::retry(said(
                        "a file of another size than was stated",
                    )));
                }
                *self.slot() = Some(known);
                Ok(Opened {
                    response,
                    content,
                    sha256,
                })
            }
            Meaning::Denied(status) if is_origin => Err(Failure::Final(errors::access_denied(
                &self.url,
                status,
                self.bearer.is_some(),
            ))),
            Meaning::Missing(_) if is_origin => Err(Failure::Final(errors::not_found(&self.url))),
            Meaning::Denied(status) | Meaning::Missing(status) => {
                Err(Failure::retry(said(&format!("status {status}"))))
            }
            Meaning::Beyond(size) => Err(Failure::Beyond(size)),
            Meaning::Later { reason, after } => Err(Failure::Retry {
                error: said(&reason),
                after,
            }),
            Meaning::Never(reason) => Err(Failure::Final(said(&reason))),
            Meaning::Redirect(_) => Err(Failure::retry(said("a redirect"))),
        }
    }
}
