use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use daemon_shell::Memory;
use diagnostics::{Diagnostic, excerpt};
use hive_contract::{Device, DeviceProblem, Disk, Ram};
use input_validation::{Backend, DeviceId};
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use crate::{
    Machine, Probe,
    cpu::cpu,
    errors::{machine_not_inspected, unusable},
    nvidia::{Nvidia, NvidiaDriver, Nvml},
    power, processes, sysfs, vulkan,
};

/// Longest name of a device, in characters.
const MAX_NAME: usize = 80;

/// Where [`SystemProbe`] looks for devices.
pub struct Sources {
    /// The driver of NVIDIA.
    pub nvidia: Box<dyn NvidiaDriver>,
    /// Usually `/sys`.
    pub sysfs: PathBuf,
    /// Usually `/proc`.
    pub procfs: PathBuf,
    /// The program `vulkaninfo`.
    pub vulkaninfo: OsString,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            nvidia: Box::new(Nvml::default()),
            sysfs: "/sys".into(),
            procfs: "/proc".into(),
            vulkaninfo: "vulkaninfo".into(),
        }
    }
}

/// Inspects this machine.
pub struct SystemProbe {
    models: PathBuf,
    sources: Sources,
    /// GPUs that only Vulkan knows. It takes seconds to find them, and they do not change.
    other_gpus: OnceLock<Vec<String>>,
}

impl fmt::Debug for SystemProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemProbe")
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}

impl SystemProbe {
    /// `models` is a directory on the disk that is reported.
    pub fn new(models: PathBuf) -> Self {
        Self::with_sources(models, Sources::default())
    }

    /// Looks for devices in other places, for tests.
    pub fn with_sources(models: PathBuf, sources: Sources) -> Self {
        Self {
            models,
            sources,
            other_gpus: OnceLock::new(),
        }
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
        let cpu = cpu(&system, &self.sources.procfs);
        let mut found = Found::default();
        found.devices.push(Device {
            memory_total_bytes: ram.total_bytes,
            memory_free_bytes: ram.available_bytes,
            ..device(DeviceId::Cpu(0), Backend::Cpu, &cpu.name)
        });
        found.add_nvidia(self.sources.nvidia.state(), &self.sources);
        for gpu in sysfs::amd_gpus(&self.sources.sysfs) {
            found.add_gpu(|id| Device {
                memory_total_bytes: gpu.memory_total_bytes,
                memory_free_bytes: gpu.memory_free_bytes,
                ..device(id, Backend::Vulkan, &gpu.name)
            });
        }
        let find_others = || vulkan::other_gpus(&self.sources.vulkaninfo);
        for name in self.other_gpus.get_or_init(find_others) {
            found.add_gpu(|id| device(id, Backend::Vulkan, name));
        }
        Ok(Machine {
            hostname: System::host_name().unwrap_or_else(|_| "localhost".to_owned()),
            devices: found.devices,
            cpu,
            ram,
            disk: disk(&self.models).map_err(|e| unusable(&self.models, &e))?,
            problems: found.problems,
            power: power::power(&self.sources.sysfs, &self.sources.procfs),
        })
    }
}

fn device(id: DeviceId, backend: Backend, name: &str) -> Device {
    Device {
        id,
        backend,
        name: excerpt(name, MAX_NAME),
        memory_total_bytes: 0,
        memory_free_bytes: 0,
        driver: None,
        compute_capability: None,
        processes: Vec::new(),
    }
}

#[derive(Default)]
struct Found {
    devices: Vec<Device>,
    problems: Vec<DeviceProblem>,
    /// Number of GPUs, usable or not. A GPU keeps its index when another one fails.
    gpus: u16,
}

impl Found {
    fn add_gpu(&mut self, device: impl FnOnce(DeviceId) -> Device) {
        self.devices.push(device(DeviceId::Gpu(self.gpus)));
        self.gpus += 1;
    }

    fn add_nvidia(&mut self, nvidia: Nvidia, Sources { sysfs, procfs, .. }: &Sources) {
        match nvidia {
            Nvidia::NotInstalled => {
                let addresses = sysfs::nvidia_addresses(sysfs);
                if !addresses.is_empty() {
                    let message = format!(
                        "an NVIDIA GPU is installed (PCI {}), but its driver is not",
                        addresses.join(", ")
                    );
                    self.cuda_problem(&message, "install the NVIDIA driver");
                }
            }
            Nvidia::Failed(reason) => {
                let message = format!("the NVIDIA driver does not work: {reason}");
                self.cuda_problem(&message, "check the driver with `nvidia-smi`");
            }
            Nvidia::Gpus { driver, gpus } => {
                for gpu in gpus {
                    match gpu {
                        Ok(gpu) => self.add_gpu(|id| Device {
                            memory_total_bytes: gpu.memory_total_bytes,
                            memory_free_bytes: gpu.memory_free_bytes,
                            driver: Some(excerpt(&driver, MAX_NAME)),
                            compute_capability: Some(gpu.compute_capability),
                            processes: processes::named(gpu.processes, procfs),
                            ..device(id, Backend::Cuda, &gpu.name)
                        }),
                        Err(reason) => {
                            let id = DeviceId::Gpu(self.gpus);
                            let message = format!("{id} cannot be used: {reason}");
                            self.cuda_problem(&message, "check it with `nvidia-smi`");
                            self.gpus += 1;
                        }
                    }
                }
            }
        }
    }

    fn cuda_problem(&mut self, message: &str, hint: &str) {
        self.problems.push(DeviceProblem {
            backend: Backend::Cuda,
            message: excerpt(message, 500),
            hint: Some(hint.to_owned()),
        });
    }
}

fn disk(path: &Path) -> io::Result<Disk> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Disk {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::NvidiaGpu;

    struct Fixed(Nvidia);

    impl NvidiaDriver for Fixed {
        fn state(&self) -> Nvidia {
            self.0.clone()
        }
    }

    fn probe(dir: &Path, nvidia: Nvidia) -> Machine {
        let sources = Sources {
            nvidia: Box::new(Fixed(nvidia)),
            sysfs: dir.join("sys"),
            procfs: "/proc".into(),
            vulkaninfo: dir.join("vulkaninfo").into(),
        };
        let probe = SystemProbe::with_sources(dir.to_owned(), sources);
        probe.machine().unwrap()
    }

    #[test]
    fn this_machine_has_a_cpu_memory_and_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let probe = SystemProbe::new(dir.path().to_owned());
        let machine = probe.machine().unwrap();
        assert_eq!(machine.devices[0].id, DeviceId::Cpu(0));
        assert_eq!(machine.devices[0].backend, Backend::Cpu);
        assert!(machine.cpu.cores >= 1);
        assert!(machine.ram.total_bytes >= machine.ram.available_bytes);
        assert!(machine.ram.available_bytes > 0);
        assert!(machine.disk.total_bytes >= machine.disk.free_bytes);
        assert!(machine.disk.total_bytes > 0);
        assert!(!machine.hostname.is_empty());
    }

    #[test]
    fn gpus_of_all_vendors_have_one_numbering() {
        let dir = tempfile::tempdir().unwrap();
        let card = dir.path().join("sys/class/drm/card0/device");
        fs::create_dir_all(&card).unwrap();
        fs::write(card.join("vendor"), "0x1002\n").unwrap();
        fs::write(card.join("mem_info_vram_total"), "1000\n").unwrap();
        let gpu = NvidiaGpu {
            name: "NVIDIA \u{1b}[31mH100".to_owned(),
            memory_total_bytes: 80,
            memory_free_bytes: 70,
            compute_capability: "9.0".to_owned(),
            processes: Vec::new(),
        };
        let lost = Err("the device fell off the bus".to_owned());
        let state = Nvidia::Gpus {
            driver: "580.1".to_owned(),
            gpus: vec![lost, Ok(gpu)],
        };
        let machine = probe(dir.path(), state);
        let found: Vec<(String, Backend)> = machine
            .devices
            .iter()
            .map(|device| (device.id.to_string(), device.backend))
            .collect();
        let expected = [
            ("CPU-0", Backend::Cpu),
            ("GPU-1", Backend::Cuda),
            ("GPU-2", Backend::Vulkan),
        ];
        assert_eq!(found, expected.map(|(id, b)| (id.to_owned(), b)));
        assert_eq!(machine.devices[1].driver.as_deref(), Some("580.1"));
        assert!(!machine.devices[1].name.contains('\u{1b}'));
        let [problem] = &machine.problems[..] else {
            panic!("{:?}", machine.problems);
        };
        assert_eq!(
            problem.message,
            "GPU-0 cannot be used: the device fell off the bus"
        );
    }

    #[test]
    fn a_driver_problem_is_reported_only_if_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let none = probe(dir.path(), Nvidia::NotInstalled);
        assert_eq!((none.devices.len(), none.problems.len()), (1, 0));

        let failed = probe(dir.path(), Nvidia::Failed("it is not loaded".to_owned()));
        assert_eq!(
            failed.problems[0].message,
            "the NVIDIA driver does not work: it is not loaded"
        );

        let gpu = dir.path().join("sys/bus/pci/devices/0000:01:00.0");
        fs::create_dir_all(&gpu).unwrap();
        fs::write(gpu.join("vendor"), "0x10de\n").unwrap();
        fs::write(gpu.join("class"), "0x030000\n").unwrap();
        let missing = probe(dir.path(), Nvidia::NotInstalled);
        assert!(missing.problems[0].message.contains("0000:01:00.0"));
        assert_eq!(missing.devices.len(), 1);
    }
}
