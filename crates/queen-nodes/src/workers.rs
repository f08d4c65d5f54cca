use diagnostics::{Code, Diagnostic};
use hive_contract::WorkerProcess;
use hive_lifecycle::RunningHive;
use input_validation::{Generation, WorkerId};
use queen_contract::WorkerEntry;
use queen_dispatch::Dispatcher;
use rest_client::CallError;
use worker_registry::{SpawnId, WorkerFilter};

use crate::{Nodes, errors};

impl Nodes {
    /// Returns a registered worker. Fails with [`Code::WorkerNotFound`].
    pub async fn worker(
        &self,
        id: &WorkerId,
        dispatcher: &Dispatcher,
    ) -> Result<WorkerEntry, Diagnostic> {
        let workers = dispatcher.workers(WorkerFilter::default()).await?;
        let found = workers.into_iter().find(|worker| worker.info.id == *id);
        let mut found = found.ok_or_else(|| errors::worker_not_found(id))?;
        self.add_parts(std::slice::from_mut(&mut found));
        Ok(found)
    }

    /// Adds the parts of their models to workers, as they were last seen.
    pub fn add_parts(&self, workers: &mut [WorkerEntry]) {
        let mut parts = self.splits().parts();
        for worker in workers {
            worker.parts = parts.remove(&worker.info.id).unwrap_or_default();
        }
    }

    /// Returns the last `lines` lines of a worker's log.
    pub async fn worker_logs(&self, id: &WorkerId, lines: u32) -> Result<String, Diagnostic> {
        let (hive, _) = self.spawned_worker(id).await?;
        Ok(hive.client.worker_logs(id, lines).await?)
    }

    /// Stops a worker for a user and returns when its process has exited. Its current and
    /// earlier generations must not serve again. Its requests continue on other workers, if
    /// there are any, and on a new one if it is replaced; a later request for its model spawns a
    /// new one.
    pub async fn stop_worker(
        &self,
        id: &WorkerId,
        drain_seconds: Option<u64>,
        replace: bool,
        dispatcher: &Dispatcher,
    ) -> Result<(), Diagnostic> {
        let registered = match self.worker(id, dispatcher).await {
            Ok(worker) => Some(worker.info.generation),
            Err(error) if error.code == Code::WorkerNotFound => None,
            Err(error) => return Err(error),
        };
        let (hive, generation) = match self.spawned_worker(id).await {
            Ok((hive, entry)) => (
                Some(hive),
                entry.generation.max(registered.unwrap_or(entry.generation)),
            ),
            // A worker that no hive knows exits when its next heartbeat is fenced.
            Err(error) if error.code == Code::WorkerNotFound => (None, registered.ok_or(error)?),
            Err(error) => return Err(error),
        };
        let spawn = SpawnId {
            worker: id.clone(),
            generation,
        };
        if replace {
            dispatcher.replacing(spawn.clone()).await;
        } else {
            dispatcher.stopping(spawn.clone()).await;
        }
        self.stop_spawn(hive, &spawn, drain_seconds, dispatcher)
            .await
    }

    /// Stops a worker and fences it, so that it exits by itself if it cannot be stopped.
    pub(crate) async fn stop_spawn(
        &self,
        hive: Option<RunningHive>,
        spawn: &SpawnId,
        drain_seconds: Option<u64>,
        dispatcher: &Dispatcher,
    ) -> Result<(), Diagnostic> {
        let SpawnId { worker, generation } = spawn.clone();
        let stopped = match hive {
            Some(hive) => {
                hive.client
                    .stop_worker(&worker, generation, drain_seconds)
                    .await
            }
            None => Ok(()),
        };
        let lowest = Generation(generation.0.saturating_add(1));
        let fenced = worker.clone();
        let stored = self
            .state()
            .call(move |store| store.fence(&fenced, lowest))
            .await;
        dispatcher.fence(worker, lowest).await;
        stored.and(stopped.map_err(Diagnostic::from))
    }

    /// Finds the hive that spawned a worker. If no hive knows it but one does not respond,
    /// the error is that hive's.
    pub(crate) async fn spawned_worker(
        &self,
        id: &WorkerId,
    ) -> Result<(RunningHive, WorkerProcess), Diagnostic> {
        let mut unreachable = None;
        let nodes = self.all();
        for node in nodes.iter().filter(|node| node.has_hive()) {
            let hive = match node.hive_now() {
                Ok(hive) => hive,
                Err(error) => {
                    unreachable.get_or_insert(error);
                    continue;
                }
            };
            match hive.client.worker(id).await {
                Ok(entry) => return Ok((hive, entry)),
                Err(CallError::Response(_, error)) if error.code == Code::WorkerNotFound => {}
                Err(error) => {
                    unreachable.get_or_insert(error.into());
                }
            }
        }
        Err(unreachable.unwrap_or_else(|| errors::worker_not_found(id)))
    }
}
