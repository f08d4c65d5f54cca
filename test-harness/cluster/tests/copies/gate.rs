//! A hop between the queen and a hive that counts the bytes of files and can hold them back.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use futures_util::StreamExt as _;
use reqwest::Client;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

const CONTENT: &str = "/v1/models/content";

struct Shared {
    target: String,
    http: Client,
    sent: AtomicU64,
    /// The number of bytes after which nothing is sent.
    limit: watch::Sender<u64>,
    /// Whether a body is held back.
    held: watch::Sender<bool>,
}

/// Stops when dropped.
pub struct Gate {
    pub url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Gate {
    /// Passes requests on to `target`, the URL of a hive.
    pub async fn start(target: &str) -> Self {
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            http: Client::builder().no_proxy().build().unwrap(),
            sent: AtomicU64::new(0),
            limit: watch::Sender::new(u64::MAX),
            held: watch::Sender::new(false),
        });
        let app = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            serving: tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }),
            shared,
        }
    }

    /// Bytes of files that were sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Holds everything back after `bytes` bytes.
    pub fn hold_after(&self, bytes: u64) {
        self.shared.limit.send_replace(bytes);
    }

    pub fn release(&self) {
        self.shared.limit.send_replace(u64::MAX);
    }

    /// Waits until a body is held back.
    pub async fn held(&self) {
        let mut held = self.shared.held.subscribe();
        held.wait_for(|held| *held).await.unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path_and_query().unwrap();
    let is_content = path.path() == CONTENT;
    let mut headers = parts.headers;
    headers.remove("host");
    let url = format!("{}{path}", shared.target);
    let sent = shared.http.request(parts.method, url);
    let Ok(reply) = sent.headers(headers).body(body).send().await else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = reply.status();
    *response.headers_mut() = reply.headers().clone();
    let body = reply.bytes_stream().then(move |chunk| {
        let shared = Arc::clone(&shared);
        async move {
            if is_content && let Ok(chunk) = &chunk {
                count(&shared, chunk).await;
            }
            chunk
        }
    });
    *response.body_mut() = Body::from_stream(body);
    response
}

async fn count(shared: &Shared, chunk: &Bytes) {
    let before = shared.sent.fetch_add(chunk.len() as u64, Ordering::SeqCst);
    let mut limit = shared.limit.subscribe();
    if before >= *limit.borrow() {
        shared.held.send_replace(true);
    }
    limit.wait_for(|limit| before < *limit).await.unwrap();
}
