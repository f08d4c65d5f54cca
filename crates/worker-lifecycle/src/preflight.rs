use std::path::Path;

use diagnostics::{Code, Diagnostic};
use hive_contract::{Capabilities, PreflightReport, PreflightRequest, SpawnRequest, Verdict};
use hive_jobs::Reporter;
use input_validation::Backend;
use preflight_validation::{
    ChosenEngine, Engines, Freed, ModelFacts, WorkerMemory, WorkerPlan, check_worker,
    choose_engine, requested_kv_bytes, select_device, worker_memory,
};

/// What was decided about a spawn that passed its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub backend: Backend,
    /// Size of the KV cache, if the request determines it.
    pub kv_cache_bytes: Option<u64>,
    /// The memory that the worker allocates while it starts.
    pub memory: WorkerMemory,
    /// The engine; absent for a model of the mock engine.
    pub engine: Option<ChosenEngine>,
}

/// Checks whether a worker can be started. The error names all failed checks; warnings are
/// reported.
pub(crate) fn check(
    request: &SpawnRequest,
    machine: &Capabilities,
    model: &Result<ModelFacts, Diagnostic>,
    (engines, freed): (&Engines, Freed),
    worker_dir: &Path,
    reporter: &Reporter,
) -> Result<Decision, Diagnostic> {
    let wanted = PreflightRequest {
        model: Some(request.model.clone()),
        device: Some(request.device),
        backend: None,
        engine: request.engine.clone(),
        context_length: request.context_length,
        slots: request.slots,
    };
    let plan = WorkerPlan {
        machine,
        request: &wanted,
        model: Some(model),
        engines,
        freed,
        worker_dir,
    };
    let report = PreflightReport {
        checks: check_worker(&plan),
    };
    if let Some(error) = report.refusal() {
        return Err(at_spawn(error));
    }
    for check in report.checks {
        if check.verdict == Verdict::Warn {
            reporter.warn("preflight", format!("{}: {}", check.name, check.measured));
        }
    }
    let device = select_device(machine, &wanted)?;
    let (memory, kv_cache_bytes, engine) = match model {
        Ok(facts) => (
            worker_memory(facts, &wanted, device.id),
            requested_kv_bytes(facts, &wanted),
            choose_engine(&plan, facts, device.backend)?,
        ),
        Err(_) => (WorkerMemory::default(), None, None),
    };
    Ok(Decision {
        backend: device.backend,
        memory,
        kv_cache_bytes,
        engine,
    })
}

/// A binary that is missing when a worker is spawned has a code of its own.
fn at_spawn(mut error: Diagnostic) -> Diagnostic {
    if error.code == Code::WorkerBinaryMissing {
        error.code = Code::WorkerBinaryNotFound;
    }
    error
}
