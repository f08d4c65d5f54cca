use std::sync::Arc;

use daemon_shell::blocking;
use diagnostics::Diagnostic;
use engine_catalog::{Engine, Launch, MachineEngines, Run};
use engine_choice::Step;
use hive_contract::{RemotePart, SpawnRequest, SplitRole};
use hive_jobs::JobContext;
use input_validation::{Backend, WorkerType};
use preflight_validation::{ADAPTER, ChosenEngine, worker_binary};
use worker_contract::EngineKind;
use worker_provisioning::ProgramLease;

use crate::{
    errors::{cannot_split, engine_gone, no_worker},
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
    request: &SpawnRequest,
    decision: &Decision,
    context: &JobContext,
) -> Result<WorkerProgram, Diagnostic> {
    let (model, device) = (&request.model, request.device);
    let backend = decision.backend;
    let other = decision.engine.as_ref().filter(|engine| !engine.is_builtin);
    let (name, launch) = match other {
        None if request.split.is_some() => return Err(cannot_split("builtin")),
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
            let launch = engine.and_then(|engine| Some((engine, engine.launch(device, backend)?)));
            let (engine, mut launch) =
                launch.ok_or_else(|| engine_gone(&chosen.decision.engine))?;
            if let Some(SplitRole::Main { layers, parts }) = &request.split {
                if !can_split(engine) {
                    return Err(cannot_split(&chosen.decision.engine));
                }
                launch
                    .arguments
                    .extend(split_arguments(*layers, parts, backend));
            }
            (ADAPTER, launch)
        }
    };
    let worker_type: WorkerType = name.parse()?;
    let lease = settings.binaries.ensure(&worker_type, context).await?;
    Ok(WorkerProgram { lease, launch })
}

/// Whether parts of a model can be computed elsewhere: a server of llama.cpp that is started here.
fn can_split(engine: &Engine) -> bool {
    matches!(
        engine.run,
        Run::Command {
            kind: EngineKind::LlamaCpp,
            ..
        }
    )
}

/// The options of llama.cpp's server by which others compute layers. It counts layers for GPUs
/// only, and the others are GPUs to it; they come before its own.
fn split_arguments(layers: u32, parts: &[RemotePart], backend: Backend) -> Vec<String> {
    let servers: Vec<String> = parts
        .iter()
        .map(|part| format!("127.0.0.1:{}", part.port))
        .collect();
    let own = (backend != Backend::Cpu).then_some(layers);
    let counts = parts.iter().map(|part| part.layers).chain(own);
    let counts: Vec<u32> = counts.collect();
    let offloaded: u32 = counts.iter().copied().fold(0, u32::saturating_add);
    let split: Vec<String> = counts.iter().map(u32::to_string).collect();
    [
        ("--rpc", servers.join(",")),
        ("--n-gpu-layers", offloaded.to_string()),
        ("--tensor-split", split.join(",")),
        // The division is given, and nothing else is adapted to the memory.
        ("--fit", "off".to_owned()),
    ]
    .into_iter()
    .flat_map(|(option, value)| [option.to_owned(), value])
    .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gets_the_division_in_its_own_words() {
        let part = |port, layers| RemotePart { port, layers };
        let parts = [part(5001, 12), part(5002, 4)];
        let on_cpu = split_arguments(17, &parts, Backend::Cpu).join(" ");
        assert_eq!(
            on_cpu,
            "--rpc 127.0.0.1:5001,127.0.0.1:5002 --n-gpu-layers 16 --tensor-split 12,4 --fit off"
        );
        let on_gpu = split_arguments(17, &parts, Backend::Cuda).join(" ");
        assert!(
            on_gpu.contains("--n-gpu-layers 33 --tensor-split 12,4,17"),
            "{on_gpu}"
        );
    }
}
