//! How a node is left and suspended.

use std::{pin::pin, sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use hive_contract::{HiveClient, SuspendRequest, WorkerProcess, WorkerState};
use hive_lifecycle::RunningHive;
use input_validation::WorkerId;
use queen_dispatch::Dispatcher;
use rest_client::CallError;
use scheduler::{SleepEvent, SleepStage};
use tokio::time::{sleep, timeout};
use worker_registry::WorkerFilter;

use crate::{Node, Nodes, sleep_errors as errors};

/// Time that running requests have to finish, unless the user says otherwise.
pub(crate) const DRAIN_SECONDS: u64 = 30;
/// Time for the processes of the workers to exit after that.
const EXIT_LIMIT: Duration = Duration::from_secs(30);
/// How often the hive is asked which workers run, and whether it responds.
const POLL: Duration = Duration::from_millis(500);
/// Longest wait for a hive that may be asleep.
const RESPONSE_LIMIT: Duration = Duration::from_secs(1);
/// Number of missing responses in succession after which the machine is asleep.
const MISSES: u32 = 2;

impl Nodes {
    /// Waits until nothing runs on the node. The scheduler has its workers stopped.
    pub(crate) async fn leave(&self, node: &Arc<Node>) {
        let drain = node.sleep_call().drain_seconds.unwrap_or(DRAIN_SECONDS);
        let limit = Duration::from_secs(drain).saturating_add(EXIT_LIMIT);
        match timeout(limit, self.emptied(node)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(node = %node.name(), %error, "it is not known what runs on the node");
            }
            Err(_) => tracing::warn!(node = %node.name(), "some workers did not stop in time"),
        }
        self.sleep_event(node, SleepEvent::Left);
    }

    async fn emptied(&self, node: &Node) -> Result<(), Diagnostic> {
        let hive = node.hive_now()?;
        while node.sleep().stage() == SleepStage::Leaving {
            let listed = hive.client.workers().await?.workers.into_iter();
            let running = listed.filter(|process| process.state == WorkerState::Running);
            let running: Vec<WorkerProcess> = running.collect();
            if running.is_empty() {
                return Ok(());
            }
            let registered = self.registered_on(node).await?;
            for process in running {
                // Parts of split models, and workers that have just been started.
                if !registered.contains(&process.worker_id) {
                    let (id, generation) = (&process.worker_id, process.generation);
                    hive.client.stop_worker(id, generation, Some(0)).await?;
                }
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Time that the requests of a worker have to finish whose node is put to sleep.
    pub(crate) async fn sleep_drain(
        &self,
        worker: &WorkerId,
        dispatcher: &Dispatcher,
    ) -> Option<u64> {
        let entry = self.worker(worker, dispatcher).await.ok()?;
        let node = self.get(&entry.info.hive_id).ok()?;
        node.sleep_call().drain_seconds
    }

    async fn registered_on(&self, node: &Node) -> Result<Vec<WorkerId>, Diagnostic> {
        let Some(dispatcher) = self.dispatcher() else {
            return Ok(Vec::new());
        };
        let filter = WorkerFilter {
            node: Some(node.name().clone()),
            ..WorkerFilter::default()
        };
        let workers = dispatcher.workers(filter).await?.into_iter();
        Ok(workers.map(|worker| worker.info.id).collect())
    }

    /// Asks the hive to suspend its machine, and waits until it does not respond any more.
    pub(crate) async fn suspend(&self, node: &Arc<Node>, hive: Result<RunningHive, Diagnostic>) {
        let event = match hive {
            Ok(hive) => match self.until_silent(node, &hive.client).await {
                Ok(event) => event,
                Err(error) => {
                    let error = errors::not_suspended(node.name(), error);
                    tracing::warn!(node = %node.name(), code = %error.code, "{error}");
                    node.set_sleep_failure(error);
                    Some(SleepEvent::Refused)
                }
            },
            Err(error) => {
                node.set_sleep_failure(errors::not_suspended(node.name(), error));
                Some(SleepEvent::Refused)
            }
        };
        if let Some(event) = event {
            self.sleep_event(node, event);
        }
    }

    /// Returns `None` if the node is not being suspended any more.
    async fn until_silent(
        &self,
        node: &Node,
        hive: &HiveClient,
    ) -> Result<Option<SleepEvent>, Diagnostic> {
        let request = SuspendRequest {
            force: node.sleep_call().force,
        };
        let mut changes = node.sleep_changes();
        let mut suspends = pin!(hive.suspend(&request));
        let mut silent = pin!(silence(hive));
        let mut is_accepted = false;
        loop {
            tokio::select! {
                result = &mut suspends, if !is_accepted => match result {
                    Err(CallError::Response(_, error)) => return Err(error),
                    // It may be asleep already.
                    Ok(()) | Err(CallError::Link(_)) => is_accepted = true,
                },
                () = &mut silent => return Ok(Some(SleepEvent::Silent)),
                changed = changes.changed() => {
                    let stage = changes.borrow_and_update().stage();
                    if changed.is_err() || stage != SleepStage::Suspending {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// Resolves when a hive does not respond any more.
async fn silence(hive: &HiveClient) {
    let mut misses = 0;
    while misses < MISSES {
        sleep(POLL).await;
        let health = timeout(RESPONSE_LIMIT, hive.health()).await;
        misses = match health {
            Ok(Ok(_) | Err(CallError::Response(..))) => 0,
            Ok(Err(CallError::Link(_))) | Err(_) => misses + 1,
        };
    }
}
