use std::path::Path;

use daemon_shell::Token;
use diagnostics::{Diagnostic, Narration};
use futures_util::StreamExt as _;
use input_validation::{MacAddress, NodeName};
use jiff::{SignedDuration, Timestamp};
use queen_contract::{
    AddNode, DirectNode, GpuYield, NodeCallEvent, NodeCallEvents, NodeEntry, NodeLog, NodeSecret,
    NodeSpec, PowerSettings, QueenClient, SleepCall, SshNode, UpdateNode, YieldNow,
};
use serde_json::json;

use crate::{
    errors,
    failure::Failure,
    interrupt::Interrupts,
    invitation,
    node_cli::{Change, LinkKind, Node},
    render::{Screen, nodes as text, power, yields},
    sleep_cli::SleepArgs,
    target::Target,
    values::{DrainArg, LinesArg, NodeNameArg},
};

/// Runs a subcommand of `rbee-keeper node`.
pub(crate) async fn run(
    command: Node,
    target: &Target,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let changed = changed_node(&command);
    let result = interrupts
        .unless_interrupted(execute(command, target, screen))
        .await;
    if let (Err(Failure::Interrupted(_)), Some(node)) = (&result, changed) {
        let note = Narration::info("keeper", "interrupt", errors::change_continues(&node));
        // The interrupt is returned, whether or not this is printed.
        let _ = screen.narrate(&note).await;
    }
    result
}

/// Returns the node that a command changes by steps that the queen completes by itself.
fn changed_node(command: &Node) -> Option<NodeName> {
    match command {
        Node::Add(change) | Node::Update(change) => Some(change.node.name.clone()),
        Node::Install(node) | Node::Upgrade(node) | Node::Uninstall { node, .. } => {
            Some(node.name.clone())
        }
        Node::Sleep(SleepArgs { node, .. }) | Node::Wake(node) => Some(node.name.clone()),
        _ => None,
    }
}

async fn execute(command: Node, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    match command {
        Node::Add(change) => add(change, target, screen).await,
        Node::Update(change) => update(change, target, screen).await,
        Node::List => {
            let nodes = target.running().await?.nodes().await?;
            screen.document(&nodes, || text::list(&nodes.nodes)).await
        }
        Node::Show(NodeNameArg { name }) => {
            let node = target.running().await?.node(&name).await?;
            screen.document(&node, || text::node(&node)).await
        }
        Node::Remove {
            node: NodeNameArg { name },
            force,
        } => {
            target.running().await?.remove_node(&name, force).await?;
            let removed = json!({ "removed": name });
            screen
                .document(&removed, || format!("removed node {name}\n"))
                .await
        }
        Node::Invite {
            node: NodeNameArg { name },
            expires,
            to,
        } => invitation::invite(name, expires, to, target, screen).await,
        Node::Invitations => invitation::list(target, screen).await,
        Node::Uninvite(NodeNameArg { name }) => invitation::revoke(&name, target, screen).await,
        Node::Install(NodeNameArg { name }) => {
            let events = target.running().await?.install_hive(&name).await?;
            finish(events, "installed the hive of", screen).await
        }
        Node::Upgrade(NodeNameArg { name }) => {
            let events = target.running().await?.upgrade_hive(&name).await?;
            finish(events, "upgraded the hive of", screen).await
        }
        Node::Uninstall {
            node: NodeNameArg { name },
            models,
        } => {
            let queen = target.running().await?;
            let events = queen.uninstall_hive(&name, models).await?;
            finish(events, "removed the hive of", screen).await
        }
        Node::Yield {
            node: NodeNameArg { name },
            duration,
            never,
        } => {
            let wanted = if never {
                GpuYield::Never
            } else {
                let until = duration.map(|seconds| {
                    Timestamp::now().saturating_add(SignedDuration::from_secs(seconds.into()))
                });
                let until = until.transpose().map_err(Diagnostic::internal)?;
                GpuYield::Now(YieldNow { until })
            };
            set_gpu_yield(&name, wanted, target, screen).await
        }
        Node::Resume(NodeNameArg { name }) => {
            set_gpu_yield(&name, GpuYield::Auto, target, screen).await
        }
        Node::Set(args) => {
            let queen = target.running().await?;
            let known = queen.node(&args.name).await?.power.settings;
            let node = queen.set_power(&args.name, &args.applied_to(known)).await?;
            screen.document(&node, || power::settings(&node)).await
        }
        Node::Sleep(SleepArgs {
            node: NodeNameArg { name },
            force,
            drain: DrainArg { drain },
        }) => {
            let call = SleepCall {
                force,
                drain_seconds: drain,
            };
            let events = target.running().await?.sleep_node(&name, &call).await?;
            let node = follow(events, screen).await?;
            screen.document(&node, || power::state(&node)).await
        }
        Node::Wake(NodeNameArg { name }) => {
            let events = target.running().await?.wake_node(&name).await?;
            let node = follow(events, screen).await?;
            screen.document(&node, || power::state(&node)).await
        }
        Node::Logs {
            node: NodeNameArg { name },
            build,
            lines: LinesArg { lines },
        } => {
            let which = if build { NodeLog::Build } else { NodeLog::Hive };
            let queen = target.running().await?;
            let log = queen.node_log(&name, which, lines).await?;
            screen.log(&log).await
        }
    }
}

async fn set_gpu_yield(
    name: &NodeName,
    wanted: GpuYield,
    target: &Target,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let queen = target.running().await?;
    let node = queen.set_gpu_yield(name, &wanted).await?;
    screen.document(&node, || yields::gpu_yield(&node)).await
}

async fn add(change: Change, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let (name, mac) = (change.node.name.clone(), change.mac);
    let node = request(change, None, target)?;
    let (queen, _) = target.ensure_running().await?;
    let call = AddNode {
        name: name.clone(),
        node,
    };
    let events = queen.add_node(&call).await?;
    finish_with_mac(events, "added", mac, &queen, screen).await
}

async fn update(change: Change, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let queen = target.running().await?;
    let (name, mac) = (change.node.name.clone(), change.mac);
    let known = queen.node(&name).await?;
    let node = request(change, Some(known.spec), target)?;
    let events = queen.update_node(&name, &node).await?;
    finish_with_mac(events, "updated", mac, &queen, screen).await
}

/// Follows a call to its end, sets the MAC address that the user has named, and prints the node.
async fn finish_with_mac(
    events: NodeCallEvents,
    what: &str,
    mac: Option<MacAddress>,
    queen: &QueenClient,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let Some(mac) = mac else {
        return finish(events, what, screen).await;
    };
    let node = follow(events, screen).await?;
    let settings = PowerSettings {
        mac: Some(mac),
        ..node.power.settings
    };
    let node = queen.set_power(&node.name, &settings).await?;
    screen.document(&node, || changed(what, &node)).await
}

/// Follows a call to its end and prints the node.
async fn finish(events: NodeCallEvents, what: &str, screen: &mut Screen) -> Result<(), Failure> {
    let node = follow(events, screen).await?;
    screen.document(&node, || changed(what, &node)).await
}

/// Follows a call to its end. Returns the node after it.
async fn follow(mut events: NodeCallEvents, screen: &mut Screen) -> Result<NodeEntry, Failure> {
    while let Some(event) = events.next().await {
        match event? {
            NodeCallEvent::Narration(narration) => screen.narrate(&narration).await?,
            NodeCallEvent::Error(error) => return Err(error.into()),
            NodeCallEvent::Result(node) => {
                if let Some(problem) = &node.last_error {
                    let problem = format!("node {}: {problem}", node.name);
                    screen
                        .narrate(&Narration::warn("queen", "connect", problem))
                        .await?;
                }
                return Ok(*node);
            }
        }
    }
    Err(errors::call_ended_early().into())
}

fn changed(what: &str, node: &NodeEntry) -> String {
    format!("{what} node {}\n{}", node.name, text::node(node))
}

/// Returns the request for a node that is reached as `known`, or that is new. Files are checked
/// before anything is sent.
fn request(
    change: Change,
    known: Option<NodeSpec>,
    target: &Target,
) -> Result<UpdateNode, Failure> {
    let token = change.hive_token_file.as_deref().map(Token::load);
    let token = token.transpose().map_err(Failure::Usage)?;
    if let Some(key) = &change.key
        && matches!(target, Target::Managed(_))
        && !key.is_file()
    {
        return Err(Failure::Usage(errors::ssh_key_not_found(key)));
    }
    Ok(UpdateNode {
        accept_host_key: change.accept_host_key.clone(),
        install: !change.no_install,
        token: token.map(|token| NodeSecret(token.expose().to_owned())),
        spec: spec(change, known).map_err(Failure::Usage)?,
    })
}

fn spec(change: Change, known: Option<NodeSpec>) -> Result<NodeSpec, Diagnostic> {
    let is_direct = match &known {
        Some(spec) => matches!(spec, NodeSpec::Direct(_)),
        None => change.url.is_some(),
    };
    let default = if is_direct {
        LinkKind::Direct
    } else {
        LinkKind::Ssh
    };
    let kind = change.link.unwrap_or(default);
    let ssh = [
        ("--host", change.host.is_some()),
        ("--port", change.port.is_some()),
        ("--user", change.user.is_some()),
        ("--key", change.key.is_some()),
        ("--dir", change.dir.is_some()),
        ("--repository", change.repository.is_some()),
        ("--branch", change.branch.is_some()),
        ("--accept-host-key", change.accept_host_key.is_some()),
    ];
    let direct = [
        ("--url", change.url.is_some()),
        ("--certificate", change.certificate.is_some()),
        ("--allow-unencrypted", change.allow_unencrypted),
        ("--queen-url", change.queen_url.is_some()),
        ("--hive-token-file", change.hive_token_file.is_some()),
    ];
    let (unused, name) = match kind {
        LinkKind::Ssh => (&direct[..], "ssh"),
        LinkKind::Direct => (&ssh[..], "direct"),
    };
    if let Some((option, _)) = unused.iter().find(|(_, given)| *given) {
        return Err(errors::option_of_other_link(option, name));
    }
    match kind {
        LinkKind::Ssh => {
            let known = match known {
                Some(NodeSpec::Ssh(known)) => known,
                _ => SshNode {
                    host: change.node.name.as_str().parse()?,
                    port: None,
                    user: None,
                    key_file: None,
                    directory: None,
                    repository: None,
                    branch: None,
                },
            };
            let key_file = change.key.as_deref().map(absolute).transpose()?;
            Ok(NodeSpec::Ssh(SshNode {
                host: change.host.unwrap_or(known.host),
                port: change.port.or(known.port),
                user: change.user.or(known.user),
                key_file: key_file.or(known.key_file),
                directory: change.dir.or(known.directory),
                repository: change.repository.or(known.repository),
                branch: change.branch.or(known.branch),
            }))
        }
        LinkKind::Direct => {
            let known = match known {
                Some(NodeSpec::Direct(known)) => Some(known),
                _ => None,
            };
            let of_known = |node: &DirectNode| (node.queen_url.clone(), node.certificate.clone());
            let (queen_url, certificate) = known.as_ref().map(of_known).unwrap_or_default();
            let allowed = known.as_ref().is_some_and(|known| known.allow_unencrypted);
            let url = change.url.or(known.map(|known| known.url));
            Ok(NodeSpec::Direct(DirectNode {
                url: url.ok_or_else(errors::no_hive_url)?,
                queen_url: change.queen_url.or(queen_url),
                certificate: change.certificate.or(certificate),
                allow_unencrypted: change.allow_unencrypted || allowed,
            }))
        }
    }
}

fn absolute(path: &Path) -> Result<String, Diagnostic> {
    let absolute = std::path::absolute(path);
    let absolute = absolute.map_err(|_| errors::ssh_key_not_found(path))?;
    let text = absolute.to_str();
    Ok(text
        .ok_or_else(|| errors::ssh_key_not_found(path))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn change(arguments: &[&str]) -> Change {
        let line = ["rbee-keeper", "node", "add"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Node(Node::Add(change)) => change,
            other => panic!("{other:?}"),
        }
    }

    fn parsed(document: serde_json::Value) -> NodeSpec {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_bare_name_is_an_alias_of_the_ssh_configuration() {
        assert_eq!(
            spec(change(&["gpu-box"]), None).unwrap(),
            parsed(json!({"link": "ssh", "host": "gpu-box"}))
        );
    }

    #[test]
    fn options_that_are_left_out_keep_their_value() {
        let known = json!({
            "link": "ssh", "host": "a", "port": 22, "user": "me", "directory": "~/rbee",
            "repository": "/srv/rbee", "branch": "main",
        });
        assert_eq!(
            spec(
                change(&["x", "--host", "b", "--port", "2222", "--branch", "v2"]),
                Some(parsed(known))
            )
            .unwrap(),
            parsed(json!({
                "link": "ssh", "host": "b", "port": 2222, "user": "me", "directory": "~/rbee",
                "repository": "/srv/rbee", "branch": "v2",
            }))
        );
        let known = json!({"link": "direct", "url": "http://a:1", "queen_url": "http://q:1"});
        assert_eq!(
            spec(change(&["x", "--url", "http://b:2"]), Some(parsed(known))).unwrap(),
            parsed(json!({"link": "direct", "url": "http://b:2", "queen_url": "http://q:1"}))
        );
    }

    #[test]
    fn an_address_makes_a_direct_link_and_options_of_the_other_link_are_refused() {
        assert_eq!(
            spec(change(&["x", "--url", "http://127.0.0.1:9"]), None).unwrap(),
            parsed(json!({"link": "direct", "url": "http://127.0.0.1:9"}))
        );
        for (arguments, option) in [
            (&["x", "--link", "ssh", "--url", "http://a:1"][..], "--url"),
            (&["x", "--url", "http://a:1", "--user", "me"], "--user"),
            (&["x", "--hive-token-file", "f"], "--hive-token-file"),
        ] {
            let error = spec(change(arguments), None).unwrap_err();
            assert!(error.message.contains(option), "{error}");
        }
        assert!(spec(change(&["x", "--link", "direct"]), None).is_err());
    }
}
