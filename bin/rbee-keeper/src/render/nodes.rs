//! Text about nodes.

use diagnostics::escape;
use queen_contract::{NodeEntry, NodeSpec};

use super::text::{device, devices, table, wire_name};

/// Formats the result of `rbee-keeper node list`.
pub(crate) fn list(nodes: &[NodeEntry]) -> String {
    let rows = nodes.iter().map(|node| {
        let (link, address) = link(&node.spec);
        [
            node.name.to_string(),
            link.to_owned(),
            address,
            wire_name(&node.status),
            devices(node),
            node.last_error.clone().unwrap_or_default(),
        ]
    });
    let headings = ["NODE", "LINK", "ADDRESS", "STATUS", "DEVICES", "LAST ERROR"];
    table(headings, rows, "no nodes")
}

/// Formats the result of `rbee-keeper node show`.
pub(crate) fn node(node: &NodeEntry) -> String {
    let (link, address) = link(&node.spec);
    let time = |time: Option<jiff::Timestamp>| time.map_or("never".to_owned(), |t| t.to_string());
    let mut facts = vec![
        ("node", node.name.to_string()),
        ("link", format!("{link} {address}").trim_end().to_owned()),
        ("status", wire_name(&node.status)),
        ("hive", node.hive_version.clone().unwrap_or_default()),
        ("hive URL", node.hive_url.clone().unwrap_or_default()),
        ("connected", time(node.last_connected)),
        ("last error", node.last_error.clone().unwrap_or_default()),
    ];
    facts.extend(node.devices.iter().map(|d| ("device", device(d))));
    let shown = facts.iter().filter(|(_, value)| !value.is_empty());
    let lines = shown.map(|(name, value)| format!("{name:<12}{}\n", escape(value)));
    lines.collect()
}

/// The kind of a link, and the address that it leads to.
fn link(spec: &NodeSpec) -> (&'static str, String) {
    match spec {
        NodeSpec::Local => ("local", String::new()),
        NodeSpec::Direct(node) => ("direct", node.url.to_string()),
        NodeSpec::Ssh(node) => {
            let user = node.user.as_ref().map(|user| format!("{user}@"));
            let port = node.port.map(|port| format!(":{port}"));
            let (user, port) = (user.unwrap_or_default(), port.unwrap_or_default());
            ("ssh", format!("{user}{}{port}", node.host))
        }
    }
}
