use std::collections::BTreeMap;

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
            Run::BuiltIn | Run::Part { .. } => return None,
            Run::Command { kind, model, .. } | Run::Attach { kind, model, .. } => (kind, model),
        };
        let mut arguments = vec!["--engine".to_owned(), kind.name().to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some(model) = model {
            option("--engine-model", model.clone());
        }
        let mut environment = Vec::new();
        match &self.run {
            Run::BuiltIn | Run::Part { .. } => {}
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
                environment = variables(device, backend, own);
            }
        }
        Some(Launch {
            arguments,
            environment,
        })
    }
}

/// How the program is started that computes parts of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartLaunch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables of the environment.
    pub environment: Vec<(String, String)>,
}

impl Engine {
    /// Says how it is started to compute a part of a model on a device, and to listen on a port.
    /// `None` for an engine that does not compute parts.
    pub fn launch_part(
        &self,
        device: DeviceId,
        backend: Backend,
        port: u16,
        threads: usize,
    ) -> Option<PartLaunch> {
        let Run::Part {
            command,
            environment,
        } = &self.run
        else {
            return None;
        };
        let replaced = command.iter().map(|word| {
            let word = word.replace("{port}", &port.to_string());
            word.replace("{threads}", &threads.to_string())
        });
        Some(PartLaunch {
            command: replaced.collect(),
            environment: variables(device, backend, environment),
        })
    }
}

/// The variables of an engine: those of its description replace those of the device.
fn variables(
    device: DeviceId,
    backend: Backend,
    own: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut variables = visible_devices(device, backend);
    variables.retain(|(name, _)| !own.contains_key(name));
    let own = own.iter();
    variables.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    variables
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
