use std::{
    fs,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;

use crate::{Machine, Probe, errors::invalid_mock_devices};

/// Returns the machine that a JSON file describes, as it is then. For tests.
#[derive(Debug)]
pub struct MockProbe(PathBuf);

impl MockProbe {
    /// Fails if the file describes no machine.
    pub fn load(path: &Path) -> Result<Self, Diagnostic> {
        read(path).map(|_| Self(path.to_owned()))
    }
}

fn read(path: &Path) -> Result<Machine, Diagnostic> {
    let text = fs::read_to_string(path).map_err(|e| invalid_mock_devices(path, &e))?;
    serde_json::from_str(&text).map_err(|e| invalid_mock_devices(path, &e))
}

impl Probe for MockProbe {
    fn machine(&self) -> Result<Machine, Diagnostic> {
        read(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use hive_contract::{Cpu, Device, DeviceProblem, DeviceProcess, Disk, NetworkCard, Power, Ram};
    use input_validation::{Backend, DeviceId};

    use super::*;

    #[test]
    fn a_mock_machine_is_read_from_its_file() {
        let device = |id, backend| Device {
            id,
            backend,
            name: "a device".to_owned(),
            memory_total_bytes: 8,
            memory_free_bytes: 4,
            driver: Some("580.1".to_owned()),
            compute_capability: Some("9.0".to_owned()),
            processes: vec![DeviceProcess {
                pid: 7,
                name: "game".to_owned(),
                memory_bytes: 3,
            }],
        };
        let machine = Machine {
            hostname: "box".to_owned(),
            devices: vec![
                device(DeviceId::Cpu(0), Backend::Cpu),
                device(DeviceId::Gpu(0), Backend::Cuda),
                device(DeviceId::Gpu(1), Backend::Vulkan),
            ],
            cpu: Cpu {
                name: "a processor".to_owned(),
                cores: 8,
                features: vec!["avx2".to_owned()],
            },
            ram: Ram {
                total_bytes: 8,
                available_bytes: 4,
            },
            disk: Disk {
                total_bytes: 8,
                free_bytes: 4,
            },
            problems: vec![DeviceProblem {
                backend: Backend::Cuda,
                message: "GPU-2 is lost".to_owned(),
                hint: None,
            }],
            power: Power {
                can_suspend: Some(true),
                cards: vec![NetworkCard {
                    name: "enp3s0".to_owned(),
                    mac: "52:54:00:12:34:56".parse().unwrap(),
                    wakes: None,
                }],
            },
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.json");
        fs::write(&path, serde_json::to_string(&machine).unwrap()).unwrap();
        assert_eq!(MockProbe::load(&path).unwrap().machine(), Ok(machine));
        fs::write(&path, r#"{"gpus": 3}"#).unwrap();
        let error = MockProbe::load(&path).unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid);
        assert!(error.message.contains("gpus"), "{}", error.message);
    }
}
