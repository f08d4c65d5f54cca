//! A file server that is reached by redirects, like a model hub: the origin checks the token
//! and redirects to signed URLs of a second host, which serves ranges.

mod content;
mod fault;
mod respond;

pub use content::Content;
pub use fault::{Asked, Fault, Host};

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderMap,
    serve::ListenerExt as _,
};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

/// A file of the server.
#[derive(Debug, Clone)]
pub struct Served {
    /// What it contains.
    pub content: Content,
    /// Its `ETag`, without quotes. A token such as `v1`, not the hash.
    pub etag: Option<String>,
    /// Whether the origin redirects to a signed URL of the other host.
    pub redirects: bool,
    /// SHA-256 that redirects state, with the size (`X-Linked-ETag`, `X-Linked-Size`).
    pub linked: Option<[u8; 32]>,
    /// Whether ranges are served. Without, every request gets the whole file.
    pub ranges: bool,
    /// Whether responses with the whole file state its length.
    pub states_length: bool,
    /// Token that the origin requires.
    pub bearer: Option<String>,
}

impl Served {
    /// A file that the origin itself serves, with an `ETag` and ranges.
    pub fn new(content: Content) -> Self {
        Self {
            content,
            etag: Some("v1".to_owned()),
            redirects: false,
            linked: None,
            ranges: true,
            states_length: true,
            bearer: None,
        }
    }

    /// A large file of a model hub: redirected to the other host, with its hash.
    pub fn on_hub(content: Content) -> Self {
        Self {
            redirects: true,
            linked: Some(content.sha256()),
            ..Self::new(content)
        }
    }
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What was asked for.
    pub asked: Asked,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the body that were handed to the connection.
    pub served: u64,
}

type Faults = Box<dyn FnMut(&Asked) -> Option<Fault> + Send>;

#[derive(Default)]
struct Inner {
    files: HashMap<String, Served>,
    recorded: Vec<Recorded>,
    faults: Option<Faults>,
    /// Remaining uses of each signature.
    signatures: HashMap<u64, u64>,
    next_signature: u64,
    /// How often one signed URL can be used.
    signature_uses: Option<u64>,
    bytes_per_second: Option<u64>,
    /// When the next piece may be sent, if a rate is set.
    free_at: Option<Instant>,
}

struct Shared {
    inner: Mutex<Inner>,
    origin: SocketAddr,
    other: SocketAddr,
}

impl Shared {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves time for `bytes` and returns when they may be sent.
    fn reserve(&self, bytes: u64) -> Option<Instant> {
        let mut inner = self.inner();
        let rate = inner.bytes_per_second?;
        let now = Instant::now();
        let at = inner.free_at.unwrap_or(now).max(now);
        inner.free_at = Some(at + Duration::from_secs_f64(bytes as f64 / rate as f64));
        Some(at)
    }
}

/// A running server. It stops when dropped.
pub struct FileServer {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl FileServer {
    /// Starts a server on free ports.
    pub async fn start() -> std::io::Result<Self> {
        let origin = TcpListener::bind(("127.0.0.1", 0)).await?;
        let other = TcpListener::bind(("127.0.0.1", 0)).await?;
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            origin: origin.local_addr()?,
            other: other.local_addr()?,
        });
        let mut tasks = JoinSet::new();
        for (listener, host) in [(origin, Host::Origin), (other, Host::Other)] {
            let app = Router::new()
                .fallback(serve)
                .with_state((shared.clone(), host));
            let listener = listener.tap_io(|connection| {
                let _ = connection.set_nodelay(true);
            });
            tasks.spawn(async move {
                let _ = axum::serve(listener, app).await;
            });
        }
        Ok(Self {
            shared,
            _tasks: tasks,
        })
    }

    /// Serves a file at `path`, which begins with `/`, and returns its URL. Replaces an earlier
    /// one.
    pub fn put(&self, path: &str, file: Served) -> String {
        self.shared.inner().files.insert(path.to_owned(), file);
        format!("{}{path}", self.origin())
    }

    /// URL of the origin, without a trailing `/`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.shared.origin)
    }

    /// URL of the host to which the origin redirects.
    pub fn other(&self) -> String {
        format!("http://{}", self.shared.other)
    }

    /// Asks `faults` for every request, from now on.
    pub fn fault(&self, faults: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) {
        self.shared.inner().faults = Some(Box::new(faults));
    }

    /// Responds to all requests as it should, from now on.
    pub fn heal(&self) {
        self.shared.inner().faults = None;
    }

    /// Lets every signed URL that is issued from now on work `uses` times.
    pub fn limit_signatures(&self, uses: u64) {
        self.shared.inner().signature_uses = Some(uses);
    }

    /// Lets all signed URLs that were issued expire.
    pub fn expire_signatures(&self) {
        self.shared.inner().signatures.clear();
    }

    /// Limits the rate of all bodies together.
    pub fn limit_rate(&self, bytes_per_second: u64) {
        self.shared.inner().bytes_per_second = Some(bytes_per_second);
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.inner().recorded.clone()
    }

    /// Bytes of bodies that were handed to connections so far.
    pub fn served(&self) -> u64 {
        self.shared.inner().recorded.iter().map(|r| r.served).sum()
    }
}

async fn serve(
    State((shared, host)): State<(Arc<Shared>, Host)>,
    request: Request,
) -> axum::response::Response {
    let headers: HeaderMap = request.headers().clone();
    let range = headers
        .get("range")
        .and_then(|value| value.to_str().ok())
        .and_then(fault::parse_range);
    let uri = request.uri();
    let (number, fault) = {
        let mut inner = shared.inner();
        let number = inner.recorded.len();
        let asked = Asked {
            number,
            host,
            method: request.method().to_string(),
            path: uri.path().to_owned(),
            range,
            headers,
        };
        let fault = inner.faults.as_mut().and_then(|faults| faults(&asked));
        inner.recorded.push(Recorded {
            asked,
            status: 0,
            served: 0,
        });
        (number, fault)
    };
    let response = respond::respond(&shared, number, uri, fault);
    shared.inner().recorded[number].status = response.status().as_u16();
    response
}
