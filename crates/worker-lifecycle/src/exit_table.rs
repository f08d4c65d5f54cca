use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use input_validation::WorkerId;
use tokio::sync::watch;

use crate::exit::Exit;

/// The exits of this hive's children, by worker id. A receiver has a value once the exit is in
/// the spawn record.
#[derive(Debug, Default)]
pub(crate) struct ExitTable(Mutex<HashMap<WorkerId, watch::Receiver<Option<Exit>>>>);

impl ExitTable {
    /// Adds the process that was started last under this id.
    pub fn insert(&self, id: &WorkerId, exit: watch::Receiver<Option<Exit>>) {
        let mut exits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        exits.retain(|_, exit| exit.borrow().is_none());
        exits.insert(id.clone(), exit);
    }

    /// Waits until the exit of a process that is gone is in its record. Returns immediately if
    /// the process was not a child of this hive.
    pub async fn recorded(&self, id: &WorkerId) {
        let exits = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let exit = exits().get(id).cloned();
        if let Some(mut exit) = exit {
            // Fails if the task that records the exit panicked.
            let _ = exit.wait_for(Option::is_some).await;
        }
    }
}
