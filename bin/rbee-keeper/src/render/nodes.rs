//! Text about nodes.

use std::path::Path;

use diagnostics::escape;
use queen_contract::{HiveService, Invitation, NewInvitation, NodeEntry, NodeSpec};

use super::{
    power,
    table::table,
    text::{device, devices},
    yields::{wish, yielded},
};

/// Formats the result of `rbee-keeper node list`.
pub(crate) fn list(nodes: &[NodeEntry]) -> String {
    let rows = nodes.iter().map(|node| {
        let (link, address) = link(&node.spec);
        [
            node.name.to_string(),
            link.to_owned(),
            address,
            power::status(node),
            devices(node),
            node.last_error.clone().unwrap_or_default(),
        ]
    });
    let headings = ["NODE", "LINK", "ADDRESS", "STATUS", "DEVICES", "LAST ERROR"];
    table(headings, rows, "no nodes") + &yielded(nodes)
}

/// Formats the result of `rbee-keeper node show`.
pub(crate) fn node(node: &NodeEntry) -> String {
    let (link, address) = link(&node.spec);
    let time = |time: Option<jiff::Timestamp>| time.map_or("never".to_owned(), |t| t.to_string());
    let mut facts = vec![
        ("node", node.name.to_string()),
        ("link", format!("{link} {address}").trim_end().to_owned()),
        ("status", power::status(node)),
        ("hive", version(node)),
        ("started", service(node)),
        ("built from", source(&node.spec)),
        ("hive URL", node.hive_url.clone().unwrap_or_default()),
        ("connected", time(node.last_connected)),
        ("last error", node.last_error.clone().unwrap_or_default()),
    ];
    facts.extend(node.devices.iter().map(|d| ("device", device(d))));
    facts.extend(power::facts(node));
    facts.extend(wish(node).map(|wish| ("GPUs", wish)));
    let left = node.yielded.iter().map(|left| left.reason.clone());
    facts.extend(left.map(|reason| ("yielded", reason)));
    let shown = facts.iter().filter(|(_, value)| !value.is_empty());
    let lines = shown.map(|(name, value)| format!("{name:<12}{}\n", escape(value)));
    lines.collect()
}

/// The version of the hive, and how to replace another one than this.
fn version(node: &NodeEntry) -> String {
    let own = env!("CARGO_PKG_VERSION");
    match &node.hive_version {
        None => String::new(),
        Some(version) if version != own && matches!(node.spec, NodeSpec::Ssh(_)) => format!(
            "{version}; this release is {own}, `rbee-keeper node upgrade {}` installs it",
            node.name
        ),
        Some(version) => version.clone(),
    }
}

/// The repository that is built where this release does not run.
fn source(spec: &NodeSpec) -> String {
    let NodeSpec::Ssh(node) = spec else {
        return String::new();
    };
    match (&node.repository, &node.branch) {
        (Some(repository), Some(branch)) => format!("{repository}, {branch}"),
        (Some(repository), None) => repository.to_string(),
        (None, _) => String::new(),
    }
}

/// How the hive is started.
fn service(node: &NodeEntry) -> String {
    match node.hive_service {
        None => String::new(),
        Some(HiveService::Process) => "by the queen".to_owned(),
        Some(HiveService::Systemd) => "by systemd, as rbee-hive.service of the user".to_owned(),
    }
}

/// Formats the result of `rbee-keeper node invite`. Without a file, the secret is part of it.
pub(crate) fn invited(
    new: &NewInvitation,
    own_url: &str,
    file: Option<&Path>,
    command: &str,
) -> String {
    let NewInvitation {
        invitation,
        token,
        queen_urls,
    } = new;
    let Invitation {
        name, expires_at, ..
    } = invitation;
    let copy = match file {
        Some(file) => format!(
            "copy {} to a file of that machine that only its user can read, and run there:",
            escape(&file.display().to_string())
        ),
        None => format!("{}\n\nrun on that machine, and pass it this line:", token.0),
    };
    let reach = if queen_urls.is_empty() {
        format!(
            "\nthe queen listens at {own_url} only, where other machines cannot reach it: start it \
             with `queen-rbee --bind ADDRESS --api-key-file FILE`\n"
        )
    } else {
        String::new()
    };
    format!(
        "invited one machine to become node {name}, until {expires_at} (invitation {})\n{copy}\n\n  \
         {command}\n{reach}",
        invitation.fingerprint
    )
}

/// The command that uses an invitation.
pub(crate) fn join_command(queen_urls: &[String], own_url: &str, file: Option<&Path>) -> String {
    let queen = queen_urls.first().map_or(own_url, String::as_str);
    let file = file.map_or("-".to_owned(), |_| "FILE".to_owned());
    format!("rbee-hive join --queen {queen} --token-file {file}")
}

/// Formats the result of `rbee-keeper node invitations`.
pub(crate) fn invitations(invitations: &[Invitation]) -> String {
    let rows = invitations.iter().map(|invitation| {
        [
            invitation.name.to_string(),
            invitation.fingerprint.clone(),
            invitation.expires_at.to_string(),
        ]
    });
    table(["NODE", "INVITATION", "EXPIRES"], rows, "no invitations")
}

/// The kind of a link, and the address that it leads to.
fn link(spec: &NodeSpec) -> (&'static str, String) {
    match spec {
        NodeSpec::Local => ("local", String::new()),
        NodeSpec::Direct(node) => ("direct", node.url.to_string()),
        NodeSpec::Joined => ("joined", String::new()),
        NodeSpec::Ssh(node) => {
            let user = node.user.as_ref().map(|user| format!("{user}@"));
            let port = node.port.map(|port| format!(":{port}"));
            let (user, port) = (user.unwrap_or_default(), port.unwrap_or_default());
            ("ssh", format!("{user}{}{port}", node.host))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(version: &str, spec: &serde_json::Value) -> NodeEntry {
        serde_json::from_value(json!({
            "name": "attic", "spec": spec, "hive_url": null, "hive_version": version,
            "hive_service": "systemd", "status": "reachable", "devices": [],
            "last_connected": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_hive_of_another_version_is_shown_with_the_command_that_replaces_it() {
        let ssh = json!({"link": "ssh", "host": "h", "repository": "/srv/rbee", "branch": "v1"});
        let shown = node(&entry("0.0.9", &ssh));
        let own = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "hive        0.0.9; this release is {own}, `rbee-keeper node upgrade attic` installs it\n"
        );
        assert!(shown.contains(&expected), "{shown}");
        assert!(shown.contains("started     by systemd, as rbee-hive.service of the user\n"));
        assert!(shown.contains("built from  /srv/rbee, v1\n"), "{shown}");
        assert!(node(&entry(own, &ssh)).contains(&format!("hive        {own}\n")));
        let direct = json!({"link": "direct", "url": "http://127.0.0.1:9"});
        assert!(node(&entry("0.0.9", &direct)).contains("hive        0.0.9\n"));
    }
}
