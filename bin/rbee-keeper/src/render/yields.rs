//! GPUs that are left to other programs.

use diagnostics::escape;
use hive_contract::Device;
use input_validation::DeviceId;
use queen_contract::{GpuYield, NodeEntry, YieldNow};

/// When its GPUs are left to other programs, if that is not the default.
pub(super) fn wish(node: &NodeEntry) -> Option<String> {
    match node.gpu_yield {
        GpuYield::Auto => None,
        GpuYield::Never => Some("are used in any case".to_owned()),
        GpuYield::Now(YieldNow { until: None }) => Some("are left to other programs".to_owned()),
        GpuYield::Now(YieldNow { until: Some(until) }) => {
            Some(format!("are left to other programs until {until:.0}"))
        }
    }
}

/// Formats the result of `rbee-keeper node yield` and `node resume`.
pub(crate) fn gpu_yield(node: &NodeEntry) -> String {
    let wish = wish(node);
    let wish = wish
        .as_deref()
        .unwrap_or("are used, except while other programs use much memory");
    let mut text = format!("the GPUs of node {} {wish}\n", node.name);
    let has_gpu = |device: &Device| matches!(device.id, DeviceId::Gpu(_));
    if !node.devices.is_empty() && !node.devices.iter().any(has_gpu) {
        text.push_str("it has no GPU at present, so nothing changes until it has one\n");
    }
    text + &yielded(std::slice::from_ref(node))
}

/// A line for each device that is left to other programs.
pub(crate) fn yielded(nodes: &[NodeEntry]) -> String {
    let left = nodes.iter().flat_map(|node| {
        let left = node.yielded.iter();
        left.map(move |left| format!("node {}: {}\n", node.name, escape(&left.reason)))
    });
    left.collect()
}
