//! Requests with several answers, each of which is carried as a request of its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use diagnostics::{Code, Diagnostic};
use input_validation::RequestId;
use tokio_util::sync::CancellationToken;

/// The requests with several answers that are being answered, by name. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Groups(Arc<Mutex<HashMap<RequestId, CancellationToken>>>);

/// One of them, as long as its answers come.
#[derive(Debug)]
pub struct Group {
    groups: Groups,
    id: RequestId,
    cancelled: CancellationToken,
}

impl Groups {
    /// The request `id` has several answers.
    pub fn enter(&self, id: RequestId) -> Group {
        let cancelled = CancellationToken::new();
        self.with(|groups| groups.insert(id.clone(), cancelled.clone()));
        Group {
            groups: self.clone(),
            id,
            cancelled,
        }
    }

    /// Cancels the answers of `id` that are left; nothing when it has not several.
    pub fn cancel(&self, id: &RequestId) {
        if let Some(cancelled) = self.with(|groups| groups.get(id).cloned()) {
            cancelled.cancel();
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<RequestId, CancellationToken>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Group {
    /// Resolves when the request is cancelled, with what its client is told.
    pub fn cancelled(&self) -> impl Future<Output = Diagnostic> + use<> {
        let (id, cancelled) = (self.id.clone(), self.cancelled.clone());
        async move {
            cancelled.cancelled().await;
            Diagnostic::new(Code::Cancelled, "the request was cancelled").correlated(id.as_str())
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.groups.with(|groups| groups.remove(&self.id));
    }
}
