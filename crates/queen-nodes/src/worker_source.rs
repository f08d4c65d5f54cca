use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use hive_contract::WorkerState;
use input_validation::NodeName;
use queen_dispatch::{Dispatcher, WorkerSource};
use scheduler::{SpawnTarget, StopCause};
use tokio::time::timeout;
use worker_registry::SpawnId;

use crate::{
    Nodes,
    access::EXIT_QUERY_LIMIT,
    spawning::{EngineWish, Spawning},
};

/// Time that requests have to finish on a GPU that is left to other programs; then they continue
/// on other devices, if there are any.
const YIELD_DRAIN_SECONDS: u64 = 10;

impl WorkerSource for Nodes {
    fn provide<'a>(
        &'a self,
        target: &'a SpawnTarget,
        dispatcher: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<SpawnId, Diagnostic>> {
        Box::pin(async move {
            let node = self.get(&target.node)?;
            let spawning = Spawning {
                nodes: self,
                node: &node,
                target,
                dispatcher,
                engine: EngineWish::Keep,
            };
            let _turn = self.spawn_turns().of(target).await;
            let spawned = spawning.run().await;
            if let Err(error) = &spawned {
                tracing::warn!(model = %target.model, code = %error.code, %error, "no worker available");
            }
            spawned
        })
    }

    fn has_exited<'a>(&'a self, worker: &'a SpawnId) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let query = timeout(EXIT_QUERY_LIMIT, self.spawned_worker(&worker.worker)).await;
            query.is_ok_and(|found| {
                found.is_ok_and(|(_, process)| {
                    process.generation == worker.generation && process.state == WorkerState::Exited
                })
            })
        })
    }

    fn release_port<'a>(&'a self, node: &'a NodeName, port: u16) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Ok(node) = self.get(node) {
                node.release_port(port).await;
            }
        })
    }

    fn stop<'a>(
        &'a self,
        worker: &'a SpawnId,
        cause: StopCause,
        dispatcher: &'a Dispatcher,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        let drain_seconds = match cause {
            StopCause::Idle
            | StopCause::Memory
            | StopCause::Surplus
            | StopCause::Return
            // The user says how long.
            | StopCause::Sleep => None,
            StopCause::Yield => Some(YIELD_DRAIN_SECONDS),
            StopCause::Stalled => Some(0),
        };
        Box::pin(async move {
            let drain_seconds = match cause {
                StopCause::Sleep => self.sleep_drain(&worker.worker, dispatcher).await,
                _ => drain_seconds,
            };
            let hive = match self.spawned_worker(&worker.worker).await {
                Ok((hive, _)) => Some(hive),
                Err(error) => {
                    tracing::warn!(worker = %worker.worker, %error, "no hive can stop the worker");
                    None
                }
            };
            self.stop_spawn(hive, worker, drain_seconds, dispatcher)
                .await
        })
    }
}
