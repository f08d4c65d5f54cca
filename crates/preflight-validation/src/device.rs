use std::cmp::Reverse;

use diagnostics::{Code, Diagnostic};
use hive_contract::{Capabilities, Device, PreflightCheck, PreflightLevel, PreflightRequest};
use input_validation::{Backend, DeviceId};

use crate::{check::Check, driver::is_usable, engines::worker_binary, units::size};

/// Returns the device that a worker runs on: the requested one, the one of the requested backend
/// that can be used and has the most free memory, or the CPU if neither was requested. A device that does not exist or cannot be used is
/// an error; it is never replaced by another one.
pub fn select_device<'a>(
    machine: &'a Capabilities,
    request: &PreflightRequest,
) -> Result<&'a Device, Diagnostic> {
    let check = Check::new(PreflightLevel::Worker, "device", wanted(request));
    selected(machine, request, check)
        .map(|(device, _)| device)
        .map_err(|failed| failed.error())
}

/// Returns the check of the device, and the device if it can be used.
pub(crate) fn check_device<'a>(
    machine: &'a Capabilities,
    request: &PreflightRequest,
) -> (PreflightCheck, Option<&'a Device>) {
    let check = Check::new(PreflightLevel::Worker, "device", wanted(request));
    match selected(machine, request, check) {
        Ok((device, check)) => (check.pass(found(device)), Some(device)),
        Err(failed) => (failed, None),
    }
}

fn found(device: &Device) -> String {
    let memory = match device.memory_total_bytes {
        0 => String::new(),
        total => format!(", {}", size(total)),
    };
    format!("{}: {}{memory}", device.id, device.name)
}

/// Returns what is requested, as a noun phrase.
fn wanted(request: &PreflightRequest) -> String {
    match (request.device, request.backend) {
        (Some(device), Some(backend)) => format!("{device} with backend {backend}"),
        (Some(device), None) => device.to_string(),
        (None, Some(backend)) => format!("a device with backend {backend}"),
        (None, None) => "the CPU".to_owned(),
    }
}

fn selected<'a>(
    machine: &'a Capabilities,
    request: &PreflightRequest,
    check: Check,
) -> Result<(&'a Device, Check), PreflightCheck> {
    let backend = request.backend.unwrap_or(Backend::Cpu);
    let mut devices = machine.devices.iter();
    let found = match request.device {
        Some(id) => devices.find(|device| device.id == id),
        // The first one of those with the same free memory, which may be unknown.
        None => devices
            .filter(|device| device.backend == backend)
            .min_by_key(|device| (!is_usable(device), Reverse(device.memory_free_bytes))),
    };
    let Some(device) = found else {
        return Err(match request.device {
            Some(id) => no_device(machine, id, check),
            None => no_backend(machine, backend, check),
        });
    };
    if let Some(requested) = request.backend
        && device.backend != requested
    {
        return Err(check.fail(
            format!("{} has backend {}", device.id, device.backend),
            Code::InvalidDevice,
            format!(
                "leave out the backend, or use `--backend {}`",
                device.backend
            ),
        ));
    }
    let mut engines = machine.engines.iter();
    let has_engine = engines.any(|e| e.problem.is_none() && e.backends.contains(&device.backend));
    if worker_binary(None, device.backend).is_none() && !has_engine {
        return Err(check.fail(
            format!(
                "no engine computes on {} ({}); available: {}",
                device.id,
                device.name,
                available(machine)
            ),
            Code::BackendUnavailable,
            usable_hint(machine),
        ));
    }
    Ok((device, check))
}

fn no_device(machine: &Capabilities, id: DeviceId, check: Check) -> PreflightCheck {
    let is_gpu = |id: DeviceId| matches!(id, DeviceId::Gpu(_));
    let mut ids = machine.devices.iter().map(|device| device.id);
    if ids.any(|existing| is_gpu(existing) == is_gpu(id)) {
        let message = format!(
            "no such device on {}: {id}; available: {}",
            machine.hostname,
            available(machine)
        );
        return check.fail(message, Code::InvalidDevice, usable_hint(machine));
    }
    let what = format!("no device of this kind on {}: {id}", machine.hostname);
    unavailable(machine, None, &what, check)
}

fn no_backend(machine: &Capabilities, backend: Backend, check: Check) -> PreflightCheck {
    let what = format!("no device with backend {backend} on {}", machine.hostname);
    unavailable(machine, Some(backend), &what, check)
}

/// The hardware is missing, or it is there and its driver does not work.
fn unavailable(
    machine: &Capabilities,
    backend: Option<Backend>,
    what: &str,
    check: Check,
) -> PreflightCheck {
    let mut problems = machine.problems.iter();
    let problem = problems.find(|problem| backend.is_none_or(|b| b == problem.backend));
    let available = available(machine);
    let usable = usable_hint(machine);
    let Some(problem) = problem else {
        let message = format!("{what}; available: {available}");
        return check.fail(message, Code::BackendUnavailable, usable);
    };
    let code = match problem.backend {
        Backend::Cuda => Code::CudaUnavailable,
        _ => Code::BackendUnavailable,
    };
    let hint = match &problem.hint {
        Some(hint) => format!("{hint}; or {usable}"),
        None => usable,
    };
    let message = format!("{what}: {}; available: {available}", problem.message);
    check.fail(message, code, hint)
}

/// Lists the devices of a machine with their products.
fn available(machine: &Capabilities) -> String {
    let list: Vec<String> = machine
        .devices
        .iter()
        .map(|device| format!("{} ({}, {})", device.id, device.name, device.backend))
        .collect();
    list.join(", ")
}

/// Names the flag for each device that can be used.
fn usable_hint(machine: &Capabilities) -> String {
    let usable = machine.devices.iter().filter_map(|device| {
        worker_binary(None, device.backend)?;
        Some(match device.id {
            DeviceId::Cpu(_) => "`--backend cpu`".to_owned(),
            DeviceId::Gpu(_) => format!("`--device {}`", device.id),
        })
    });
    let usable: Vec<String> = usable.collect();
    match &usable[..] {
        [] => "use another node".to_owned(),
        _ => format!("use {}", usable.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use hive_contract::{DeviceProblem, Verdict};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{cuda_gpu, machine, vulkan_gpu};

    fn request(device: Option<&str>, backend: Option<Backend>) -> PreflightRequest {
        PreflightRequest {
            device: device.map(|id| id.parse().unwrap()),
            backend,
            ..PreflightRequest::default()
        }
    }

    fn problem(backend: Backend) -> DeviceProblem {
        DeviceProblem {
            backend,
            message: "the driver is not loaded".to_owned(),
            hint: Some("load it with `modprobe nvidia`".to_owned()),
        }
    }

    #[test]
    fn a_device_is_found_or_explained() {
        let none = machine(&[]);
        let two = machine(&[cuda_gpu(0, 8 << 30), cuda_gpu(1, 8 << 30)]);
        let uneven = machine(&[
            cuda_gpu(0, 2 << 30),
            cuda_gpu(1, 8 << 30),
            cuda_gpu(2, 3 << 30),
        ]);
        let old = Device {
            compute_capability: Some("6.1".to_owned()),
            ..cuda_gpu(0, 24 << 30)
        };
        let old = machine(&[old, cuda_gpu(1, 8 << 30)]);
        let amd = machine(&[vulkan_gpu(0)]);
        let mut broken = machine(&[]);
        broken.problems = vec![problem(Backend::Cuda)];
        let cuda = Some(Backend::Cuda);
        for (machine, device, backend, expected) in [
            (&none, None, None, Ok("CPU-0")),
            (&two, None, None, Ok("CPU-0")),
            (&two, None, cuda, Ok("GPU-0")),
            (&uneven, None, cuda, Ok("GPU-1")),
            (&uneven, Some("GPU-0"), cuda, Ok("GPU-0")),
            (&old, None, cuda, Ok("GPU-1")),
            (&two, Some("GPU-1"), None, Ok("GPU-1")),
            (&two, Some("GPU-1"), cuda, Ok("GPU-1")),
            (&two, Some("GPU-2"), None, Err(Code::InvalidDevice)),
            (&two, Some("CPU-1"), None, Err(Code::InvalidDevice)),
            (&two, Some("CPU-0"), cuda, Err(Code::InvalidDevice)),
            (
                &two,
                None,
                Some(Backend::Metal),
                Err(Code::BackendUnavailable),
            ),
            (&none, Some("GPU-0"), None, Err(Code::BackendUnavailable)),
            (&none, None, cuda, Err(Code::BackendUnavailable)),
            (&broken, None, cuda, Err(Code::CudaUnavailable)),
            (&broken, Some("GPU-0"), None, Err(Code::CudaUnavailable)),
            (
                &broken,
                None,
                Some(Backend::Metal),
                Err(Code::BackendUnavailable),
            ),
            (&amd, Some("GPU-0"), None, Err(Code::BackendUnavailable)),
            (
                &amd,
                None,
                Some(Backend::Vulkan),
                Err(Code::BackendUnavailable),
            ),
            (&amd, None, cuda, Err(Code::BackendUnavailable)),
        ] {
            let request = request(device, backend);
            let (check, found) = check_device(machine, &request);
            let found = found.map(|device| device.id.to_string());
            assert_eq!(found.as_deref(), expected.ok(), "{request:?}");
            assert_eq!(check.code, expected.err(), "{request:?}");
            if check.verdict == Verdict::Fail {
                assert!(check.measured.contains("CPU-0"), "{check:?}");
                assert!(check.hint.unwrap().contains('`'), "{request:?}");
            }
            let selected = select_device(machine, &request).map(|device| device.id.to_string());
            assert_eq!(selected.ok(), found);
        }
        let (check, _) = check_device(&broken, &request(None, cuda));
        assert!(check.measured.contains("the driver is not loaded"));
        let hint = check.hint.unwrap();
        assert!(hint.contains("`modprobe nvidia`") && hint.contains("`--backend cpu`"));
        let (check, _) = check_device(&amd, &request(Some("GPU-0"), None));
        assert!(
            check.measured.contains("no engine computes on GPU-0"),
            "{check:?}"
        );
    }

    proptest! {
        #[test]
        fn a_gpu_is_never_replaced_by_the_cpu(
            kinds in prop::collection::vec(any::<bool>(), 0..4),
            index in prop::option::of(0_u16..5),
            backend in prop::option::of(prop::sample::select(
                vec![Backend::Cuda, Backend::Metal, Backend::Vulkan],
            )),
            broken in any::<bool>(),
        ) {
            prop_assume!(index.is_some() || backend.is_some());
            let gpus: Vec<Device> = (0..).zip(kinds).map(|(n, is_cuda)| {
                if is_cuda { cuda_gpu(n, 8 << 30) } else { vulkan_gpu(n) }
            }).collect();
            let mut machine = machine(&gpus);
            if broken {
                machine.problems = vec![problem(Backend::Cuda)];
            }
            let request = PreflightRequest {
                device: index.map(DeviceId::Gpu),
                backend,
                ..PreflightRequest::default()
            };
            match select_device(&machine, &request) {
                Ok(device) => {
                    prop_assert_ne!(device.backend, Backend::Cpu);
                    prop_assert!(request.device.is_none_or(|id| id == device.id));
                    prop_assert!(request.backend.is_none_or(|b| b == device.backend));
                }
                Err(error) => prop_assert!(error.code != Code::Internal && error.hint.is_some()),
            }
        }
    }
}
