//! The models whose workers had to leave a device.

use std::{collections::BTreeMap, time::Duration};

use input_validation::{DeviceId, ModelRef, NodeName};

/// Models, with the time when their workers left.
type Models = BTreeMap<ModelRef, Duration>;

/// Models that were on devices which are left to other programs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Displaced {
    /// By the device, which is not used now.
    away: BTreeMap<(NodeName, DeviceId), Models>,
    /// Those whose device is used again, until their workers on CPUs are idle.
    pub(crate) returning: Models,
}

impl Displaced {
    /// Records that a worker of the model had to leave the device.
    pub(crate) fn leaves(&mut self, device: (NodeName, DeviceId), model: ModelRef, now: Duration) {
        self.away.entry(device).or_default().insert(model, now);
    }

    /// The models of devices that are used again begin to return.
    pub(crate) fn begin_return(&mut self, is_used: impl Fn(&(NodeName, DeviceId)) -> bool) {
        let back = self.away.extract_if(.., |device, _| is_used(device));
        self.returning.extend(back.flat_map(|(_, models)| models));
    }
}
