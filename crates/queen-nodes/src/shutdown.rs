use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_contract::{WorkerProcess, WorkerState};
use hive_lifecycle::{HiveState, RunningHive};
use queen_contract::{ShutdownRequest, ShutdownResponse};
use queen_dispatch::Dispatcher;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use worker_registry::WorkerFilter;

use crate::{Node, Nodes, errors};

/// Time for running requests to finish, unless the request says otherwise.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// Time for requests to end after they were aborted.
const ABORT_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a hive that is being restarted.
const HIVE_LIMIT: Duration = Duration::from_secs(15);

/// The shutdown of the queen: no new requests, running requests finish, then, if requested,
/// workers and hives stop.
#[derive(Debug)]
pub struct Shutdown {
    nodes: Nodes,
    dispatcher: Dispatcher,
    started: AtomicBool,
    completed: CancellationToken,
}

impl Shutdown {
    pub fn new(nodes: Nodes, dispatcher: Dispatcher) -> Self {
        Self {
            nodes,
            dispatcher,
            started: AtomicBool::new(false),
            completed: CancellationToken::new(),
        }
    }

    /// Returns the token that is cancelled when the queen has nothing left to do.
    pub fn completed(&self) -> &CancellationToken {
        &self.completed
    }

    /// Shuts the queen down and returns what was stopped. Fails if a shutdown is
    /// under way.
    pub async fn run(&self, request: ShutdownRequest) -> Result<ShutdownResponse, Diagnostic> {
        if self.started.swap(true, Ordering::SeqCst) {
            return Err(errors::already_stopping());
        }
        tracing::info!(cascade = request.cascade, "shutting down");
        let mut stopped = Vec::new();
        self.dispatcher.drain().await;
        let drain = request
            .drain_seconds
            .map_or(DRAIN_LIMIT, Duration::from_secs);
        if timeout(drain, self.dispatcher.idle()).await.is_err() {
            self.dispatcher
                .abort(errors::stopped_before_completion())
                .await;
            if timeout(ABORT_LIMIT, self.dispatcher.idle()).await.is_err() {
                tracing::warn!("some requests did not end");
            }
            stopped.push("requests that were still running".to_owned());
        }
        let mut cascaded = Ok(());
        if request.cascade {
            let nodes = self.nodes.all();
            let stops = nodes
                .iter()
                .map(|node| self.stop_node(node, request.drain_seconds));
            for (of_node, result) in join_all(stops).await {
                stopped.extend(of_node);
                cascaded = cascaded.and(result);
            }
        }
        self.completed.cancel();
        cascaded.map(|()| ShutdownResponse { stopped })
    }

    /// Stops the workers and the hive of a node; returns what was stopped, also if that failed.
    async fn stop_node(
        &self,
        node: &Arc<Node>,
        drain_seconds: Option<u64>,
    ) -> (Vec<String>, Result<(), Diagnostic>) {
        let mut stopped = Vec::new();
        let result = self.stop_all_of(node, drain_seconds, &mut stopped).await;
        (stopped, result)
    }

    async fn stop_all_of(
        &self,
        node: &Arc<Node>,
        drain_seconds: Option<u64>,
        stopped: &mut Vec<String>,
    ) -> Result<(), Diagnostic> {
        let Some(state) = node.hive_state() else {
            return Ok(());
        };
        let filter = WorkerFilter {
            node: Some(node.name().clone()),
            ..WorkerFilter::default()
        };
        let registered = self.dispatcher.workers(filter).await?;
        if registered.is_empty() && node.failure(&state.borrow()).is_some() {
            node.release_hive();
            return Ok(());
        }
        let responding = timeout(HIVE_LIMIT, responding_hive(node)).await;
        // From here on, the hive must not be restarted.
        node.release_hive();
        let Ok((hive, spawned)) = responding else {
            let reason = node.hive_now().err();
            return Err(reason.unwrap_or_else(errors::hive_unresponsive));
        };
        node.stop_hive(&hive, &spawned, drain_seconds).await?;
        for worker in &spawned {
            if worker.state == WorkerState::Running {
                stopped.push(format!("worker {} ({})", worker.worker_id, worker.model));
            }
        }
        for worker in registered {
            let info = worker.info;
            if spawned.iter().any(|known| known.worker_id == info.id) {
                continue;
            }
            // The hive has lost the worker's record, so the queen stops it directly.
            match shut_down_worker(node, info.port).await {
                Ok(()) => stopped.push(format!("worker {} ({})", info.id, info.model_id)),
                Err(error) => tracing::warn!(worker = %info.id, %error, "cannot stop a worker"),
            }
        }
        if node.starts_hive() {
            stopped.push(format!("hive {}", node.name()));
        }
        Ok(())
    }
}

async fn shut_down_worker(node: &Node, port: u16) -> Result<(), Diagnostic> {
    let client = node.worker_client(port).await?;
    Ok(client.shutdown().await?)
}

/// Waits for a hive that responds, and returns it with its workers: only a hive can stop
/// workers, and one that has just exited is being restarted.
async fn responding_hive(node: &Node) -> (RunningHive, Vec<WorkerProcess>) {
    let Some(mut state) = node.hive_state() else {
        return std::future::pending().await;
    };
    loop {
        let current = state.borrow_and_update().clone();
        if let HiveState::Up(hive) = current {
            match hive.client.workers().await {
                Ok(list) => return (hive, list.workers),
                Err(error) => tracing::warn!(%error, "waiting for a hive that responds"),
            }
        }
        if state.changed().await.is_err() {
            // The hive is not supervised any more.
            return std::future::pending().await;
        }
    }
}
