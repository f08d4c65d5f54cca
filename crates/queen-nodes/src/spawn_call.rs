//! Workers that a user has spawned.

use diagnostics::Diagnostic;
use input_validation::{Backend, NodeName};
use queen_contract::{SpawnCall, SpawnedWorker};
use queen_dispatch::Dispatcher;
use scheduler::SpawnTarget;

use crate::{
    Nodes,
    spawning::{EngineWish, Spawning},
};

impl Nodes {
    /// Spawns a worker for a user, or finds the one that runs. Returns when it serves requests.
    ///
    /// Errors: `NODE_NOT_FOUND`, and those of the hive.
    pub async fn spawn_worker(
        &self,
        call: SpawnCall,
        dispatcher: &Dispatcher,
    ) -> Result<SpawnedWorker, Diagnostic> {
        let target = SpawnTarget {
            model: call.model,
            node: call.node.unwrap_or_else(NodeName::local),
            backend: call.backend.unwrap_or(Backend::Cpu),
            device: None,
        };
        let node = self.get(&target.node)?;
        let spawning = Spawning {
            nodes: self,
            node: &node,
            target: &target,
            dispatcher,
            engine: EngineWish::Set(call.engine),
        };
        let _turn = self.spawn_turns().of(&target).await;
        let spawned = spawning.run().await?;
        let (_, process) = self.spawned_worker(&spawned.worker).await?;
        Ok(SpawnedWorker {
            worker_id: spawned.worker,
            generation: spawned.generation,
            node: target.node,
            engine: process.engine,
        })
    }
}
