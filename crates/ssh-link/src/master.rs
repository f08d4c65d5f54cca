//! The process of a connection: ssh as master (`ControlMaster`, ssh_config(5)).
//!
//! It stays in the foreground as a child of the queen, so its end is noticed at once. Its
//! session runs `cat` on the other machine, which ends when its standard input does: the
//! connection ends by itself if the queen is killed.

use std::{ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use diagnostics::Diagnostic;
use queen_contract::SshNode;
use tokio::{
    fs,
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::Child,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    SshSettings,
    client_config::ClientConfig,
    errors,
    failure::{FailedHost, Failure, classify, exposed_key, failed_host, last_line},
    host_key,
    options::{connection, option},
    process_group::ProcessGroup,
    runtime_directory::CONTROL_SOCKET,
};

/// Every login shell reads this alike. The mark follows what login scripts print.
const KEEP: &str = "exec sh -c 'echo; echo rbee:ready; exec cat'";
const READY: &str = "rbee:ready";
/// How much of the output of ssh is kept.
const MAX_OUTPUT_BYTES: u64 = 16 << 10;
/// Longest wait for the rest of the output of a process that has exited. A jump host's ssh can
/// keep its standard error open.
const OUTPUT_LIMIT: Duration = Duration::from_millis(200);

/// An established connection.
pub(crate) struct Master {
    pub(crate) control_socket: PathBuf,
    /// Why the connection ended, once it has.
    pub(crate) closed: watch::Receiver<Option<Diagnostic>>,
    /// Ends the connection when it is dropped.
    pub(crate) close: DropGuard,
}

/// Connects and authenticates, in one attempt.
pub(crate) async fn start(node: &SshNode, settings: &SshSettings) -> Result<Master, Diagnostic> {
    check_key_file(node).await?;
    let config = ClientConfig::of(node, settings).await?;
    let dir = settings.runtime.create("s")?;
    let control_socket = dir.path().join(CONTROL_SOCKET);
    let mut command = connection(node, settings);
    command
        .args(["-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(known_hosts(&config, settings))
        .args(["-M", "-S"])
        .arg(&control_socket)
        .args(["--", node.host.as_str(), KEEP])
        .stdin(Stdio::piped());
    let mut child = command.spawn().map_err(|e| errors::no_ssh(&e))?;
    let mut group = ProcessGroup::of(&child);
    let stderr = tokio::spawn(read(child.stderr.take()));
    let ready = timeout(settings.connect_limit, ready(&mut child)).await;
    match ready {
        Ok(true) => {}
        Ok(false) => {
            let status = child.wait().await.map_err(|e| errors::no_ssh(&e))?;
            group.has_ended();
            let stderr = rest(stderr).await;
            return Err(if status.code() == Some(255) {
                failure(node, settings, &config, &stderr).await
            } else {
                errors::no_shell(node, last_line(&stderr))
            });
        }
        Err(_) => return Err(errors::timed_out(node, settings.connect_limit)),
    }
    let (sender, closed) = watch::channel(None);
    let cancelled = CancellationToken::new();
    let close = cancelled.clone().drop_guard();
    let label = errors::label(node);
    tokio::spawn(async move {
        // The socket and its directory are removed when the process is gone.
        let _dir = dir;
        let _open = (child.stdin.take(), child.stdout.take());
        tokio::select! {
            _ = child.wait() => group.has_ended(),
            () = cancelled.cancelled() => {
                drop(group);
                let _ = child.wait().await;
            }
        }
        let reason = rest(stderr).await;
        sender.send_replace(Some(errors::lost(&label, last_line(&reason))));
    });
    Ok(Master {
        control_socket,
        closed,
        close,
    })
}

/// Fails if the key file cannot be read. ssh would only warn and try other keys.
async fn check_key_file(node: &SshNode) -> Result<(), Diagnostic> {
    match &node.key_file {
        Some(key) => match fs::File::open(key).await {
            Ok(_) => Ok(()),
            Err(error) => Err(errors::key_not_found(key, &error)),
        },
        None => Ok(()),
    }
}

/// The option with the files of known hosts: those of the user's configuration and rbee's own.
fn known_hosts(config: &ClientConfig, settings: &SshSettings) -> OsString {
    let files = config.known_hosts.iter().chain([&settings.known_hosts]);
    let paths: Vec<_> = files.map(PathBuf::as_path).collect();
    option("UserKnownHostsFile", &paths)
}

/// Returns whether the session runs; `false` if ssh ended before.
async fn ready(child: &mut Child) -> bool {
    let Some(stdout) = &mut child.stdout else {
        return false;
    };
    let mut lines = BufReader::new(stdout.take(MAX_OUTPUT_BYTES)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == READY {
            return true;
        }
    }
    false
}

async fn failure(
    node: &SshNode,
    settings: &SshSettings,
    config: &ClientConfig,
    stderr: &str,
) -> Diagnostic {
    let reason = last_line(stderr);
    let failure = classify(stderr);
    match failed_host(stderr, &config.jump_hosts) {
        FailedHost::Server => {}
        FailedHost::After(host) => return errors::jump_host_cannot_connect(node, host, reason),
        FailedHost::Jump(host) => return errors::jump_host_failed(node, host, failure, reason),
    }
    match failure {
        Failure::Unreachable => errors::unreachable(node, reason),
        Failure::AuthFailed => match exposed_key(stderr) {
            Some(key) => errors::key_exposed(node, reason, key),
            None => errors::auth_failed(node, reason, config.key_with_passphrase().as_deref()),
        },
        Failure::ConfigInvalid => errors::config_invalid(reason),
        Failure::NoCommands => errors::no_shell(node, reason),
        found @ (Failure::HostKeyUnknown | Failure::HostKeyChanged) => {
            match host_key::scan(node, settings).await {
                Ok(key) if found == Failure::HostKeyChanged => {
                    errors::host_key_changed(node, &key.fingerprint)
                }
                Ok(key) => errors::host_key_unknown(node, &key.fingerprint),
                Err(_) => errors::host_key_unreadable(node, reason),
            }
        }
    }
}

/// Reads to the end and keeps the beginning.
async fn read(reader: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut reader) = reader {
        let _ = (&mut reader)
            .take(MAX_OUTPUT_BYTES)
            .read_to_end(&mut bytes)
            .await;
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn rest(stderr: JoinHandle<String>) -> String {
    match timeout(OUTPUT_LIMIT, stderr).await {
        Ok(Ok(text)) => text,
        _ => String::new(),
    }
}
