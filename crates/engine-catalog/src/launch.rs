use input_validation::{Backend, DeviceId};

use crate::engine::{Engine, Run};

/// How a worker starts an engine: what is added to the start of the adapter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// Arguments after those of the worker contract.
    pub arguments: Vec<String>,
    /// Variables of the environment.
    pub environment: Vec<(String, String)>,
}

impl Engine {
    /// Says how the adapter starts it on a device. `None` for the engine of rbee, which is a
    /// worker itself.
    pub fn launch(&self, device: DeviceId, backend: Backend) -> Option<Launch> {
        let (kind, model) = match &self.run {
            Run::BuiltIn => return None,
            Run::Command { kind, model, .. } | Run::Attach { kind, model, .. } => (kind, model),
        };
        let mut arguments = vec!["--engine".to_owned(), kind.name().to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some(model) = model {
            option("--engine-model", model.clone());
        }
        let mut environment = Vec::new();
        match &self.run {
            Run::BuiltIn => {}
            Run::Attach {
                url, api_key_file, ..
            } => {
                option("--attach", url.clone());
                if let Some(file) = api_key_file {
                    option("--engine-key-file", file.to_string_lossy().into_owned());
                }
            }
            Run::Command {
                command,
                environment: own,
                ..
            } => {
                arguments.push("--".to_owned());
                arguments.extend(command.iter().cloned());
                environment = visible_devices(device, backend);
                environment.retain(|(name, _)| !own.contains_key(name));
                let own = own.iter();
                environment.extend(own.map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        Some(Launch {
            arguments,
            environment,
        })
    }
}

/// Lets an engine see its GPU only, and none if it computes on the CPU: otherwise it would take
/// memory that was not checked, or compute elsewhere than was requested.
fn visible_devices(device: DeviceId, backend: Backend) -> Vec<(String, String)> {
    let variable = |name: &str, value: String| (name.to_owned(), value);
    match (backend, device) {
        (Backend::Cuda, DeviceId::Gpu(index)) => vec![
            // The order of NVML, by which the hive numbers them.
            variable("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
            variable("CUDA_VISIBLE_DEVICES", index.to_string()),
        ],
        (Backend::Cpu, _) => vec![variable("CUDA_VISIBLE_DEVICES", String::new())],
        _ => Vec::new(),
    }
}
