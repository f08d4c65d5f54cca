//! GPUs that are left to other programs.

use diagnostics::escape;
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
    format!(
        "the GPUs of node {} {wish}\n{}",
        node.name,
        yielded(std::slice::from_ref(node))
    )
}

/// A line for each device that is left to other programs.
pub(crate) fn yielded(nodes: &[NodeEntry]) -> String {
    let left = nodes.iter().flat_map(|node| {
        let left = node.yielded.iter();
        left.map(move |left| format!("node {}: {}\n", node.name, escape(&left.reason)))
    });
    left.collect()
}
