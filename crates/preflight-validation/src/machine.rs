use diagnostics::{Code, excerpt};
use hive_contract::{
    Capabilities, Cpu, Device, Disk, EngineEntry, EngineSource, PreflightCheck, PreflightLevel, Ram,
};
use input_validation::Backend;

use crate::{
    check::Check,
    engines::{install_hint, worker_binary},
    units::{size, sizes},
};

/// Memory without which no worker starts, in bytes.
const LEAST_RAM: u64 = 128 << 20;
/// Memory below which few models fit, in bytes.
const LITTLE_RAM: u64 = 1 << 30;
/// Space without which state and logs cannot be written, in bytes.
const LEAST_DISK: u64 = 256 << 20;
/// Space below which few models can be fetched, in bytes.
const LITTLE_DISK: u64 = 5 << 30;

/// How to free space on a disk.
pub(crate) const FREE_SPACE: &str = "free space: `rbee-keeper model list` shows the models, \
                                     `rbee-keeper model prune` and `rbee-keeper model remove` \
                                     remove some";

/// Checks whether the machine of a hive can run workers at all.
pub fn check_machine(machine: &Capabilities) -> Vec<PreflightCheck> {
    let mut checks = vec![binaries(machine)];
    checks.extend(engines(&machine.engines));
    checks.extend([
        devices(machine),
        processor(&machine.cpu),
        ram(machine.ram),
        disk(PreflightLevel::Hive, machine.disk),
    ]);
    checks
}

/// The engines that are not rbee's, if there are any.
fn engines(engines: &[EngineEntry]) -> Option<PreflightCheck> {
    let others: Vec<&EngineEntry> = engines
        .iter()
        .filter(|engine| engine.source != EngineSource::BuiltIn)
        .collect();
    let check = Check::new(
        PreflightLevel::Hive,
        "engines",
        "engines whose descriptions are valid",
    );
    let list: Vec<String> = others
        .iter()
        .filter(|engine| engine.problem.is_none())
        .map(|engine| {
            let backends: Vec<String> = engine.backends.iter().map(Backend::to_string).collect();
            format!("{} ({})", excerpt(&engine.name, 64), backends.join(", "))
        })
        .collect();
    let problems = others.iter().filter_map(|engine| engine.problem.as_ref());
    let messages: Vec<&str> = problems.clone().map(|p| p.message.as_str()).collect();
    let measured = [list.join(", "), messages.join("; ")];
    let measured: Vec<&str> = measured
        .iter()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
        .collect();
    let measured = measured.join("; ");
    let mut problems = problems;
    let hint = problems.find_map(|problem| problem.hint.clone());
    match (&others[..], &messages[..]) {
        ([], _) => None,
        (_, []) => Some(check.pass(measured)),
        _ => Some(check.warn(
            measured,
            hint.unwrap_or_else(|| "correct the description of the engine".to_owned()),
        )),
    }
}

fn binaries(machine: &Capabilities) -> PreflightCheck {
    let check = Check::new(
        PreflightLevel::Hive,
        "worker binaries",
        "a worker for each backend",
    );
    let mut backends: Vec<Backend> = machine.devices.iter().map(|d| d.backend).collect();
    backends.sort_unstable();
    backends.dedup();
    let wanted = backends
        .iter()
        .filter_map(|backend| worker_binary(None, *backend));
    let (found, missing): (Vec<&str>, Vec<&str>) = wanted.partition(|wanted| {
        let mut installed = machine.worker_binaries.iter();
        installed.any(|name| name == wanted)
    });
    let missing_list = missing.join(", ");
    match (&found[..], &missing[..]) {
        (_, []) => check.pass(found.join(", ")),
        ([], [first, ..]) => check.fail(
            format!("missing: {missing_list}"),
            Code::WorkerBinaryMissing,
            install_hint(first),
        ),
        (_, [first, ..]) => check.warn(
            format!("{}; missing: {missing_list}", found.join(", ")),
            install_hint(first),
        ),
    }
}

fn devices(machine: &Capabilities) -> PreflightCheck {
    let check = Check::new(PreflightLevel::Hive, "devices", "devices that can be used");
    let list: Vec<String> = machine.devices.iter().map(describe).collect();
    let list = list.join(", ");
    let Some(problem) = machine.problems.first() else {
        return check.pass(list);
    };
    let problems: Vec<&str> = machine
        .problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    let hint = problem.hint.clone();
    check.warn(
        format!("{list}; {}", problems.join("; ")),
        hint.unwrap_or_else(|| format!("use another backend than `{}`", problem.backend)),
    )
}

fn processor(cpu: &Cpu) -> PreflightCheck {
    let check = Check::new(
        PreflightLevel::Hive,
        "processor",
        "vector instructions: AVX2 or NEON",
    );
    let features: Vec<String> = cpu.features.iter().map(|f| excerpt(f, 20)).collect();
    let measured = format!("{} cores, {}", cpu.cores, features.join(" "));
    if cpu.features.iter().any(|f| f == "avx2" || f == "neon") {
        check.pass(measured)
    } else {
        check.warn(
            format!("{} cores, without them", cpu.cores),
            "models compute slowly on this CPU; prefer another node",
        )
    }
}

/// A device with its product: `GPU-0 (NVIDIA H100, cuda, 70.0 GiB free)`.
pub(crate) fn describe(device: &Device) -> String {
    let free = match device.memory_total_bytes {
        0 => "memory unknown".to_owned(),
        _ => format!("{} free", size(device.memory_free_bytes)),
    };
    format!(
        "{} ({}, {}, {free})",
        device.id, device.name, device.backend
    )
}

fn ram(ram: Ram) -> PreflightCheck {
    let check = Check::new(
        PreflightLevel::Hive,
        "memory",
        format!("{} of available memory", size(LEAST_RAM)),
    );
    let check = check
        .detail("need_bytes", LEAST_RAM)
        .detail("available_bytes", ram.available_bytes);
    let hint = "free memory: stop other programs, or workers with `rbee-keeper worker stop`";
    let (available, total) = (size(ram.available_bytes), size(ram.total_bytes));
    let measured = format!("{available} of {total} available");
    match ram.available_bytes {
        0..LEAST_RAM => check.fail(
            sizes(ram.available_bytes, LEAST_RAM).0 + " available",
            Code::InsufficientRam,
            hint,
        ),
        LEAST_RAM..LITTLE_RAM => check.warn(measured, hint),
        _ => check.pass(measured),
    }
}

pub(crate) fn disk(level: PreflightLevel, disk: Disk) -> PreflightCheck {
    let check = Check::new(level, "disk", format!("{} of free space", size(LEAST_DISK)));
    let check = check
        .detail("need_bytes", LEAST_DISK)
        .detail("free_bytes", disk.free_bytes);
    let (free, total) = (size(disk.free_bytes), size(disk.total_bytes));
    let measured = format!("{free} of {total} free");
    match disk.free_bytes {
        0..LEAST_DISK => check.fail(
            sizes(disk.free_bytes, LEAST_DISK).0 + " free",
            Code::InsufficientDisk,
            FREE_SPACE,
        ),
        LEAST_DISK..LITTLE_DISK => check.warn(measured, FREE_SPACE),
        _ => check.pass(measured),
    }
}

#[cfg(test)]
mod tests {
    use hive_contract::{DeviceProblem, Verdict};

    use super::*;
    use crate::testing::{assert_explained, cuda_gpu, machine};

    fn verdicts(machine: &Capabilities) -> Vec<(Verdict, Option<Code>)> {
        let checks = check_machine(machine);
        assert_explained(&checks);
        checks
            .iter()
            .map(|check| (check.verdict, check.code))
            .collect()
    }

    #[test]
    fn each_resource_has_its_check() {
        let pass = (Verdict::Pass, None);
        let warn = (Verdict::Warn, None);
        assert_eq!(verdicts(&machine(&[])), [pass; 5]);

        let mut poor = machine(&[]);
        poor.worker_binaries.clear();
        poor.ram.available_bytes = LEAST_RAM - 1;
        poor.disk.free_bytes = LEAST_DISK - 1;
        let fail = |code| (Verdict::Fail, Some(code));
        assert_eq!(
            verdicts(&poor),
            [
                fail(Code::WorkerBinaryMissing),
                pass,
                pass,
                fail(Code::InsufficientRam),
                fail(Code::InsufficientDisk)
            ]
        );

        let mut modest = machine(&[cuda_gpu(0, 8 << 30)]);
        modest.worker_binaries = vec!["llm-cpu-worker-rbee".to_owned()];
        modest.ram.available_bytes = LEAST_RAM;
        modest.disk.free_bytes = LEAST_DISK;
        modest.problems = vec![DeviceProblem {
            backend: Backend::Cuda,
            message: "GPU-1 does not respond".to_owned(),
            hint: None,
        }];
        modest.cpu.features.clear();
        assert_eq!(verdicts(&modest), [warn; 5]);
        let checks = check_machine(&modest);
        assert!(checks[0].measured.contains("missing: llm-cuda-worker-rbee"));
        assert!(checks[1].measured.contains("GPU-1 does not respond"));
    }
}
