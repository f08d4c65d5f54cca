use std::{
    fs, io,
    path::{Path, PathBuf},
};

use daemon_shell::Memory;
use diagnostics::Diagnostic;
use hive_contract::{Cpu, Device, Disk, Ram};
use input_validation::{Backend, DeviceId};
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use crate::errors::{device_not_found, invalid_mock_devices, machine_not_inspected, unusable};

/// A machine and its devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Host name.
    pub hostname: String,
    /// Compute devices; the CPU is always the first one.
    pub devices: Vec<Device>,
    /// Model, cores and instruction sets of the CPU.
    pub cpu: Cpu,
    /// Total and available main memory.
    pub ram: Ram,
    /// Size and free space of the disk with the models.
    pub disk: Disk,
}

/// Inspects the machine. Calls block.
pub trait Probe: Send + Sync {
    /// The current state of the machine.
    fn machine(&self) -> Result<Machine, Diagnostic>;
}

/// Returns the machine that a JSON file describes. For tests.
#[derive(Debug)]
pub struct MockProbe(Machine);

impl MockProbe {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, Diagnostic> {
        let text = fs::read_to_string(path).map_err(|e| invalid_mock_devices(path, &e))?;
        let machine = serde_json::from_str(&text).map_err(|e| invalid_mock_devices(path, &e))?;
        Ok(Self(machine))
    }
}

impl Probe for MockProbe {
    fn machine(&self) -> Result<Machine, Diagnostic> {
        Ok(self.0.clone())
    }
}

/// Inspects the CPU, memory and disk of this machine.
#[derive(Debug)]
pub struct SystemProbe {
    models: PathBuf,
}

impl SystemProbe {
    /// `models` is a directory on the disk that is reported.
    pub fn new(models: PathBuf) -> Self {
        Self { models }
    }
}

impl Probe for SystemProbe {
    fn machine(&self) -> Result<Machine, Diagnostic> {
        let system =
            System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()))
                .map_err(|e| machine_not_inspected(&e))?;
        let memory = Memory::now()?;
        let ram = Ram {
            total_bytes: memory.total_bytes,
            available_bytes: memory.available_bytes,
        };
        let name = system
            .cpus()
            .first()
            .map(|cpu| cpu.brand().trim().to_owned())
            .filter(|brand| !brand.is_empty())
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Ok(Machine {
            hostname: System::host_name().unwrap_or_else(|_| "localhost".to_owned()),
            devices: vec![Device {
                id: DeviceId::Cpu(0),
                backend: Backend::Cpu,
                name: name.clone(),
                memory_total_bytes: ram.total_bytes,
                memory_free_bytes: ram.available_bytes,
                driver: None,
                compute_capability: None,
            }],
            cpu: Cpu {
                name,
                cores,
                features: cpu_features(),
            },
            ram,
            disk: disk(&self.models).map_err(|e| unusable(&self.models, &e))?,
        })
    }
}

fn disk(path: &Path) -> io::Result<Disk> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Disk {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

macro_rules! detected {
    ($detect:ident, $($feature:tt => $name:literal),*) => {{
        let mut features = Vec::new();
        $(if std::arch::$detect!($feature) { features.push($name.to_owned()); })*
        features
    }};
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<String> {
    detected!(is_x86_feature_detected,
        "sse4.2" => "sse4.2", "avx" => "avx", "avx2" => "avx2", "fma" => "fma", "f16c" => "f16c",
        "avxvnni" => "avxvnni", "avx512f" => "avx512f", "avx512bw" => "avx512bw",
        "avx512vnni" => "avx512vnni", "avx512bf16" => "avx512bf16", "avx512fp16" => "avx512fp16")
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<String> {
    detected!(is_aarch64_feature_detected,
        "neon" => "neon", "fp16" => "fp16", "dotprod" => "dotprod", "i8mm" => "i8mm",
        "bf16" => "bf16", "sve" => "sve", "sve2" => "sve2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<String> {
    Vec::new()
}

/// The backend of a device. A missing device is an error that lists the available ones; it is
/// never replaced by another device.
pub(crate) fn require_device(machine: &Machine, id: DeviceId) -> Result<Backend, Diagnostic> {
    if let Some(device) = machine.devices.iter().find(|device| device.id == id) {
        return Ok(device.backend);
    }
    let is_gpu = |id: DeviceId| matches!(id, DeviceId::Gpu(_));
    let same_kind = |device: &&Device| is_gpu(device.id) == is_gpu(id);
    let devices = || machine.devices.iter();
    let available: Vec<(DeviceId, &str)> = devices().map(|d| (d.id, d.name.as_str())).collect();
    let same_kind_exists = devices().any(|d| same_kind(&d));
    Err(device_not_found(
        id,
        &machine.hostname,
        same_kind_exists,
        &available,
    ))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn this_machine_has_a_cpu_memory_and_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let machine = SystemProbe::new(dir.path().to_owned()).machine().unwrap();
        assert_eq!(machine.devices[0].id, DeviceId::Cpu(0));
        assert_eq!(require_device(&machine, DeviceId::Cpu(0)), Ok(Backend::Cpu));
        assert!(machine.cpu.cores >= 1);
        assert!(machine.ram.total_bytes >= machine.ram.available_bytes);
        assert!(machine.ram.available_bytes > 0);
        assert!(machine.disk.total_bytes >= machine.disk.free_bytes);
        assert!(machine.disk.total_bytes > 0);
        assert!(!machine.hostname.is_empty());
    }

    fn machine(gpus: u16) -> Machine {
        let device = |id, backend, name: &str| Device {
            id,
            backend,
            name: name.to_owned(),
            memory_total_bytes: 8 << 30,
            memory_free_bytes: 4 << 30,
            driver: None,
            compute_capability: None,
        };
        let mut devices = vec![device(DeviceId::Cpu(0), Backend::Cpu, "a processor")];
        devices.extend((0..gpus).map(|n| device(DeviceId::Gpu(n), Backend::Cuda, "a GPU")));
        Machine {
            hostname: "box".to_owned(),
            devices,
            cpu: Cpu {
                name: "a processor".to_owned(),
                cores: 8,
                features: vec!["avx2".to_owned()],
            },
            ram: Ram {
                total_bytes: 8 << 30,
                available_bytes: 4 << 30,
            },
            disk: Disk {
                total_bytes: 1 << 40,
                free_bytes: 1 << 39,
            },
        }
    }

    #[test]
    fn a_missing_device_is_never_replaced() {
        let none = require_device(&machine(0), DeviceId::Gpu(0)).unwrap_err();
        assert_eq!(none.code, Code::BackendUnavailable);
        assert!(none.message.contains("CPU-0"), "{}", none.message);
        let index = require_device(&machine(2), DeviceId::Gpu(2)).unwrap_err();
        assert_eq!(index.code, Code::InvalidDevice);
        assert!(index.message.contains("GPU-1"), "{}", index.message);
        let cpu = require_device(&machine(2), DeviceId::Cpu(1)).unwrap_err();
        assert_eq!(cpu.code, Code::InvalidDevice);
        assert_eq!(
            require_device(&machine(2), DeviceId::Gpu(1)),
            Ok(Backend::Cuda)
        );
    }

    #[test]
    fn a_mock_machine_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.json");
        fs::write(&path, serde_json::to_string(&machine(1)).unwrap()).unwrap();
        assert_eq!(MockProbe::load(&path).unwrap().machine(), Ok(machine(1)));
        fs::write(&path, r#"{"gpus": 3}"#).unwrap();
        let error = MockProbe::load(&path).unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid);
        assert!(error.message.contains("gpus"), "{}", error.message);
    }
}
