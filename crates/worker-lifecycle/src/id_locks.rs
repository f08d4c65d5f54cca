use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use input_validation::WorkerId;

/// Locks under which workers of one id are started, one at a time.
#[derive(Debug, Default)]
pub(crate) struct IdLocks(Mutex<HashMap<WorkerId, Weak<tokio::sync::Mutex<()>>>>);

impl IdLocks {
    /// The lock of an id. It is forgotten when nobody holds it.
    pub fn of(&self, id: &WorkerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }
}
