//! The queen's own end: no new work, running requests finish, then, if asked for, workers
//! and hive.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use hive_contract::{WorkerEntry, WorkerState};
use hive_lifecycle::{HiveState, RunningHive};
use queen_contract::{ShutdownRequest, ShutdownResponse};
use scheduler::Event;
use tokio::time::timeout;
use worker_contract::WorkerClient;
use worker_registry::Filter;

use crate::app::{App, LocalNode};

/// How long running requests may go on, unless told otherwise.
const DRAIN: Duration = Duration::from_secs(30);
/// How long requests may take to end when they are told to.
const ABORT: Duration = Duration::from_secs(5);

/// How long a hive that is being started again is waited for.
const HIVE_WITHIN: Duration = Duration::from_secs(15);

/// Ends the queen's work. The second who asks is told that it is under way already.
pub async fn end(app: Arc<App>, request: ShutdownRequest) -> Result<ShutdownResponse, Diagnostic> {
    if app.ending.swap(true, Ordering::SeqCst) {
        return Err(Diagnostic::new(
            Code::Draining,
            "the queen is stopping already",
        ));
    }
    tracing::info!(cascade = request.cascade, "stopping");
    let mut stopped = Vec::new();
    app.dispatcher.tell(Event::Drain).await;
    let drain = request.drain_seconds.map_or(DRAIN, Duration::from_secs);
    if timeout(drain, app.dispatcher.idle()).await.is_err() {
        let error = Diagnostic::new(
            Code::Draining,
            "the queen stopped before the request was finished",
        );
        app.dispatcher.tell(Event::Abort(error)).await;
        if timeout(ABORT, app.dispatcher.idle()).await.is_err() {
            tracing::warn!("some requests did not end");
        }
        stopped.push("requests that were still running".to_owned());
    }
    let cascaded = if request.cascade {
        cascade(&app, request.drain_seconds, &mut stopped).await
    } else {
        Ok(())
    };
    app.stop.cancel();
    cascaded.map(|()| ShutdownResponse { stopped })
}

async fn cascade(
    app: &App,
    drain_seconds: Option<u64>,
    stopped: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    let Some(node) = &app.hive else {
        return Ok(());
    };
    let heard = app.dispatcher.snapshot(Filter::default()).await?.workers;
    if heard.is_empty() && node.state.borrow().cannot_start().is_some() {
        node.supervisor.stop();
        return Ok(());
    }
    let listed = timeout(HIVE_WITHIN, answering(node)).await;
    // From here on a hive that ends is meant to.
    node.supervisor.stop();
    let Ok((hive, workers)) = listed else {
        return Err(app.hive_now().err().unwrap_or_else(|| {
            Diagnostic::new(
                Code::HiveUnreachable,
                "the hive does not answer; it and its workers go on",
            )
        }));
    };
    hive.stop(&hive_contract::ShutdownRequest {
        stop_workers: true,
        drain_seconds,
    })
    .await?;
    for worker in &workers {
        if worker.state == WorkerState::Running {
            stopped.push(format!("worker {} ({})", worker.worker_id, worker.model));
        }
    }
    for worker in heard {
        let info = worker.info;
        if workers.iter().any(|known| known.worker_id == info.id) {
            continue;
        }
        // Its record is lost, so the hive does not know it; it listens to the queen itself.
        let base = format!("http://127.0.0.1:{}", info.port);
        let token = Some(app.node_token.expose().to_owned());
        match WorkerClient::with_http(&base, token, app.http.clone())
            .shutdown()
            .await
        {
            Ok(()) => stopped.push(format!("worker {} ({})", info.id, info.model_id)),
            Err(error) => tracing::warn!(worker = %info.id, %error, "it was not stopped"),
        }
    }
    stopped.push(format!("hive {}", app.home_node));
    Ok(())
}

/// The hive and its workers, once it answers: only a hive can stop workers, and one that just
/// died is being started again.
async fn answering(node: &LocalNode) -> (RunningHive, Vec<WorkerEntry>) {
    let mut state = node.state.clone();
    loop {
        let now = state.borrow_and_update().clone();
        if let HiveState::Up(hive) = now {
            match hive.client.workers().await {
                Ok(list) => return (hive, list.workers),
                Err(error) => tracing::warn!(%error, "waiting for a hive that answers"),
            }
        }
        if state.changed().await.is_err() {
            // Nobody looks after a hive any more.
            std::future::pending::<()>().await;
        }
    }
}
