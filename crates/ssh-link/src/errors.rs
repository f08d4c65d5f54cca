//! The errors of this crate.

use std::{io, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic, excerpt};
use input_validation::{HostKeyFingerprint, NodeName};
use queen_contract::SshNode;

use crate::failure::Failure;

/// Longest quotation of the output of ssh or of a command.
const MAX_QUOTE_CHARS: usize = 300;

/// The server as messages name it: `user@host:port`, without what is not set.
pub(crate) fn label(node: &SshNode) -> String {
    let user = node.user.as_ref().map(|user| format!("{user}@"));
    let port = node.port.map(|port| format!(":{port}"));
    format!(
        "{}{}{}",
        user.unwrap_or_default(),
        node.host,
        port.unwrap_or_default()
    )
}

/// The server of a node: `node gpu-box (me@host:22)`.
pub(crate) fn label_of_node(name: &NodeName, node: &SshNode) -> String {
    format!("node {name} ({})", label(node))
}

/// ssh(1) with the arguments that reach the server, for hints.
fn by_hand(node: &SshNode) -> String {
    let user = node.user.as_ref().map(|user| format!("-l {user} "));
    let port = node.port.map(|port| format!("-p {port} "));
    format!(
        "ssh {}{}{}",
        port.unwrap_or_default(),
        user.unwrap_or_default(),
        node.host
    )
}

fn quote(text: &str) -> String {
    excerpt(text.trim(), MAX_QUOTE_CHARS)
}

pub(crate) fn unreachable(node: &SshNode, reason: &str) -> Diagnostic {
    let message = format!("no SSH connection to {}: {}", label(node), quote(reason));
    Diagnostic::new(Code::SshUnreachable, message).hint(format!(
        "check host, name and port, and that the machine is on; by hand: `{}`",
        by_hand(node)
    ))
}

pub(crate) fn timed_out(node: &SshNode, limit: Duration) -> Diagnostic {
    unreachable(
        node,
        &format!("no response within {} s", limit.as_secs_f64()),
    )
}

/// The login was refused. `with_passphrase` is a key that ssh can use through an agent only.
pub(crate) fn auth_failed(
    node: &SshNode,
    reason: &str,
    with_passphrase: Option<&Path>,
) -> Diagnostic {
    let error = refused(node, reason);
    match with_passphrase {
        Some(key) => {
            let key = excerpt(&key.to_string_lossy(), MAX_QUOTE_CHARS);
            error.hint(format!(
                "the key {key} has a passphrase, which nobody is asked for: an agent must have it: `ssh-add {key}`, `ssh-add -l`"
            ))
        }
        None => error.hint(format!(
            "check that the server accepts the key, that only you can read its file (`chmod 600 FILE`), and that an agent has it if it has a passphrase: `ssh-add -l`; by hand: `{}`",
            by_hand(node)
        )),
    }
}

/// The login was refused, since ssh ignored the key.
pub(crate) fn key_exposed(node: &SshNode, reason: &str, key: &str) -> Diagnostic {
    let key = quote(key);
    refused(node, reason).hint(format!(
        "other users can read the key, so ssh ignored it: `chmod 600 {key}`"
    ))
}

fn refused(node: &SshNode, reason: &str) -> Diagnostic {
    let message = format!("{} refused the login: {}", label(node), quote(reason));
    Diagnostic::new(Code::SshAuthFailed, message)
}

/// A jump host on the way to the server did not connect.
pub(crate) fn jump_host_failed(
    node: &SshNode,
    jump_host: &str,
    failure: Failure,
    reason: &str,
) -> Diagnostic {
    let (server, host, reason) = (label(node), quote(jump_host), quote(reason));
    let (code, message, hint) = match failure {
        Failure::Unreachable | Failure::NoCommands => (
            Code::SshUnreachable,
            format!("no SSH connection to {server}: its jump host {host} failed: {reason}"),
            "check that the jump host is on, and its host, name and port",
        ),
        Failure::AuthFailed => (
            Code::SshAuthFailed,
            format!("{host}, the jump host of {server}, refused the login: {reason}"),
            "check that the jump host accepts the key, and that an agent has it if it has a passphrase: `ssh-add -l`",
        ),
        Failure::HostKeyUnknown | Failure::HostKeyChanged => (
            Code::SshHostKeyUnknown,
            format!(
                "the host key of {host}, the jump host of {server}, is not known, or it has changed: {reason}"
            ),
            "connect to the jump host once and confirm its key",
        ),
        Failure::ConfigInvalid => return config_invalid(&reason),
    };
    let by_hand = format!("{hint}; by hand: `{}`", by_hand(node));
    Diagnostic::new(code, message)
        .hint(by_hand)
        .detail("jump_host", host)
}

/// The last jump host that was reached does not reach the next host.
pub(crate) fn jump_host_cannot_connect(
    node: &SshNode,
    jump_host: &str,
    reason: &str,
) -> Diagnostic {
    let host = quote(jump_host);
    let message = format!(
        "no SSH connection to {}: its jump host {host} cannot reach the next host: {}",
        label(node),
        quote(reason)
    );
    Diagnostic::new(Code::SshUnreachable, message)
        .hint(format!(
            "check the host name and port as the jump host knows them, and that the machine is on; by hand: `{}`",
            by_hand(node)
        ))
        .detail("jump_host", host)
}

/// Nothing can be run on the machine, although the login succeeded.
pub(crate) fn no_shell(node: &SshNode, reason: &str) -> Diagnostic {
    let message = format!(
        "{} accepted the login and ran no command: {}",
        label(node),
        quote(reason)
    );
    Diagnostic::new(Code::SshAuthFailed, message).hint("the user needs a login shell on the node")
}

pub(crate) fn host_key_unknown(node: &SshNode, key: &HostKeyFingerprint) -> Diagnostic {
    Diagnostic::new(
        Code::SshHostKeyUnknown,
        format!("the host key of {} is not known: {key}", label(node)),
    )
    .hint(format!(
        "compare it with the one that `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints on the machine, then `rbee-keeper node add … --accept-host-key {key}`"
    ))
    .detail("fingerprint", key.as_str())
}

pub(crate) fn host_key_changed(node: &SshNode, key: &HostKeyFingerprint) -> Diagnostic {
    Diagnostic::new(
        Code::SshHostKeyUnknown,
        format!(
            "the host key of {} has changed to {key}: it is another machine, or someone intercepts the connection",
            label(node)
        ),
    )
    .hint(format!(
        "if the machine was set up again, `rbee-keeper node add … --accept-host-key {key}`"
    ))
    .detail("fingerprint", key.as_str())
}

/// A host key was refused and could not be read; it may be the one of a jump host.
pub(crate) fn host_key_unreadable(node: &SshNode, reason: &str) -> Diagnostic {
    Diagnostic::new(
        Code::SshHostKeyUnknown,
        format!(
            "a host key on the way to {} is not known: {}",
            label(node),
            quote(reason)
        ),
    )
    .hint(format!(
        "connect once by hand and confirm the keys: `{}`",
        by_hand(node)
    ))
}

/// The user accepted another key than the server has.
pub(crate) fn host_key_differs(
    node: &SshNode,
    accepted: &HostKeyFingerprint,
    found: &HostKeyFingerprint,
) -> Diagnostic {
    Diagnostic::new(
        Code::SshHostKeyUnknown,
        format!("the host key of {} is {found}, not {accepted}", label(node)),
    )
    .hint("check on the machine itself which key is right: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`")
    .detail("fingerprint", found.as_str())
}

pub(crate) fn key_not_found(key: &str, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::SshKeyNotFound,
        format!(
            "cannot read the SSH key {}: {error}",
            excerpt(key, MAX_QUOTE_CHARS)
        ),
    )
    .hint("check the path: `ls -l ~/.ssh`")
}

pub(crate) fn config_invalid(reason: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("ssh does not accept its configuration: {}", quote(reason)),
    )
    .hint("correct the file that the message names")
}

pub(crate) fn config_timed_out(limit: Duration) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!(
            "ssh did not evaluate its configuration within {} s",
            limit.as_secs_f64()
        ),
    )
    .hint("check the programs that it runs: `Match exec` in `~/.ssh/config`")
}

pub(crate) fn no_ssh(error: &io::Error) -> Diagnostic {
    Diagnostic::new(Code::ConfigInvalid, format!("cannot run `ssh`: {error}"))
        .hint("install OpenSSH's client (Debian: `sudo apt-get install openssh-client`)")
}

pub(crate) fn unusable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot use {}: {error}", path.display()), error)
}

pub(crate) fn unusable_file(file: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::internal(format!("cannot read {}: {error}", file.display()))
}

/// The connection ended; `reason` is what ssh wrote.
pub(crate) fn lost(label: &str, reason: &str) -> Diagnostic {
    let reason = match quote(reason) {
        reason if reason.is_empty() => "closed".to_owned(),
        reason => reason,
    };
    Diagnostic::new(
        Code::SshUnreachable,
        format!("the SSH connection to {label} is lost: {reason}"),
    )
    .hint("it is established again as soon as the machine responds")
}

pub(crate) fn command_timed_out(label: &str, what: &str, limit: Duration) -> Diagnostic {
    Diagnostic::new(
        Code::SshUnreachable,
        format!(
            "{label}: {what} did not end within {} s",
            limit.as_secs_f64()
        ),
    )
}

pub(crate) fn command_failed(label: &str, what: &str, status: i32, stderr: &str) -> Diagnostic {
    Diagnostic::new(
        Code::NodeCommandFailed,
        format!(
            "{label}: {what} failed with status {status}: {}",
            quote(stderr)
        ),
    )
}

/// The connection exists, and the server did not run the command to its end.
pub(crate) fn command_without_status(label: &str, what: &str, stderr: &str) -> Diagnostic {
    let reason = match quote(stderr) {
        reason if reason.is_empty() => {
            "the SSH server refused it, or ended it without a status".into()
        }
        reason => reason,
    };
    Diagnostic::new(
        Code::NodeCommandFailed,
        format!("{label}: {what} failed: {reason}"),
    )
}

pub(crate) fn unexpected_output(label: &str, what: &str, problem: &str) -> Diagnostic {
    Diagnostic::new(
        Code::NodeCommandFailed,
        format!(
            "{label}: {what} printed something unexpected: {}",
            quote(problem)
        ),
    )
}

pub(crate) fn argument_with_nul(what: &str) -> Diagnostic {
    Diagnostic::internal(format!("{what}: an argument contains a NUL byte"))
}

pub(crate) fn command_too_long(what: &str, bytes: usize) -> Diagnostic {
    Diagnostic::internal(format!("{what}: the command has {bytes} bytes"))
}

pub(crate) fn forward_refused(label: &str, forward: &str, reason: &str) -> Diagnostic {
    Diagnostic::new(
        Code::NodeCommandFailed,
        format!(
            "{label} did not accept the forward {forward}: {}",
            quote(reason)
        ),
    )
    .hint("the SSH server must permit forwards: `AllowTcpForwarding yes` in its `sshd_config`")
}

/// The link of a node is down for this reason.
pub(crate) fn link_down(node: &NodeName, reason: Diagnostic) -> Diagnostic {
    Diagnostic {
        message: format!("node {node} is not connected: {}", reason.message),
        ..reason
    }
    .detail("node", node.as_str())
}
