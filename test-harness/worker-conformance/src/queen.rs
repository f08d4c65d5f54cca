use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// A heartbeat as it was received.
#[derive(Debug, Clone)]
pub struct Beat {
    pub at: Instant,
    pub authorization: String,
    pub body: Value,
}

impl Beat {
    pub fn status(&self) -> &str {
        self.body["worker"]["status"].as_str().unwrap_or_default()
    }
}

/// A queen that does nothing but receive heartbeats.
pub struct Queen {
    pub url: String,
    shared: Arc<Shared>,
    received: watch::Receiver<usize>,
    stop: CancellationToken,
}

struct Shared {
    beats: Mutex<Vec<Beat>>,
    /// Whether every heartbeat is refused, as if a newer generation of the worker existed.
    fences: AtomicBool,
    count: watch::Sender<usize>,
}

impl Drop for Queen {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Queen {
    pub async fn start() -> Result<Self> {
        let (count, received) = watch::channel(0);
        let shared = Arc::new(Shared {
            beats: Mutex::default(),
            fences: AtomicBool::new(false),
            count,
        });
        let routes = Router::new()
            .route("/v1/worker-heartbeats", post(receive))
            .with_state(shared.clone());
        let listener = daemon_shell::bind(([127, 0, 0, 1], 0).into()).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        tokio::spawn(daemon_shell::serve(listener, routes, stop.clone()));
        Ok(Self {
            url,
            shared,
            received,
            stop,
        })
    }

    /// Refuses every heartbeat from now on.
    pub fn fence(&self) {
        self.shared.fences.store(true, SeqCst);
    }

    pub fn beats(&self) -> Vec<Beat> {
        lock(&self.shared.beats).clone()
    }

    /// Waits until `find` returns a value for the heartbeats so far.
    pub async fn wait<T>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&[Beat]) -> Option<T>,
    ) -> Option<T> {
        let mut received = self.received.clone();
        let search = async {
            loop {
                if let Some(found) = find(&self.beats()) {
                    return Some(found);
                }
                received.changed().await.ok()?;
            }
        };
        timeout(limit, search).await.ok().flatten()
    }

    /// Waits for a heartbeat with this status after the first `skip` ones.
    pub async fn status(&self, limit: Duration, skip: usize, status: &str) -> Option<()> {
        self.wait(limit, |beats| {
            let mut later = beats.iter().skip(skip);
            later.any(|beat| beat.status() == status).then_some(())
        })
        .await
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let authorization = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    lock(&shared.beats).push(Beat {
        at: Instant::now(),
        authorization,
        body,
    });
    shared.count.send_modify(|count| *count += 1);
    if !shared.fences.load(SeqCst) {
        return StatusCode::NO_CONTENT.into_response();
    }
    let error = json!({"error": {
        "message": "a newer generation of this worker is registered",
        "type": "conflict_error", "param": null, "code": "FENCED", "hint": null
    }});
    (StatusCode::CONFLICT, Json(error)).into_response()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
