use diagnostics::Code;
use hive_contract::{Device, PreflightCheck, PreflightLevel, PreflightRequest};
use input_validation::{Backend, DeviceId};

use crate::{
    check::Check,
    driver::is_usable,
    model::{HeaderNeeds, ModelFacts, Needs},
    need::Need,
    plan::WorkerPlan,
    units::{size, sizes},
};

/// Main memory of a worker that computes on a GPU, in bytes.
const HOST_BYTES: u64 = 256 << 20;
/// Memory of the GPU that its driver takes for a process, in bytes.
const GPU_CONTEXT_BYTES: u64 = 512 << 20;

/// Bits per weight of common quantizations, which mix types, from the largest on.
const QUANTIZATIONS: [(&str, f64); 6] = [
    ("Q8_0", 8.5),
    ("Q6_K", 6.6),
    ("Q5_K_M", 5.7),
    ("Q4_K_M", 4.9),
    ("Q3_K_M", 4.0),
    ("Q2_K", 3.4),
];

/// Memory that a worker needs, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerMemory {
    /// Main memory.
    pub ram_bytes: u64,
    /// Memory of its GPU.
    pub gpu_bytes: u64,
}

/// Returns the memory that a worker for the model needs on this device.
pub fn worker_memory(
    model: &ModelFacts,
    request: &PreflightRequest,
    device: DeviceId,
) -> WorkerMemory {
    let total = need_on(model, request, device).total();
    match device {
        DeviceId::Cpu(_) => WorkerMemory {
            ram_bytes: total,
            gpu_bytes: 0,
        },
        DeviceId::Gpu(_) => WorkerMemory {
            ram_bytes: host_need(model),
            gpu_bytes: total,
        },
    }
}

fn need_on(model: &ModelFacts, request: &PreflightRequest, device: DeviceId) -> Need {
    let mut need = Need::new(model, request);
    if device != DeviceId::Cpu(0) && model.needs != Needs::Nothing {
        need.workspace = need.workspace.saturating_add(GPU_CONTEXT_BYTES);
    }
    need
}

/// Main memory of a worker that computes on a GPU.
fn host_need(model: &ModelFacts) -> u64 {
    match model.needs {
        Needs::Nothing => 0,
        _ => HOST_BYTES,
    }
}

/// Checks the memory that the worker computes in and, for a GPU, that of the machine as well.
pub(crate) fn check_memory(
    plan: &WorkerPlan<'_>,
    model: Option<&ModelFacts>,
    device: Option<&Device>,
) -> Vec<PreflightCheck> {
    let skipped = |reason| {
        let check = Check::new(PreflightLevel::Worker, "memory", "memory for the model");
        vec![check.skip(reason)]
    };
    let Some(device) = device else {
        return skipped("the device is refused");
    };
    let Some(model) = model else {
        return skipped("the needs of the model are unknown");
    };
    let place = Place { plan, device };
    match device.id {
        DeviceId::Cpu(_) => vec![place.model_memory(model)],
        DeviceId::Gpu(_) => vec![place.host_memory(model), place.model_memory(model)],
    }
}

/// Where a model is to be loaded.
struct Place<'a> {
    plan: &'a WorkerPlan<'a>,
    device: &'a Device,
}

impl Place<'_> {
    /// Returns the memory that a worker on a device can use.
    fn free(&self, device: &Device) -> u64 {
        match device.id {
            DeviceId::Cpu(_) => self.ram(),
            DeviceId::Gpu(_) => device.memory_free_bytes,
        }
    }

    fn ram(&self) -> u64 {
        let available = self.plan.machine.ram.available_bytes;
        available.saturating_add(self.plan.freed.ram_bytes)
    }

    fn need(&self, model: &ModelFacts, device: &Device) -> Need {
        need_on(model, self.plan.request, device.id)
    }

    fn host_memory(&self, model: &ModelFacts) -> PreflightCheck {
        let need = host_need(model);
        let free = self.ram();
        let check = Check::new(
            PreflightLevel::Worker,
            "memory",
            format!("{} of main memory", size(need)),
        )
        .detail("need_bytes", need)
        .detail("available_bytes", free);
        if free >= need {
            return check.pass(format!("{} available", size(free)));
        }
        let (have, _) = sizes(free, need);
        check.fail(
            format!("{have} available"),
            Code::InsufficientRam,
            "free memory: stop other programs, or workers with `rbee-keeper worker stop`",
        )
    }

    fn model_memory(&self, model: &ModelFacts) -> PreflightCheck {
        let is_cpu = matches!(self.device.id, DeviceId::Cpu(_));
        let (name, code, state) = if is_cpu {
            ("memory", Code::InsufficientRam, "available")
        } else {
            ("device memory", Code::InsufficientVram, "free")
        };
        let id = self.device.id;
        let (need, free) = (self.need(model, self.device), self.free(self.device));
        let total = need.total();
        let (have, needed) = sizes(free, total);
        let requirement = match total {
            0 => "memory for the model".to_owned(),
            _ => format!("{needed} on {id} ({})", need.parts()),
        };
        let check = Check::new(PreflightLevel::Worker, name, requirement)
            .detail("need_bytes", total)
            .detail("weight_bytes", need.weights)
            .detail("kv_cache_bytes", need.kv)
            .detail("workspace_bytes", need.workspace)
            .detail("available_bytes", free);
        if free < total {
            if !is_cpu && self.plan.freed.device == Some(id) {
                return check.skip("the earlier process of this worker is stopped first");
            }
            let hint = self.suggestions(model, &need, free);
            return check.fail(format!("{have} {state} on {id}"), code, hint);
        }
        match (&model.needs, need.context) {
            (Needs::Header(header), None) => room(check, header, &need, free),
            _ => check.pass(format!("{} {state}", size(free))),
        }
    }

    /// What would fit, by the numbers.
    fn suggestions(&self, model: &ModelFacts, need: &Need, free: u64) -> String {
        let mut ways = Vec::new();
        if let Needs::Header(header) = &model.needs {
            ways.extend(shorter_context(header, need, free));
            ways.extend(fewer_slots(header, need, free));
            ways.extend(smaller_quantization(header, need, free));
        }
        let devices = self.plan.machine.devices.iter();
        ways.extend(devices.filter_map(|device| self.other_device(model, device)));
        if ways.is_empty() {
            let limit = free.saturating_sub(need.workspace);
            return format!(
                "use a smaller model, with weights of at most {}, free memory, or use a node \
                 with more",
                size(limit)
            );
        }
        format!("use {}", ways.join(", or "))
    }

    fn other_device(&self, model: &ModelFacts, device: &Device) -> Option<String> {
        if !is_usable(device) {
            return None;
        }
        let free = self.free(device);
        let fits = device.id != self.device.id && free >= self.need(model, device).total();
        let flag = match device.backend {
            Backend::Cpu => "`--backend cpu`".to_owned(),
            _ => format!("`--device {}`", device.id),
        };
        fits.then(|| format!("{flag} with {} free", size(free)))
    }
}

/// Without a requested context, the engine adapts it to the memory.
fn room(check: Check, header: &HeaderNeeds, need: &Need, free: u64) -> PreflightCheck {
    let memory = &header.memory;
    let trained = memory.context_length;
    let usable = free.saturating_sub(need.workspace);
    let cache = memory.default_kv_bytes(trained, Some(usable));
    let fits = memory.context_in(memory.weight_bytes.saturating_add(cache));
    let fits = fits.unwrap_or(0);
    let check = check
        .detail("context_tokens", fits)
        .detail("model_tokens", trained);
    let free = size(free);
    if trained == 0 {
        // The header of another engine's model does not say it.
        return check.pass(format!("{free} available"));
    }
    if fits >= trained {
        return check.pass(format!("{free} available, room for {trained} tokens"));
    }
    check.warn(
        format!("{free} available, room for {fits} of {trained} tokens of context"),
        "longer prompts are refused; free memory for a longer context, or reserve one with \
         `--context N`",
    )
}

fn shorter_context(header: &HeaderNeeds, need: &Need, free: u64) -> Option<String> {
    let requested = need.context?;
    let memory = &header.memory;
    let left = free
        .checked_sub(need.workspace)?
        .checked_sub(memory.weight_bytes)?;
    let each = left / u64::from(need.sequences.max(1));
    let tokens = memory.context_in(memory.weight_bytes.saturating_add(each))?;
    (tokens < requested).then(|| format!("a shorter context: `--context {tokens}`"))
}

fn fewer_slots(header: &HeaderNeeds, need: &Need, free: u64) -> Option<String> {
    let left = free
        .checked_sub(need.workspace)?
        .checked_sub(header.memory.weight_bytes)?;
    let each = need.kv / u64::from(need.sequences.max(1));
    let slots = left.checked_div(each)?;
    (1..u64::from(need.sequences))
        .contains(&slots)
        .then(|| format!("fewer slots: `--slots {slots}`"))
}

fn smaller_quantization(header: &HeaderNeeds, need: &Need, free: u64) -> Option<String> {
    let parameters = header.parameters as f64;
    let left = free.checked_sub(need.workspace)?.checked_sub(need.kv)?;
    let current = header.memory.weight_bytes as f64 * 8.0 / parameters;
    let mut smaller = QUANTIZATIONS.iter().filter(|(_, bits)| *bits < current);
    let (name, bits) = smaller.find(|(_, bits)| bits * parameters / 8.0 <= left as f64)?;
    let bytes = (bits * parameters / 8.0) as u64;
    Some(format!(
        "a smaller quantization, such as {name} (about {})",
        size(bytes)
    ))
}

#[cfg(test)]
mod tests {
    use hive_contract::{Capabilities, PreflightRequest, Verdict};

    use super::*;
    use crate::{
        plan::Freed,
        testing::{cuda_gpu, engines, machine, model},
        worker::check_worker,
    };

    const GIB: u64 = 1 << 30;

    fn memory(
        machine: &Capabilities,
        request: &PreflightRequest,
        facts: ModelFacts,
        freed: Freed,
    ) -> PreflightCheck {
        let checks = check_worker(&WorkerPlan {
            machine,
            request,
            model: Some(&Ok(facts)),
            engines: &engines(),
            freed,
            worker_dir: std::path::Path::new("/bin"),
        });
        let on_gpu = request.backend == Some(Backend::Cuda);
        let name = if on_gpu { "device memory" } else { "memory" };
        let mut found = checks.into_iter().filter(|check| check.name == name);
        found.next().unwrap()
    }

    #[test]
    fn the_suggestion_follows_from_the_numbers() {
        // 1 MiB per token; 8 GiB are available, of which 64 MiB are for work.
        let (mib, workspace) = (1 << 20, 64);
        let cpu = PreflightRequest::default();
        let context = PreflightRequest {
            context_length: Some(8192),
            ..cpu.clone()
        };
        let two = PreflightRequest {
            slots: Some(2),
            ..context.clone()
        };
        let four = PreflightRequest {
            context_length: Some(2048),
            slots: Some(4),
            ..cpu.clone()
        };
        let tokens = 7168 - workspace;
        for (request, weights, verdict, texts) in [
            (&cpu, GIB, Verdict::Warn, vec!["8.0 GiB", "of 16384 tokens"]),
            (
                &cpu,
                8 * GIB,
                Verdict::Fail,
                vec!["8.1 GiB", "8.0 GiB", "Q8_0 (about 2.0 GiB)"],
            ),
            (
                &context,
                GIB,
                Verdict::Fail,
                vec![
                    "9.1 GiB",
                    "8.0 GiB",
                    "8192 tokens",
                    &*format!("`--context {tokens}`"),
                ],
            ),
            (
                &two,
                GIB,
                Verdict::Fail,
                vec!["17.1 GiB", "2 contexts", "`--context 3552`"],
            ),
            (
                &four,
                GIB,
                Verdict::Fail,
                vec!["4 contexts of 2048", "`--context 1776`", "`--slots 3`"],
            ),
        ] {
            let check = memory(
                &machine(&[]),
                request,
                model(weights, mib, 16384),
                Freed::default(),
            );
            assert_eq!(check.verdict, verdict, "{check:?}");
            let text = format!("{} {}", check.message(), check.hint.clone().unwrap());
            for part in texts {
                assert!(text.contains(part), "no {part} in {text}");
            }
            if verdict == Verdict::Fail {
                assert_eq!(check.code, Some(Code::InsufficientRam));
                let details = check.details.unwrap();
                assert!(details["need_bytes"].as_u64() > details["available_bytes"].as_u64());
            }
        }
        // What is suggested fits.
        for (request, tokens) in [(context, tokens), (two, 3552)] {
            let request = PreflightRequest {
                context_length: Some(tokens),
                ..request
            };
            let check = memory(
                &machine(&[]),
                &request,
                model(GIB, mib, 16384),
                Freed::default(),
            );
            assert_eq!(check.verdict, Verdict::Pass, "{check:?}");
        }
    }

    #[test]
    fn another_device_is_suggested_only_if_the_model_fits_there() {
        let request = PreflightRequest {
            device: Some(DeviceId::Gpu(0)),
            backend: Some(Backend::Cuda),
            ..PreflightRequest::default()
        };
        let hint = |gpus: &[Device], weights| {
            let facts = model(weights, 1024, 512);
            let check = memory(&machine(gpus), &request, facts, Freed::default());
            assert_eq!(check.code, Some(Code::InsufficientVram), "{check:?}");
            check.hint.unwrap()
        };
        let (small, large) = (cuda_gpu(0, GIB), cuda_gpu(1, 40 * GIB));
        let both = hint(&[small.clone(), large.clone()], 4 * GIB);
        assert!(both.contains("`--backend cpu` with 8.0 GiB free"), "{both}");
        assert!(
            both.contains("`--device GPU-1` with 40.0 GiB free"),
            "{both}"
        );
        let old = Device {
            compute_capability: Some("6.1".to_owned()),
            ..large.clone()
        };
        let too_old = hint(&[small.clone(), old], 4 * GIB);
        assert!(!too_old.contains("GPU-1"), "{too_old}");
        let gpu_only = hint(&[small.clone(), large], 20 * GIB);
        assert!(!gpu_only.contains("cpu"), "{gpu_only}");
        let none = hint(&[small], 20 * GIB);
        assert!(none.contains("at most 448.0 MiB"), "{none}");
    }

    #[test]
    fn memory_of_a_process_that_is_stopped_first_counts() {
        let cpu = PreflightRequest::default();
        let facts = || model(10 * GIB, 1024, 512);
        let freed = Freed {
            ram_bytes: 3 * GIB,
            device: None,
        };
        let check = |freed| memory(&machine(&[]), &cpu, facts(), freed).verdict;
        assert_eq!(check(Freed::default()), Verdict::Fail);
        assert_eq!(check(freed), Verdict::Pass);

        let gpu = PreflightRequest {
            backend: Some(Backend::Cuda),
            ..cpu
        };
        let freed = Freed {
            ram_bytes: 0,
            device: Some(DeviceId::Gpu(0)),
        };
        let full = machine(&[cuda_gpu(0, GIB)]);
        assert_eq!(
            memory(&full, &gpu, facts(), freed).verdict,
            Verdict::Skipped
        );
    }

    #[test]
    fn the_mock_engine_needs_no_memory() {
        let mut full = machine(&[cuda_gpu(0, 0)]);
        full.ram.available_bytes = 0;
        for backend in [Backend::Cpu, Backend::Cuda] {
            let request = PreflightRequest {
                backend: Some(backend),
                ..PreflightRequest::default()
            };
            let mock = ModelFacts::mock("mock:a=1".parse().unwrap());
            let check = memory(&full, &request, mock, Freed::default());
            assert_eq!(check.verdict, Verdict::Pass, "{check:?}");
        }
    }
}
