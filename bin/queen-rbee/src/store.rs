use std::sync::{Arc, Mutex, PoisonError};

use diagnostics::Diagnostic;
use queen_store::Store;

/// The store for async code: each call runs where blocking is allowed, one at a time.
#[derive(Debug, Clone)]
pub struct StoreHandle(Arc<Mutex<Store>>);

impl StoreHandle {
    /// Wraps the store.
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// Runs `work` on the store.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, Diagnostic> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        let store = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            // A panic of another call left its transaction undone, and nothing else.
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut store)
        })
        .await
        .map_err(|e| Diagnostic::internal(format!("the store's thread: {e}")))?
    }
}
