//! What the CUDA worker needs of a GPU. It is built with CUDA 13, whose release notes name the
//! minimum driver and the oldest architecture.

use diagnostics::Code;
use hive_contract::{Device, PreflightCheck, PreflightLevel, Verdict};
use input_validation::Backend;

use crate::{check::Check, engines::worker_binary};

/// Lowest major version of the driver.
const DRIVER: u32 = 580;
/// Lowest compute capability: Turing.
const CAPABILITY: (u32, u32) = (7, 5);

/// Checks driver and compute capability of an NVIDIA GPU; other devices have neither.
pub(crate) fn check_driver(device: &Device) -> Vec<PreflightCheck> {
    if device.backend != Backend::Cuda {
        return Vec::new();
    }
    let check = |name, requirement| Check::new(PreflightLevel::Worker, name, requirement);
    let driver = check("driver", format!("NVIDIA driver {DRIVER} or later"));
    let (major, minor) = CAPABILITY;
    let capability = check(
        "compute capability",
        format!("compute capability {major}.{minor} or higher"),
    );
    vec![
        at_least(
            driver,
            device.driver.as_deref(),
            |text| Some(number(text.split('.').next()?)? >= DRIVER),
            "install a newer NVIDIA driver",
        ),
        at_least(
            capability,
            device.compute_capability.as_deref(),
            |text| {
                let (major, minor) = text.split_once('.')?;
                Some((number(major)?, number(minor)?) >= CAPABILITY)
            },
            "this GPU is too old for the CUDA worker; use a newer one",
        ),
    ]
}

/// Whether workers of rbee compute on the device, as far as its kind and its driver say.
pub fn is_usable(device: &Device) -> bool {
    let is_refused = |check: PreflightCheck| check.verdict == Verdict::Fail;
    worker_binary(None, device.backend).is_some()
        && !check_driver(device).into_iter().any(is_refused)
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn at_least(
    check: Check,
    measured: Option<&str>,
    is_met: impl Fn(&str) -> Option<bool>,
    hint: &str,
) -> PreflightCheck {
    let Some(measured) = measured else {
        return check.warn("unknown", "check it with `nvidia-smi`");
    };
    let shown = diagnostics::excerpt(measured, 40);
    match is_met(measured) {
        Some(true) => check.pass(shown),
        Some(false) => check.fail(
            shown,
            Code::CudaUnavailable,
            format!("{hint}, or say `--backend cpu`"),
        ),
        None => check.warn(
            format!("\"{shown}\", which is not a version"),
            "check it with `nvidia-smi`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use hive_contract::Verdict::{self, Fail, Pass, Warn};

    use super::*;
    use crate::testing::{assert_explained, cuda_gpu, machine};

    #[test]
    fn old_drivers_and_gpus_are_refused() {
        for (driver, capability, verdicts) in [
            (Some("580.65.06"), Some("7.5"), [Pass, Pass]),
            (Some("1000"), Some("10.0"), [Pass, Pass]),
            (Some("579.99"), Some("9.0"), [Fail, Pass]),
            (Some("580"), Some("7.0"), [Pass, Fail]),
            (None, None, [Warn, Warn]),
            (Some("x"), Some("9"), [Warn, Warn]),
        ] {
            let gpu = Device {
                driver: driver.map(str::to_owned),
                compute_capability: capability.map(str::to_owned),
                ..cuda_gpu(0, 8 << 30)
            };
            let checks = check_driver(&gpu);
            assert_explained(&checks);
            let found: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
            assert_eq!(found, verdicts, "{driver:?} {capability:?}");
            let failed = checks.iter().filter(|check| check.verdict == Fail);
            for check in failed {
                assert_eq!(check.code, Some(Code::CudaUnavailable));
                assert!(check.hint.as_ref().unwrap().contains("`--backend cpu`"));
            }
        }
        assert_eq!(check_driver(&machine(&[]).devices[0]), []);
    }
}
