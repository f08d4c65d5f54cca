use std::time::Duration;

use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use hive_contract::{OUT_OF_MEMORY, WorkerState};
use request_relay::{WorkerAccess, WorkerExit};
use tokio::time::timeout;
use worker_contract::{WorkerClient, WorkerInfo};

use crate::Nodes;

/// Longest wait for a hive to report whether a process has exited.
pub(crate) const EXIT_QUERY_LIMIT: Duration = Duration::from_secs(2);

impl WorkerAccess for Nodes {
    fn connect<'a>(
        &'a self,
        worker: &'a WorkerInfo,
    ) -> BoxFuture<'a, Result<WorkerClient, Diagnostic>> {
        Box::pin(async move {
            let node = self.get(&worker.hive_id)?;
            node.worker_client(worker.port).await
        })
    }

    fn exit<'a>(&'a self, worker: &'a WorkerInfo) -> BoxFuture<'a, Option<WorkerExit>> {
        Box::pin(async move {
            let hive = self.get(&worker.hive_id).ok()?.hive_now().ok()?;
            let query = timeout(EXIT_QUERY_LIMIT, hive.client.worker(&worker.id)).await;
            let entry = query.ok()?.ok()?;
            let exited =
                entry.generation == worker.generation && entry.state == WorkerState::Exited;
            let out_of_memory = |exit: &String| exit.starts_with(OUT_OF_MEMORY);
            exited.then_some(WorkerExit {
                out_of_memory: entry.last_exit.as_ref().is_some_and(out_of_memory),
                description: entry.last_exit,
            })
        })
    }

    fn lost_part<'a>(&'a self, worker: &'a WorkerInfo) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let query = timeout(EXIT_QUERY_LIMIT, self.lost_parts_of(worker));
            query.await.ok().flatten()
        })
    }
}
