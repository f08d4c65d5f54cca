//! Starts an engine and serves its model.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use inference_execution::requests::Requests;
use worker_service::{ProgressCallback, SharedService};

use crate::{adapter::Adapter, engine::Engine, facts::Facts, restarts::Restarts};

/// Time between two attempts to find an engine of another owner.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the engine, waits until it is ready, and returns what serves its model. The engine is
/// watched, and started again when it is lost.
pub async fn load(engine: Engine, progress: ProgressCallback) -> Result<SharedService, Diagnostic> {
    engine.start(progress).await?;
    let facts = Facts::ask(&engine).await?;
    tracing::info!(?facts, "engine ready");
    let kv_tokens = u64::from(facts.context) * u64::from(facts.slots);
    let requests = Arc::new(Requests::new(facts.slots, 0, kv_tokens));
    tokio::spawn(watch(engine.clone(), requests.clone()));
    Ok(Arc::new(Adapter::new(engine, facts, requests)))
}

/// Starts the engine again whenever it is lost. Gives up if it is lost too often.
async fn watch(engine: Engine, requests: Arc<Requests>) {
    let mut restarts = Restarts::default();
    let begin = Instant::now();
    loop {
        let mut error = engine.lost().await;
        tracing::error!(%error, "engine lost");
        requests.notify();
        loop {
            let wait = if engine.is_attached() {
                Some(LOOK)
            } else {
                restarts.next(begin.elapsed())
            };
            let Some(wait) = wait else {
                requests.set_failure(error.clone());
                requests.abort(error);
                return;
            };
            tokio::time::sleep(wait).await;
            match engine.start(Arc::new(|_, _| ())).await {
                Ok(()) => break,
                Err(again) if engine.is_attached() => {
                    tracing::debug!(error = %again, "the engine has not returned");
                }
                Err(again) => {
                    tracing::error!(error = %again, "the engine does not start");
                    error = again;
                }
            }
        }
        tracing::info!("engine running again");
        requests.notify();
    }
}
