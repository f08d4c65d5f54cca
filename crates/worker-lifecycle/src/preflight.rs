use diagnostics::{Code, Diagnostic};
use hive_contract::{Capabilities, PreflightReport, PreflightRequest, SpawnRequest, Verdict};
use hive_jobs::Reporter;
use input_validation::Backend;
use preflight_validation::{
    Freed, ModelFacts, WorkerPlan, check_worker, requested_kv_bytes, select_device,
};

use crate::binaries::WorkerBinaries;

/// What was decided about a spawn that passed its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub backend: Backend,
    /// Size of the KV cache, if the request determines it.
    pub kv_cache_bytes: Option<u64>,
}

/// Checks whether a worker can be started. The error names all failed checks; warnings are
/// reported.
pub(crate) fn check(
    request: &SpawnRequest,
    machine: &Capabilities,
    model: &Result<ModelFacts, Diagnostic>,
    freed: Freed,
    binaries: &WorkerBinaries,
    reporter: &Reporter,
) -> Result<Decision, Diagnostic> {
    let wanted = PreflightRequest {
        model: Some(request.model.clone()),
        device: Some(request.device),
        backend: None,
        context_length: request.context_length,
        slots: request.slots,
    };
    let report = PreflightReport {
        checks: check_worker(&WorkerPlan {
            machine,
            request: &wanted,
            model: Some(model),
            freed,
            worker_dir: binaries.dir(),
        }),
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
    let kv_cache_bytes = match model {
        Ok(facts) => requested_kv_bytes(facts, &wanted),
        Err(_) => None,
    };
    Ok(Decision {
        backend: device.backend,
        kv_cache_bytes,
    })
}

/// A binary that is missing when a worker is spawned has a code of its own.
fn at_spawn(mut error: Diagnostic) -> Diagnostic {
    if error.code == Code::WorkerBinaryMissing {
        error.code = Code::WorkerBinaryNotFound;
    }
    error
}
