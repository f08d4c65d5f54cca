use diagnostics::{Code, Diagnostic};
use engine_choice::{Availability, Declaration, Step, Verdict, choose};
use hive_contract::{EngineCandidate, EngineDecision};
use input_validation::{Backend, EngineName, WorkerType};
use model_format::ModelHeader;

use crate::{
    engines::worker_binary,
    model::{ModelFacts, Needs},
    plan::{Engines, WorkerPlan},
};

/// Program of the workers that use an engine that is not rbee's.
pub const ADAPTER: &str = "adapter-worker-rbee";

/// The engine that a worker uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenEngine {
    /// Whether it is the one of rbee.
    pub is_builtin: bool,
    /// Type of the worker or package that provides it.
    pub worker_type: WorkerType,
    /// What happens with it.
    pub step: Step,
    /// The choice, for users.
    pub decision: EngineDecision,
}

/// Chooses the engine that runs a model on a device of a backend. `None` for a model of the mock
/// engine, and for one of which only the size is known, which the engine of rbee refuses when it
/// loads it.
///
/// Errors: those of [`choose`]; the problem of the engine that the request names.
pub fn choose_engine(
    plan: &WorkerPlan<'_>,
    model: &ModelFacts,
    backend: Backend,
) -> Result<Option<ChosenEngine>, Diagnostic> {
    let named = plan.request.engine.as_ref();
    if let Some(problem) = named.and_then(|name| problem_of(plan.engines, name)) {
        return Err(problem.clone());
    }
    let header = match (&model.needs, named) {
        (Needs::Header(header), _) => header,
        (Needs::Nothing, Some(name)) => return Err(mock_only(name)),
        (Needs::Nothing | Needs::Files(_), _) => return Ok(None),
    };
    let mut needs = header.engine.clone();
    needs.backend = backend;
    let named = named.map(EngineName::as_str);
    let declared = &plan.engines.declared;
    let installed = installed(plan, declared, backend);
    let choice = match choose(&needs, &installed, named) {
        // Then the missing binary is what is refused.
        Err(error) => match choose(&needs, declared, named) {
            Ok(choice) => choice,
            Err(_) => return Err(error),
        },
        Ok(choice) => choice,
    };
    let candidates: Vec<EngineCandidate> = choice
        .verdicts
        .iter()
        .map(|(name, verdict)| EngineCandidate {
            name: (*name).to_owned(),
            chosen: *verdict == Verdict::Chosen,
            note: verdict.to_string(),
        })
        .collect();
    let engine = choice.engine;
    let reason = match (named, &engine.availability) {
        (Some(_), _) => "it was named, and supports the model".to_owned(),
        (None, Availability::BuiltIn) => "the engine of rbee supports the model".to_owned(),
        (None, _) => {
            let builtin = installed
                .iter()
                .find(|engine| engine.availability == Availability::BuiltIn);
            let gaps = builtin.map(|builtin| Verdict::Cannot(needs.gaps(builtin)));
            match gaps {
                Some(gaps) => format!("the engine of rbee cannot run the model: {gaps}"),
                None => "it is the first one that supports the model".to_owned(),
            }
        }
    };
    Ok(Some(ChosenEngine {
        is_builtin: engine.availability == Availability::BuiltIn,
        worker_type: engine.worker_type.clone(),
        step: choice.step,
        decision: EngineDecision {
            engine: engine.name.clone(),
            reason,
            candidates,
        },
    }))
}

/// Checks whether an engine runs a model on one of these backends, before its files are fetched.
///
/// Errors: those of [`choose`].
pub fn check_runnable(
    header: &ModelHeader,
    engines: &Engines,
    backends: &[Backend],
) -> Result<(), Diagnostic> {
    let mut refusal = None;
    for backend in backends {
        let needs = engine_choice::Needs::of_model(header, *backend);
        let mut attached = engines
            .declared
            .iter()
            .filter(|engine| engine.availability == Availability::Attached);
        // It can be named when the worker is started.
        if attached.any(|engine| needs.gaps(engine).is_empty()) {
            return Ok(());
        }
        match choose(&needs, &engines.declared, None) {
            Ok(_) => return Ok(()),
            Err(error) => _ = refusal.get_or_insert(error),
        }
    }
    refusal.map_or(Ok(()), Err)
}

fn problem_of<'a>(engines: &'a Engines, name: &EngineName) -> Option<&'a Diagnostic> {
    let mut unusable = engines.unusable.iter();
    let found = unusable.find(|(unusable, _)| unusable == name.as_str());
    found.map(|(_, problem)| problem)
}

/// The engine of rbee computes on a backend only with the worker binary for it.
fn installed(
    plan: &WorkerPlan<'_>,
    declared: &[Declaration],
    backend: Backend,
) -> Vec<Declaration> {
    let model = plan.request.model.as_ref();
    let binary = worker_binary(model, backend);
    let mut available = plan.machine.worker_binaries.iter();
    let has_binary = available.any(|name| Some(name.as_str()) == binary);
    let mut installed = declared.to_vec();
    if !has_binary {
        for engine in &mut installed {
            if engine.availability == Availability::BuiltIn {
                engine.backends.retain(|supported| *supported != backend);
            }
        }
    }
    installed
}

fn mock_only(name: &EngineName) -> Diagnostic {
    let message = format!("the engine {name} does not run models of the mock engine");
    Diagnostic::new(Code::UnsupportedModel, message).hint("leave out the name of the engine")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use engine_choice::{Format, Support, builtin};
    use hive_contract::PreflightRequest;

    use super::*;
    use crate::{
        plan::Freed,
        testing::{cuda_gpu, machine, model},
    };

    fn llama_cpp(backends: &[Backend]) -> Declaration {
        Declaration {
            name: "llama-cpp".into(),
            worker_type: ADAPTER.parse().unwrap(),
            availability: Availability::Installed,
            formats: [Format::Gguf].into(),
            architectures: Support::Any,
            tensor_types: Support::Any,
            backends: backends.to_vec(),
            features: [].into(),
        }
    }

    fn chosen(
        change: impl FnOnce(&mut hive_contract::Capabilities),
        backend: Backend,
        named: Option<&str>,
    ) -> Result<String, Code> {
        let mut machine = machine(&[cuda_gpu(0, 8 << 30)]);
        change(&mut machine);
        let engines = Engines {
            declared: vec![
                builtin().unwrap(),
                llama_cpp(&[Backend::Cpu, Backend::Cuda]),
            ],
            unusable: vec![(
                "broken".into(),
                Diagnostic::new(Code::ConfigInvalid, "no kind"),
            )],
        };
        let request = PreflightRequest {
            engine: named.map(|name| name.parse().unwrap()),
            ..PreflightRequest::default()
        };
        let plan = WorkerPlan {
            machine: &machine,
            request: &request,
            model: None,
            engines: &engines,
            freed: Freed::default(),
            worker_dir: Path::new("/bin"),
        };
        let choice = choose_engine(&plan, &model(1, 1, 8), backend);
        match choice {
            Ok(choice) => Ok(choice.unwrap().decision.engine),
            Err(error) => Err(error.code),
        }
    }

    #[test]
    fn a_backend_without_a_worker_binary_is_left_to_another_engine() {
        let no_cuda = |machine: &mut hive_contract::Capabilities| {
            machine.worker_binaries = vec!["llm-cpu-worker-rbee".into()];
        };
        assert_eq!(chosen(|_| (), Backend::Cuda, None), Ok("builtin".into()));
        assert_eq!(chosen(no_cuda, Backend::Cuda, None), Ok("llama-cpp".into()));
        assert_eq!(chosen(no_cuda, Backend::Cpu, None), Ok("builtin".into()));
        // What was named is not replaced; its binary is missing.
        assert_eq!(
            chosen(no_cuda, Backend::Cuda, Some("builtin")),
            Ok("builtin".into())
        );
    }

    #[test]
    fn a_model_is_fetched_if_an_engine_of_the_machine_can_run_it() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../models/haiku/rbee-haiku-tiny-q8_0.gguf"
        );
        let mut header = model_format::inspect(Path::new(path)).unwrap();
        let check = |header: &ModelHeader, declared: Vec<Declaration>, backends: &[Backend]| {
            let engines = Engines {
                declared,
                unusable: Vec::new(),
            };
            check_runnable(header, &engines, backends).map_err(|error| error.code)
        };
        let own = || vec![builtin().unwrap()];
        let with = |engine: Declaration| vec![builtin().unwrap(), engine];
        assert_eq!(check(&header, own(), &[Backend::Cpu]), Ok(()));
        header.architecture = "mamba".into();
        let refused = Err(Code::UnsupportedModel);
        assert_eq!(check(&header, own(), &[Backend::Cpu]), refused);
        let on_gpu = || llama_cpp(&[Backend::Cuda]);
        assert_eq!(check(&header, with(on_gpu()), &[Backend::Cpu]), refused);
        let both = [Backend::Cpu, Backend::Cuda];
        assert_eq!(check(&header, with(on_gpu()), &both), Ok(()));
        // It can be named when a worker is started.
        let attached = Declaration {
            availability: Availability::Attached,
            ..on_gpu()
        };
        assert_eq!(check(&header, with(attached), &both), Ok(()));
        let package = Declaration {
            availability: Availability::Package {
                id: "llama-cpp".into(),
                agreed: false,
            },
            ..on_gpu()
        };
        let not_agreed = check(&header, with(package), &[Backend::Cuda]);
        assert_eq!(not_agreed, Err(Code::PackageNotApproved));
    }

    #[test]
    fn an_engine_that_cannot_be_used_is_refused_with_its_problem() {
        let named = |name| chosen(|_| (), Backend::Cpu, Some(name));
        assert_eq!(named("broken"), Err(Code::ConfigInvalid));
        assert_eq!(named("missing"), Err(Code::NotFound));
        assert_eq!(named("llama-cpp"), Ok("llama-cpp".into()));
    }
}
