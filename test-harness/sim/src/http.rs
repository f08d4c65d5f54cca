//! What the simulated services share: two servers, the requests they received, signed URLs, and
//! a hook for faults.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::TryStreamExt as _;
use tokio::{net::TcpListener, task::JoinSet};

use crate::faults::FaultsFile;
pub use crate::faults::ServerRole;

/// A request that a service received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Server that received it.
    pub server: ServerRole,
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path as sent, without the query.
    pub path: String,
    /// Query without `?`; empty if there is none.
    pub query: String,
    /// Header `Authorization`.
    pub authorization: Option<String>,
    /// Header `Range`.
    pub range: Option<String>,
    /// Status of the response; 0 until there is one.
    pub status: u16,
}

impl Received {
    /// Returns a parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let pair = self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then_some(value)
        });
        pair.map(decode)
    }

    /// Returns the bearer token of the request.
    pub fn token(&self) -> Option<&str> {
        self.authorization.as_deref()?.strip_prefix("Bearer ")
    }
}

type Fault = Box<dyn FnMut(&Received) -> Option<Response> + Send>;

/// A service that responds to a request.
pub(crate) trait Service: Send + Sync + 'static {
    fn respond(&self, request: &Received, shared: &Shared) -> Response;
}

#[derive(Default)]
struct Inner {
    received: Vec<Received>,
    fault: Option<Fault>,
    /// Remaining uses of signed URLs, by signature.
    signatures: HashMap<u64, u64>,
    next_signature: u64,
    signature_uses: Option<u64>,
    faults: Option<Arc<FaultsFile>>,
    /// Receives a line for every response.
    log: Option<Arc<File>>,
}

pub(crate) struct Shared {
    inner: Mutex<Inner>,
    front: SocketAddr,
    storage: SocketAddr,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    pub(crate) fn front_url(&self) -> String {
        format!("http://{}", self.front)
    }

    pub(crate) fn storage_url(&self) -> String {
        format!("http://{}", self.storage)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.inner().received.clone()
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.inner().fault = fault;
    }

    pub(crate) fn set_faults(&self, faults: FaultsFile) {
        self.inner().faults = Some(Arc::new(faults));
    }

    pub(crate) fn set_log(&self, log: File) {
        self.inner().log = Some(Arc::new(log));
    }

    pub(crate) fn limit_signatures(&self, uses: u64) {
        self.inner().signature_uses = Some(uses);
    }

    /// Returns a URL of the storage server that works a limited number of times.
    pub(crate) fn sign(&self, path: &str) -> String {
        let mut inner = self.inner();
        inner.next_signature += 1;
        let (signature, uses) = (inner.next_signature, inner.signature_uses);
        inner.signatures.insert(signature, uses.unwrap_or(u64::MAX));
        format!(
            "{}{path}?Expires=4102444800&Signature={signature}",
            self.storage_url()
        )
    }

    /// Uses a signed URL once; false if it has expired.
    pub(crate) fn use_signature(&self, request: &Received) -> bool {
        let signature = request.parameter("Signature").and_then(|s| s.parse().ok());
        let mut inner = self.inner();
        let uses = signature.and_then(|signature: u64| inner.signatures.get_mut(&signature));
        match uses {
            Some(uses) if *uses > 0 => {
                *uses -= 1;
                true
            }
            _ => false,
        }
    }
}

/// Two servers on free ports of this machine, or the front on `port`. They stop when dropped.
pub(crate) struct Servers {
    pub(crate) shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Servers {
    pub(crate) async fn start(service: Arc<dyn Service>, port: u16) -> io::Result<Self> {
        let front = TcpListener::bind(("127.0.0.1", port)).await?;
        let storage = TcpListener::bind(("127.0.0.1", 0)).await?;
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            front: front.local_addr()?,
            storage: storage.local_addr()?,
        });
        let mut tasks = JoinSet::new();
        for (listener, role) in [(front, ServerRole::Front), (storage, ServerRole::Storage)] {
            let (shared, service) = (shared.clone(), service.clone());
            let app = Router::new().fallback(move |request: Request| {
                let response = handle(&request, role, &*service, &shared);
                std::future::ready(response)
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
}

fn handle(
    request: &Request,
    server: ServerRole,
    service: &dyn Service,
    shared: &Shared,
) -> Response {
    let text = |name: header::HeaderName| {
        let value = request.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let received = Received {
        server,
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        authorization: text(header::AUTHORIZATION),
        range: text(header::RANGE),
        status: 0,
    };
    let (number, fault) = {
        let mut inner = shared.inner();
        inner.received.push(received.clone());
        let number = inner.received.len() - 1;
        (
            number,
            inner.fault.as_mut().and_then(|fault| fault(&received)),
        )
    };
    let mut response = fault.unwrap_or_else(|| service.respond(&received, shared));
    let (faults, log) = {
        let inner = shared.inner();
        (inner.faults.clone(), inner.log.clone())
    };
    if let Some(faults) = faults {
        response = faults.apply(received.server, response);
    }
    let status = response.status().as_u16();
    shared.inner().received[number].status = status;
    match log {
        Some(log) => logged(response, &received, log),
        None => response,
    }
}

/// Lets a response write `SERVER STATUS BYTES PATH` to a file when its body has ended.
fn logged(response: Response, received: &Received, log: Arc<File>) -> Response {
    struct Line {
        start: String,
        path: String,
        bytes: u64,
        log: Arc<File>,
    }
    impl Drop for Line {
        fn drop(&mut self) {
            let line = format!("{} {} {}\n", self.start, self.bytes, self.path);
            let _ = (&*self.log).write_all(line.as_bytes());
        }
    }
    let server = match received.server {
        ServerRole::Front => "front",
        ServerRole::Storage => "storage",
    };
    let mut line = Line {
        start: format!("{server} {}", response.status().as_u16()),
        path: received.path.clone(),
        bytes: 0,
        log,
    };
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect_ok(move |bytes| {
            // The line as a whole belongs to the body.
            let line = &mut line;
            line.bytes += bytes.len() as u64;
        }))
    })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Decodes `%2F` and the like.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%');
        let decoded = digits.and_then(|d| hex::decode(d).ok());
        (bytes, rest) = match decoded {
            Some(decoded) => ([bytes, decoded].concat(), &after[2..]),
            None => ([bytes, vec![byte]].concat(), after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn redirect(status: StatusCode, location: &str) -> Response {
    (status, [(header::LOCATION, location.to_owned())]).into_response()
}
