use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use daemon_shell::{ErrorResponse, JsonBody, blocking};
use diagnostics::{Code, Diagnostic};
use hive_contract::{PreflightReport, PreflightRequest};
use input_validation::ModelRef;
use preflight_validation::{
    ENGINE_CHECK, Freed, ModelFacts, WorkerPlan, check_machine, check_worker, validate,
};
use tokio::time::timeout;
use worker_catalog::Package;

use super::{Hive, responses::PreflightErrors};

/// Limit for reading the header of a model from its source.
const HEADER_LIMIT: Duration = Duration::from_secs(20);

/// Check whether a worker could be started
///
/// Starts nothing. All checks run, and the report has all failures. For a model that is not on
/// the machine, its header is read from its source.
#[utoipa::path(post, path = "/v1/preflight", tag = "node", request_body = PreflightRequest,
    responses((status = 200, body = PreflightReport, description = "The report"), PreflightErrors))]
pub async fn check(
    State(hive): State<Arc<Hive>>,
    JsonBody(request): JsonBody<PreflightRequest>,
) -> Result<Json<PreflightReport>, ErrorResponse> {
    validate(&request)?;
    let model = match request.model.clone() {
        Some(model) => Some(facts(&hive, model).await),
        None => None,
    };
    let (request, model) = (Arc::new(request), Arc::new(model));
    let report = examine(&hive, &request, &model, Vec::new()).await?;
    let lacks_engine = report.failures().any(|check| check.name == ENGINE_CHECK);
    if !lacks_engine {
        return Ok(Json(report));
    }
    // A package may provide the engine that is missing.
    match hive.binaries.offers().await {
        Ok(offers) if offers.is_empty() => Ok(Json(report)),
        Ok(offers) => Ok(Json(examine(&hive, &request, &model, offers).await?)),
        Err(error) => {
            tracing::warn!(%error, "cannot read the catalog of packages");
            Ok(Json(report))
        }
    }
}

async fn examine(
    hive: &Arc<Hive>,
    request: &Arc<PreflightRequest>,
    model: &Arc<Option<Result<ModelFacts, Diagnostic>>>,
    offers: Vec<(Package, bool)>,
) -> Result<PreflightReport, Diagnostic> {
    let (hive, request, model) = (Arc::clone(hive), Arc::clone(request), Arc::clone(model));
    blocking(move || {
        let (machine, mut engines) = hive.machine()?;
        engines.add_offers(offers);
        let mut checks = check_machine(&machine);
        checks.extend(check_worker(&WorkerPlan {
            machine: &machine,
            request: &request,
            model: (*model).as_ref(),
            engines: &engines.for_choice(),
            freed: Freed::default(),
            worker_dir: hive.binaries.catalog().release_dir(),
        }));
        Ok(PreflightReport { checks })
    })
    .await
}

async fn facts(hive: &Hive, model: ModelRef) -> Result<ModelFacts, Diagnostic> {
    let read = hive.puller.facts(model.clone());
    match timeout(HEADER_LIMIT, read).await {
        Ok(facts) => facts,
        Err(_) => Err(Diagnostic::new(
            Code::DownloadStalled,
            format!(
                "the header of {model} was not read within {} s",
                HEADER_LIMIT.as_secs()
            ),
        )
        .hint("check the connection to the source of the model, then try again")),
    }
}
