use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use scheduler::SpawnTarget;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// One turn for each place and model: spawns there follow each other, so that none supersedes
/// another one that has just begun.
#[derive(Debug, Default)]
pub(crate) struct SpawnTurns(std::sync::Mutex<HashMap<SpawnTarget, Arc<Mutex<()>>>>);

impl SpawnTurns {
    /// Waits until no other spawn is under way there.
    pub(crate) async fn of(&self, target: &SpawnTarget) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(target.clone()).or_default())
        };
        turn.lock_owned().await
    }
}
