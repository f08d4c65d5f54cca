//! Requests with several choices, each of which runs as a request of its own.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use input_validation::RequestId;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The running requests with several choices, by the client's request id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups(Arc<Mutex<HashMap<RequestId, CancellationToken>>>);

/// The membership of one request; ends when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    groups: Groups,
    id: RequestId,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Groups {
    pub(crate) fn enter(&self, id: RequestId) -> Group {
        let token = CancellationToken::new();
        self.with(|groups| groups.insert(id.clone(), token.clone()));
        Group {
            groups: self.clone(),
            id,
            cancelled: Box::pin(token.cancelled_owned()),
        }
    }

    /// Cancels all choices of a request; has no effect if it does not have several.
    pub(crate) fn cancel(&self, id: &RequestId) {
        if let Some(token) = self.with(|groups| groups.get(id).cloned()) {
            token.cancel();
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<RequestId, CancellationToken>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Group {
    pub(crate) fn id(&self) -> &RequestId {
        &self.id
    }

    /// Ready when the request is cancelled.
    pub(crate) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.cancelled.as_mut().poll(cx)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.groups.with(|groups| groups.remove(&self.id));
    }
}
