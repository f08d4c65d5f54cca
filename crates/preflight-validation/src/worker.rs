use diagnostics::{Code, Diagnostic};
use hive_contract::{Capabilities, Device, PreflightCheck, PreflightLevel, PreflightRequest};
use input_validation::{Backend, DeviceId};

use crate::{
    check::Check,
    choice::{ADAPTER, ChosenEngine, choose_engine},
    device::check_device,
    driver::check_driver,
    engines::{install_hint, worker_binary},
    machine,
    memory::check_memory,
    model::{HeaderNeeds, ModelFacts, Needs},
    plan::WorkerPlan,
    units::{size, sizes},
};

/// Checks whether a worker can be started.
pub fn check_worker(plan: &WorkerPlan<'_>) -> Vec<PreflightCheck> {
    let (device_check, device) = check_device(plan.machine, plan.request);
    let mut checks = vec![device_check];
    checks.extend(device.into_iter().flat_map(check_driver));
    let facts = plan.model.and_then(|model| model.as_ref().ok());
    let choice = match (facts, device) {
        (Some(facts), Some(device)) => choose_engine(plan, facts, device.backend).transpose(),
        _ => None,
    };
    checks.push(check_binary(plan, device, choice.as_ref()));
    let Some(model) = plan.model else {
        return checks;
    };
    checks.push(check_model(model));
    if let Ok(facts) = model
        && let Needs::Header(header) = &facts.needs
    {
        checks.push(check_engine(header, choice.as_ref()));
        checks.extend(check_context(header, plan.request));
    } else if let Some(Err(error)) = &choice {
        checks.push(engine().refuse(error, NAME_NONE));
    }
    checks.extend(check_memory(plan, facts, device));
    if let Some(facts) = facts {
        checks.push(check_disk(plan.machine, facts.fetch_bytes));
    }
    checks
}

type Choice = Result<ChosenEngine, Diagnostic>;

fn check(name: &'static str, requirement: impl Into<String>) -> Check {
    Check::new(PreflightLevel::Worker, name, requirement)
}

fn check_binary(
    plan: &WorkerPlan<'_>,
    device: Option<&Device>,
    choice: Option<&Choice>,
) -> PreflightCheck {
    let requested = plan.request.backend;
    let is_cpu = matches!(plan.request.device, None | Some(DeviceId::Cpu(_)));
    let backend = device.map(|device| device.backend).or(requested);
    let backend = backend.or(is_cpu.then_some(Backend::Cpu));
    let Some(backend) = backend else {
        return check("worker binary", "a worker for the device").skip("the device is refused");
    };
    let model = plan.request.model.as_ref();
    let is_adapter = matches!(choice, Some(Ok(chosen)) if !chosen.is_builtin);
    let own = worker_binary(model, backend);
    let Some(binary) = is_adapter.then_some(ADAPTER).or(own) else {
        let check = check("worker binary", format!("a worker for {backend}"));
        return check.skip("rbee has none for this backend");
    };
    let check = check("worker binary", binary);
    if plan
        .machine
        .worker_binaries
        .iter()
        .any(|name| name == binary)
    {
        check.pass("it is installed")
    } else {
        check.fail(
            format!(
                "no executable at {}",
                plan.worker_dir.join(binary).display()
            ),
            Code::WorkerBinaryMissing,
            install_hint(binary),
        )
    }
}

fn check_model(model: &Result<ModelFacts, Diagnostic>) -> PreflightCheck {
    let check = check("model", "a model whose header can be read");
    match model {
        Ok(facts) => {
            let place = match facts.fetch_bytes {
                0 => "on the machine".to_owned(),
                bytes => format!("{} to fetch", size(bytes)),
            };
            check.pass(format!("{}, {place}", facts.model))
        }
        Err(error) => check.refuse(error, "check the reference of the model"),
    }
}

/// What to do about an engine that is refused.
const NAME_NONE: &str = "leave out the name of the engine";

/// Name of the check of the engine.
pub const ENGINE_CHECK: &str = "engine";

fn engine() -> Check {
    check(ENGINE_CHECK, "an engine that runs the model")
}

fn check_engine(header: &HeaderNeeds, choice: Option<&Choice>) -> PreflightCheck {
    let check = engine();
    let chosen = match choice {
        None => return check.skip("the device is refused"),
        Some(Err(error)) => return check.refuse(error, NAME_NONE),
        Some(Ok(chosen)) => &chosen.decision,
    };
    let runs = format!(
        "{} runs {} in {}",
        chosen.engine,
        diagnostics::excerpt(&header.architecture, 40),
        diagnostics::excerpt(&header.quantization, 40)
    );
    let check = check.detail("engine", chosen.engine.as_str());
    if chosen.engine == engine_choice::BUILTIN {
        check.pass(runs)
    } else {
        check.pass(format!("{runs}: {}", chosen.reason))
    }
}

fn check_context(header: &HeaderNeeds, request: &PreflightRequest) -> Option<PreflightCheck> {
    let (requested, trained) = (request.context_length?, header.memory.context_length);
    if trained == 0 {
        // The header of another engine's model does not say it.
        return None;
    }
    let check = check("context", format!("a context of at most {trained} tokens"))
        .detail("requested_tokens", requested)
        .detail("model_tokens", trained);
    Some(if requested <= trained {
        check.pass(format!("{requested} tokens"))
    } else {
        check.fail(
            format!("{requested} tokens are requested"),
            Code::ConfigInvalid,
            format!("request at most what the model was trained with: `--context {trained}`"),
        )
    })
}

fn check_disk(machine: &Capabilities, fetch_bytes: u64) -> PreflightCheck {
    let free = machine.disk.free_bytes;
    if fetch_bytes == 0 {
        let check = check("disk", "space for the files of the model");
        return check.pass("nothing to fetch");
    }
    let check = check(
        "disk",
        format!("{} for the files of the model", size(fetch_bytes)),
    )
    .detail("need_bytes", fetch_bytes)
    .detail("free_bytes", free);
    if free >= fetch_bytes {
        return check.pass(format!("{} free", size(free)));
    }
    let (have, need) = sizes(free, fetch_bytes);
    check.fail(
        format!("{have} free, {need} to fetch"),
        Code::InsufficientDisk,
        machine::FREE_SPACE,
    )
}

#[cfg(test)]
mod tests {
    use hive_contract::Verdict;
    use proptest::prelude::*;

    use std::path::Path;

    use super::*;
    use crate::{
        plan::Freed,
        testing::{assert_explained, cuda_gpu, engines, machine, model},
    };

    fn run(
        machine: &Capabilities,
        request: &PreflightRequest,
        model: Option<&Result<ModelFacts, Diagnostic>>,
    ) -> Vec<PreflightCheck> {
        check_worker(&WorkerPlan {
            machine,
            request,
            model,
            engines: &engines(),
            freed: Freed::default(),
            worker_dir: Path::new("/bin"),
        })
    }

    fn codes(checks: &[PreflightCheck]) -> Vec<Code> {
        assert_explained(checks);
        checks.iter().filter_map(|check| check.code).collect()
    }

    #[test]
    fn all_failures_are_reported_at_once() {
        let mut machine = machine(&[]);
        machine.worker_binaries.clear();
        machine.disk.free_bytes = 1 << 20;
        let mut facts = model(20 << 30, 1 << 10, 4096);
        facts.fetch_bytes = 20 << 30;
        if let Needs::Header(header) = &mut facts.needs {
            header.engine.architecture = "bert".to_owned();
        }
        let request = PreflightRequest {
            context_length: Some(8192),
            ..PreflightRequest::default()
        };
        let checks = run(&machine, &request, Some(&Ok(facts)));
        assert_eq!(
            codes(&checks),
            [
                Code::WorkerBinaryMissing,
                Code::UnsupportedModel,
                Code::ConfigInvalid,
                Code::InsufficientRam,
                Code::InsufficientDisk,
            ]
        );
    }

    #[test]
    fn what_depends_on_a_failed_check_is_skipped() {
        let machine = machine(&[]);
        let gpu = PreflightRequest {
            device: Some(DeviceId::Gpu(0)),
            ..PreflightRequest::default()
        };
        let facts = Ok(model(1 << 30, 1 << 10, 4096));
        let checks = run(&machine, &gpu, Some(&facts));
        assert_eq!(codes(&checks), [Code::BackendUnavailable]);
        let skipped = |name: &str| {
            let found = checks.iter().find(|check| check.name == name).unwrap();
            assert_eq!(found.verdict, Verdict::Skipped, "{found:?}");
        };
        skipped("worker binary");
        skipped("memory");

        let missing = Err(Diagnostic::new(Code::ModelNotFound, "/a does not exist"));
        let checks = run(&machine, &PreflightRequest::default(), Some(&missing));
        assert_eq!(codes(&checks), [Code::ModelNotFound]);
    }

    #[test]
    fn the_binary_depends_on_model_and_backend() {
        let machine = machine(&[cuda_gpu(0, 8 << 30)]);
        let mut request = PreflightRequest {
            backend: Some(Backend::Cuda),
            ..PreflightRequest::default()
        };
        assert_eq!(codes(&run(&machine, &request, None)), []);
        request.model = Some("mock:a=1".parse().unwrap());
        assert_eq!(
            codes(&run(&machine, &request, None)),
            [Code::WorkerBinaryMissing]
        );
    }

    fn score(verdict: Verdict) -> u8 {
        match verdict {
            Verdict::Pass => 0,
            Verdict::Warn => 1,
            Verdict::Skipped | Verdict::Fail => 2,
        }
    }

    proptest! {
        #[test]
        fn more_memory_never_makes_a_check_fail(
            weights in 0_u64..1 << 34,
            per_token in 1_u64..1 << 18,
            context in prop::option::of(1_u32..100_000),
            slots in prop::option::of(1_u32..20),
            memory in 0_u64..1 << 35,
            more in 0_u64..1 << 35,
            on_gpu in any::<bool>(),
        ) {
            let facts = Ok(model(weights, per_token, 100_000));
            let request = PreflightRequest {
                backend: on_gpu.then_some(Backend::Cuda),
                context_length: context,
                slots,
                ..PreflightRequest::default()
            };
            let with = |bytes| {
                let mut machine = machine(&[cuda_gpu(0, bytes)]);
                machine.ram.available_bytes = bytes;
                machine.disk.free_bytes = bytes;
                run(&machine, &request, Some(&facts))
            };
            let (less, more) = (with(memory), with(memory + more));
            assert_explained(&less);
            prop_assert_eq!(less.len(), more.len());
            for (less, more) in less.iter().zip(&more) {
                prop_assert!(score(more.verdict) <= score(less.verdict), "{:?} {:?}", less, more);
            }
        }
    }
}
