//! Command lines of the SSH client (ssh(1), ssh_config(5)).

use std::{ffi::OsString, path::Path, process::Stdio};

use queen_contract::SshNode;
use tokio::process::Command;

use crate::SshSettings;

/// Options of every connection. The first value of an option wins, so these take precedence
/// over the user's configuration.
const CONNECTION: &[&str] = &[
    // Nothing asks for a password or a confirmation.
    "BatchMode=yes",
    // Errors only: the banner of the server is none.
    "LogLevel=ERROR",
    "ClearAllForwardings=yes",
    "ControlPersist=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    // The socket file of a lost connection is left over.
    "StreamLocalBindUnlink=yes",
    "Tunnel=no",
    // The known hosts of the user are never changed.
    "UpdateHostKeys=no",
];

/// `ssh`, which cannot ask questions. Killed when it is dropped.
pub(crate) fn ssh() -> Command {
    let mut command = Command::new("ssh");
    // Ctrl+C in the queen's terminal must not reach it.
    command
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Jump hosts have processes of their own, which do not inherit BatchMode. This makes
        // them ask a program that refuses instead of a terminal.
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("SSH_ASKPASS", "false");
    command
}

/// `ssh` with the options of a connection to `node`, without the host. `known_hosts` are the
/// files of known hosts, in the form of ssh_config(5).
pub(crate) fn connection(node: &SshNode, settings: &SshSettings) -> Command {
    let mut command = ssh();
    if let Some(file) = &settings.config_file {
        command.arg("-F").arg(file);
    }
    for option in CONNECTION {
        command.args(["-o", option]);
    }
    // Without the queen, nobody else ends an attempt at a server that does not respond.
    let limit = settings.connect_limit.as_secs().max(1);
    command.args(["-o", &format!("ConnectTimeout={limit}")]);
    let alive = settings.alive_interval.as_secs().max(1);
    command.args(["-o", &format!("ServerAliveInterval={alive}")]);
    command.args([
        "-o",
        &format!("ServerAliveCountMax={}", settings.alive_count),
    ]);
    if let Some(port) = node.port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = &node.user {
        command.args(["-l", user.as_str()]);
    }
    if let Some(key) = &node.key_file {
        // Only this key is offered, not those of an agent.
        command.args(["-o", "IdentitiesOnly=yes", "-o"]);
        command.arg(option("IdentityFile", &[Path::new(key)]));
    }
    command
}

/// `ssh` that uses the connection behind a control socket.
pub(crate) fn through(control_socket: &Path) -> Command {
    let mut command = ssh();
    command
        .args(["-F", "none", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"])
        // Without this, ssh makes a connection of its own when the socket is gone.
        .args(["-o", "ProxyCommand=false", "-T", "-S"])
        .arg(control_socket);
    command
}

/// Host argument where the connection exists already.
pub(crate) const NO_HOST: &str = "none";

/// An option whose values are paths. ssh expands `%` in them and splits them at white space.
pub(crate) fn option(name: &str, paths: &[&Path]) -> OsString {
    let mut text = OsString::from(name);
    for path in paths {
        text.push(" \"");
        let mut escaped = Vec::new();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'"' | b'\\' => escaped.push(b'\\'),
                b'%' => escaped.push(b'%'),
                _ => {}
            }
            escaped.push(*byte);
        }
        text.push(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&escaped));
        text.push("\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_options_are_quoted() {
        let paths = [Path::new("/a b"), Path::new("/q\"%h\\x")];
        assert_eq!(
            option("UserKnownHostsFile", &paths),
            r#"UserKnownHostsFile "/a b" "/q\"%%h\\x""#
        );
    }
}
