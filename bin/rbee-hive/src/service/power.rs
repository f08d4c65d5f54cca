//! Calls that suspend this machine and wake others.

use std::sync::Arc;

use axum::extract::State;
use daemon_shell::{ErrorResponse, JsonBody};
use diagnostics::{Code, Diagnostic};
use hive_contract::{SuspendRequest, WakeRequest, WorkerState};
use http::StatusCode;
use input_validation::NodeName;

use super::{
    Hive,
    node::detached,
    responses::{SuspendErrors, WakeErrors},
};

/// Suspend the machine
///
/// Refused with `NODE_IN_USE` while workers, downloads or builds are running, unless forced. The
/// machine may be asleep before the response has arrived.
#[utoipa::path(post, path = "/v1/suspend", tag = "node", request_body = SuspendRequest,
    responses((status = 204, description = "The machine is being suspended"), SuspendErrors))]
pub async fn suspend(
    State(hive): State<Arc<Hive>>,
    JsonBody(request): JsonBody<SuspendRequest>,
) -> Result<StatusCode, ErrorResponse> {
    if !request.force {
        let uses = uses(&hive).await?;
        if !uses.is_empty() {
            return Err(in_use(&hive.id, &uses).into());
        }
    }
    detached(async move { hive.suspend.run().await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Wake another machine of the network
#[utoipa::path(post, path = "/v1/wake", tag = "node", request_body = WakeRequest,
    responses((status = 204, description = "The magic packets are sent"), WakeErrors))]
pub async fn wake(JsonBody(request): JsonBody<WakeRequest>) -> Result<StatusCode, ErrorResponse> {
    let WakeRequest { mac, address } = request;
    let sent = wake_on_lan::send(mac, address).await?;
    tracing::info!(%mac, ?sent, "sent magic packets");
    Ok(StatusCode::NO_CONTENT)
}

/// What a suspension would interrupt.
async fn uses(hive: &Hive) -> Result<Vec<String>, Diagnostic> {
    let workers = hive.workers.list().await?.into_iter();
    let running = workers.filter(|worker| worker.state == WorkerState::Running);
    let running = running.map(|worker| format!("worker {} ({})", worker.worker_id, worker.model));
    let jobs = hive.jobs.running().into_iter();
    let jobs = jobs.map(|kind| format!("a job: {kind}"));
    Ok(running.chain(jobs).collect())
}

fn in_use(node: &NodeName, uses: &[String]) -> Diagnostic {
    Diagnostic::new(
        Code::NodeInUse,
        format!("node {node} is in use: {}", uses.join(", ")),
    )
    .hint(format!(
        "wait until they have ended, or suspend it in any case: `rbee-keeper node sleep {node} \
         --force`"
    ))
    .detail("in_use", uses)
}
