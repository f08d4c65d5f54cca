//! On which device of its node a worker is spawned.

use hive_contract::{Device, PreflightRequest, WorkerProcess, WorkerState};
use hive_lifecycle::RunningHive;
use input_validation::{Backend, DeviceId, ModelRef};
use preflight_validation::select_device;
use scheduler::device_is_yielded;

use crate::{
    errors,
    spawning::{SpawnError, Spawning},
};

impl Spawning<'_> {
    /// The device of a worker that runs already, else the one with the most free memory. Never one
    /// that is left to other programs.
    pub(crate) async fn device(
        &self,
        hive: &RunningHive,
        spawned: &[WorkerProcess],
    ) -> Result<DeviceId, SpawnError> {
        let left = self.node.yielded();
        let refused = |reason: &String| device_is_yielded(&self.target.node, reason);
        if let Some(device) = self.target.device {
            return match left.get(&device) {
                None => Ok(device),
                Some(reason) => Err(refused(reason).into()),
            };
        }
        if self.target.backend == Backend::Cpu {
            return Ok(DeviceId::Cpu(0));
        }
        let running = running_on_gpu(&self.target.model, spawned);
        if let Some(device) = running.filter(|device| !left.contains_key(device)) {
            return Ok(device);
        }
        let mut machine = hive.client.capabilities().await?;
        let backend = self.target.backend;
        let is_left = |device: &Device| left.contains_key(&device.id);
        let mut of_backend = machine.devices.iter().filter(|d| d.backend == backend);
        if of_backend.clone().all(is_left)
            && let Some(reason) = of_backend.find_map(|device| left.get(&device.id))
        {
            return Err(refused(reason).into());
        }
        machine.devices.retain(|device| !is_left(device));
        let wanted = PreflightRequest {
            backend: Some(self.target.backend),
            ..PreflightRequest::default()
        };
        match select_device(&machine, &wanted) {
            Ok(device) => Ok(device.id),
            Err(error) => Err(errors::device_refused(error, &self.target.node).into()),
        }
    }
}

/// The GPU on which a worker of the model runs. It may not have sent a heartbeat to this queen yet.
fn running_on_gpu(model: &ModelRef, spawned: &[WorkerProcess]) -> Option<DeviceId> {
    let running = spawned
        .iter()
        .filter(|worker| worker.state == WorkerState::Running && worker.model == *model);
    let mut devices = running.map(|worker| worker.device);
    devices.find(|device| matches!(device, DeviceId::Gpu(_)))
}
