use std::sync::Arc;

use daemon_shell::blocking;
use diagnostics::Diagnostic;
use engine_catalog::{Launch, MachineEngines};
use engine_choice::Step;
use hive_jobs::JobContext;
use input_validation::{DeviceId, ModelRef, WorkerType};
use preflight_validation::{ADAPTER, ChosenEngine, worker_binary};
use worker_provisioning::ProgramLease;

use crate::{
    errors::{engine_gone, no_worker},
    preflight::Decision,
    settings::LifecycleSettings,
};

/// What a worker runs.
#[derive(Debug)]
pub(crate) struct WorkerProgram {
    /// Its binary, which is not removed before the lease is dropped.
    pub lease: ProgramLease,
    /// How it starts another engine than rbee's; nothing for that one.
    pub launch: Launch,
}

/// What serves this model as was decided. A binary that is missing is built first if the hive
/// builds binaries, and an engine whose package was agreed to is installed first.
pub(crate) async fn program(
    settings: &LifecycleSettings,
    engines: MachineEngines,
    (model, device): (&ModelRef, DeviceId),
    decision: &Decision,
    context: &JobContext,
) -> Result<WorkerProgram, Diagnostic> {
    let backend = decision.backend;
    let other = decision.engine.as_ref().filter(|engine| !engine.is_builtin);
    let (name, launch) = match other {
        None => {
            let name = worker_binary(Some(model), backend).ok_or_else(|| no_worker(backend))?;
            (name, Launch::default())
        }
        Some(chosen) => {
            let engine = &chosen.decision;
            let message = format!("{} runs {model}: {}", engine.engine, engine.reason);
            context.reporter.info("engine", message);
            let engines = installed(settings, engines, chosen, context).await?;
            let engine = engines.find(&engine.engine, &chosen.worker_type);
            let launch = engine.and_then(|engine| engine.launch(device, backend));
            let launch = launch.ok_or_else(|| engine_gone(&chosen.decision.engine))?;
            (ADAPTER, launch)
        }
    };
    let worker_type: WorkerType = name.parse()?;
    let lease = settings.binaries.ensure(&worker_type, context).await?;
    Ok(WorkerProgram { lease, launch })
}

/// The engines, after the chosen one was installed if that is its next step.
async fn installed(
    settings: &LifecycleSettings,
    engines: MachineEngines,
    chosen: &ChosenEngine,
    context: &JobContext,
) -> Result<MachineEngines, Diagnostic> {
    if chosen.step == Step::Start {
        return Ok(engines);
    }
    let name = &chosen.decision.engine;
    let mut offers = engines.offers.into_iter();
    let offer = offers.find(|offer| {
        let offered = &offer.declaration;
        offered.name == *name && offered.worker_type == chosen.worker_type
    });
    let offer = offer.ok_or_else(|| engine_gone(name))?;
    let binaries = &settings.binaries;
    binaries.obtain(offer.request, context).await?;
    let (catalog, binaries) = (settings.engines.clone(), Arc::clone(binaries.catalog()));
    blocking(move || Ok(catalog.engines(&binaries.packages()?))).await
}
