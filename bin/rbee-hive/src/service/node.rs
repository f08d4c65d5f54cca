use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use axum::{Json, extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, blocking, event_stream};
use diagnostics::{Diagnostic, Narration};
use futures_util::StreamExt as _;
use hive_contract::{
    API_VERSION, Capabilities, EngineEntry, HiveHealth, HiveShutdownRequest, JobEvent, WorkerState,
};
use http::StatusCode;
use input_validation::Backend;

use openapi_schema::{event_of_json, impl_schema, reference};

use super::{
    Hive,
    responses::{ReadErrors, ShutdownErrors, TokenErrors},
    sse::encode,
};

/// HiveHealth of the hive
#[utoipa::path(get, path = "/v1/health", tag = "node", security(()),
    responses((status = 200, body = HiveHealth, description = "The hive responds")))]
pub async fn health(State(hive): State<Arc<Hive>>) -> Json<HiveHealth> {
    Json(HiveHealth {
        status: "ok".to_owned(),
        hive_id: hive.id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API_VERSION,
        pid: std::process::id(),
    })
}

/// Resources of the machine
#[utoipa::path(get, path = "/v1/capabilities", tag = "node",
    responses((status = 200, body = Capabilities, description = "The resources"), ReadErrors))]
pub async fn capabilities(
    State(hive): State<Arc<Hive>>,
) -> Result<Json<Capabilities>, ErrorResponse> {
    let workers = hive.workers.list().await?.into_iter();
    let running = workers.filter(|worker| worker.state == WorkerState::Running);
    let running: BTreeSet<u32> = running.map(|worker| worker.pid).collect();
    let machine = blocking(move || {
        let (mut machine, _) = hive.machine()?;
        device_probe::without_workers(&mut machine.devices, &running, Path::new("/proc"));
        if machine.engines.iter().any(computes_here) {
            for device in &mut machine.devices {
                device.processes.clear();
            }
        }
        Ok(machine)
    });
    Ok(Json(machine.await?))
}

/// Whether an engine that someone else starts computes on the GPUs of this machine. Its processes,
/// which are no other programs, cannot be recognized.
fn computes_here(engine: &EngineEntry) -> bool {
    let place = engine.place.as_deref().unwrap_or_default();
    let address = place.strip_prefix("http://");
    let is_here = address.is_some_and(|address| {
        let host = address.split(['/', ':']).next();
        matches!(host, Some("localhost" | "127.0.0.1")) || address.starts_with("[::1]")
    });
    is_here && engine.backends.iter().any(|b| *b != Backend::Cpu)
}

/// Event of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEvent {}

impl_schema! {
    NodeEvent, uses [Narration],
    "Event of a node.",
    event_of_json(Some("narration"), reference::<Narration>())
}

/// Events of the node, from now on
///
/// Events named `narration`. In place of events that a slow reader misses it gets one with
/// their number.
#[utoipa::path(get, path = "/v1/events", tag = "node",
    responses((status = 200, description = "The events",
        content(("text/event-stream", item_schema = NodeEvent))), TokenErrors))]
pub async fn events(State(hive): State<Arc<Hive>>) -> Response {
    let events = hive.node_events.subscribe();
    let events = events.map(|narration| encode(&JobEvent::Narration(narration)));
    event_stream(events.take_until(hive.stop.clone().cancelled_owned()))
}

/// Shut down the hive, with or without its workers
#[utoipa::path(post, path = "/v1/shutdown", tag = "node", request_body = HiveShutdownRequest,
    responses((status = 204, description = "The workers are stopped if requested; the hive is shutting down"), ShutdownErrors))]
pub async fn shutdown(
    State(hive): State<Arc<Hive>>,
    JsonBody(request): JsonBody<HiveShutdownRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let drain = request.drain_seconds.map(Duration::from_secs);
    detached(async move {
        if request.stop_workers {
            hive.workers.stop_all(drain).await?;
        }
        tracing::info!(stop_workers = request.stop_workers, "shutdown requested");
        hive.stop.cancel();
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs `work` in a task of its own, so that it completes although the client disconnects.
pub(super) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Diagnostic>> + Send + 'static,
) -> Result<T, Diagnostic> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(panic) => Err(Diagnostic::internal(format!("a task panicked: {panic}"))),
    }
}

#[cfg(test)]
mod tests {
    use hive_contract::EngineSource;

    use super::*;

    #[test]
    fn only_engines_that_run_already_on_gpus_of_this_machine_are_not_recognized() {
        let engine = |place: &str, backends: &[Backend]| EngineEntry {
            name: "a".into(),
            source: EngineSource::Configured,
            kind: None,
            place: Some(place.into()),
            formats: Vec::new(),
            backends: backends.to_vec(),
            problem: None,
        };
        let gpu = [Backend::Cpu, Backend::Cuda];
        for here in [
            "http://127.0.0.1:11434",
            "http://localhost/v1",
            "http://[::1]:8000",
        ] {
            assert!(computes_here(&engine(here, &gpu)), "{here}");
            assert!(!computes_here(&engine(here, &[Backend::Cpu])), "{here}");
        }
        for other in [
            "/usr/bin/llama-server",
            "http://box:8000",
            "https://localhost.example",
        ] {
            assert!(!computes_here(&engine(other, &gpu)), "{other}");
        }
    }
}
