mod binaries;
mod content;
mod jobs;
mod link;
mod models;
mod node;
mod power;
mod preflight;
mod range;
mod responses;
mod sse;
mod workers;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    routing::{get, post},
};
use daemon_shell::Token;
use device_probe::Probe;
use diagnostics::Diagnostic;
use engine_catalog::{EngineCatalog, MachineEngines};
use hive_contract::Capabilities;
use hive_jobs::{JobRegistry, NodeEvents};
use hive_join::Incoming;
use input_validation::NodeName;
use model_catalog::{ModelCatalog, Puller};
use openapi_schema::{IntegerBounds, SharedErrors};
use tokio_util::sync::CancellationToken;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use worker_lifecycle::Workers;
use worker_provisioning::Provisioner;

use crate::suspend::SuspendCommand;

pub use link::local_server;

/// Maximum size of a request body.
const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// State that the handlers share.
pub struct Hive {
    pub id: NodeName,
    /// Address of this interface for processes of this machine.
    pub address: SocketAddr,
    /// Connections of the queen of another machine.
    pub incoming: Incoming,
    pub workers: Arc<Workers>,
    pub catalog: Arc<ModelCatalog>,
    pub puller: Arc<Puller>,
    pub probe: Arc<dyn Probe>,
    pub binaries: Arc<Provisioner>,
    pub engines: EngineCatalog,
    pub jobs: Arc<JobRegistry>,
    pub node_events: NodeEvents,
    /// Suspends this machine.
    pub suspend: SuspendCommand,
    /// Cancelled when the hive shuts down. Closes open event streams.
    pub stop: CancellationToken,
}

impl Hive {
    /// The machine and its engines as they are now. Blocks.
    fn machine(&self) -> Result<(Capabilities, MachineEngines), Diagnostic> {
        let mut machine = self.probe.machine()?;
        if !self.suspend.is_default() {
            machine.power.can_suspend = None;
        }
        let engines = self.engines.engines(&self.binaries.catalog().packages()?);
        let machine = machine.with_programs(self.binaries.available(), engines.entries());
        Ok((machine, engines))
    }
}

/// The hive's HTTP interface.
pub fn router(hive: Arc<Hive>, token: Token) -> Router {
    let guarded = Router::new()
        .route("/v1/capabilities", get(node::capabilities))
        .route("/v1/preflight", post(preflight::check))
        .route("/v1/models", get(models::list))
        .route("/v1/models/show", post(models::show))
        .route("/v1/models/pull", post(models::pull))
        .route("/v1/models/manifest", post(content::manifest))
        .route("/v1/models/content", get(content::content))
        .route("/v1/models/verify", post(models::verify))
        .route("/v1/models/remove", post(models::remove))
        .route("/v1/models/update", post(models::update))
        .route("/v1/models/prune", post(models::prune))
        .route("/v1/models/alias", post(models::alias))
        .route("/v1/models/backup", post(models::backup))
        .route("/v1/models/restore", post(models::restore))
        .route("/v1/worker-binaries", get(binaries::list))
        .route("/v1/worker-binaries/provision", post(binaries::provision))
        .route("/v1/worker-binaries/catalog", get(binaries::packages))
        .route("/v1/worker-binaries/catalog/{id}", get(binaries::package))
        .route(
            "/v1/worker-binaries/{type}",
            get(binaries::show).delete(binaries::remove),
        )
        .route(
            "/v1/worker-binaries/{type}/rollback",
            post(binaries::roll_back),
        )
        .route("/v1/link", get(link::link))
        .route("/v1/events", get(node::events))
        .route("/v1/shutdown", post(node::shutdown))
        .route("/v1/suspend", post(power::suspend))
        .route("/v1/wake", post(power::wake))
        .route("/v1/workers", get(workers::list))
        .route("/v1/workers/spawn", post(workers::spawn))
        .route("/v1/workers/{id}", get(workers::show).delete(workers::stop))
        .route("/v1/workers/{id}/logs", get(workers::logs))
        .route("/v1/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/v1/jobs/{id}/events", get(jobs::events));
    let router = daemon_shell::require_token(guarded.with_state(Arc::clone(&hive)), token.into())
        .route("/v1/health", get(node::health).with_state(hive));
    daemon_shell::finish(router, BODY_LIMIT_BYTES)
}

/// The OpenAPI document of the hive's interface.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    version = "3.2.0",
    info(title = "rbee hive", description = "The resources of one machine and the workers that run on it."),
    paths(
        node::health, node::capabilities, node::events, node::shutdown, power::suspend, power::wake,
        link::link, preflight::check,
        models::list, models::show, models::pull, models::verify, models::remove, models::update,
        models::prune, models::alias, models::backup, models::restore,
        content::manifest, content::content,
        binaries::list, binaries::packages, binaries::package, binaries::provision, binaries::show, binaries::remove, binaries::roll_back,
        workers::list, workers::spawn, workers::show, workers::stop, workers::logs,
        jobs::show, jobs::events, jobs::cancel,
    ),
    // Those that only responses and parameters refer to.
    components(schemas(
        diagnostics::ErrorBody, hive_contract::JobEvent, node::NodeEvent,
    )),
    security(("node_token" = [])),
    modifiers(&NodeToken, &IntegerBounds, &SharedErrors)
)]
struct Document;

struct NodeToken;

impl Modify for NodeToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token of the node"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("node_token", SecurityScheme::Http(scheme));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_contains_every_route() {
        let document = openapi();
        let paths: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
        // The literal paths in the source of `router`.
        let router = include_str!("mod.rs");
        let router = &router[router.find("pub fn router").unwrap()..];
        let router = &router[..router.find("daemon_shell::finish").unwrap()];
        let routed: std::collections::BTreeSet<&str> = router
            .split('"')
            .filter(|text| text.starts_with("/v1/"))
            .collect();
        assert_eq!(
            routed,
            paths.iter().copied().collect(),
            "the routes and the document differ"
        );
        let json = serde_json::to_string(&document).unwrap();
        for schema in ["SpawnRequest", "WorkerProcess", "JobEvent", "ErrorBody"] {
            assert!(
                json.contains(&format!("#/components/schemas/{schema}")),
                "{schema}"
            );
        }
    }
}
