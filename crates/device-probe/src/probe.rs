use diagnostics::Diagnostic;
use hive_contract::{Capabilities, Cpu, Device, DeviceProblem, Disk, EngineEntry, Power, Ram};
use serde::{Deserialize, Serialize};

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
    /// Hardware and drivers that cannot be used.
    #[serde(default)]
    pub problems: Vec<DeviceProblem>,
    /// Whether it can be suspended, and how it can be woken.
    #[serde(default)]
    pub power: Power,
}

impl Machine {
    /// Adds the worker binaries that are installed on the machine, and its engines.
    pub fn with_programs(
        self,
        worker_binaries: Vec<String>,
        engines: Vec<EngineEntry>,
    ) -> Capabilities {
        Capabilities {
            hostname: self.hostname,
            devices: self.devices,
            cpu: self.cpu,
            ram: self.ram,
            disk: self.disk,
            problems: self.problems,
            worker_binaries,
            engines,
            power: self.power,
        }
    }
}

/// Inspects the machine. Calls block.
pub trait Probe: Send + Sync {
    /// The current state of the machine.
    fn machine(&self) -> Result<Machine, Diagnostic>;
}
