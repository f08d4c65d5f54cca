use std::sync::{Arc, Mutex, PoisonError};

use diagnostics::Diagnostic;
use input_validation::{Generation, WorkerId};
use queen_store::Store;
use state_files::Home;

/// The queen's persistent state, for asynchronous code: each call runs on a thread that may
/// block, one at a time.
#[derive(Debug, Clone)]
pub struct QueenState(Arc<Mutex<Store>>);

impl QueenState {
    /// Opens the state in `home`.
    pub async fn open(home: &Home) -> Result<Self, Diagnostic> {
        let home = home.clone();
        let store = daemon_shell::blocking(move || Store::open(&home)).await?;
        Ok(Self(Arc::new(Mutex::new(store))))
    }

    /// Returns the port on which the queen listened last.
    pub async fn last_port(&self) -> Result<Option<u16>, Diagnostic> {
        self.call(|store| store.last_port()).await
    }

    pub async fn set_last_port(&self, port: u16) -> Result<(), Diagnostic> {
        self.call(move |store| store.set_last_port(port)).await
    }

    /// Returns the lowest generation that may serve, for every worker that was stopped or
    /// respawned in any run of the queen.
    pub async fn fences(&self) -> Result<Vec<(WorkerId, Generation)>, Diagnostic> {
        self.call(|store| {
            let deployments = store.deployments()?.into_iter();
            let mut fences = store.fences()?;
            fences.extend(deployments.map(|row| (row.worker_id, row.generation)));
            Ok(fences)
        })
        .await
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, Diagnostic> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        let store = Arc::clone(&self.0);
        daemon_shell::blocking(move || {
            // A panic in another call has rolled back its transaction and changed nothing else.
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut store)
        })
        .await
    }
}
