use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use diagnostics::{Diagnostic, Narration};
use queen_contract::SshNode;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Child,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::DropGuard;

use crate::{
    Output, RemoteCommand, SshSettings,
    command::{Input, MARK},
    errors, master,
    options::{self, NO_HOST},
};

/// Commands that run at the same time. sshd admits 10 sessions in a connection by default
/// (`MaxSessions`, sshd_config(5)), and one of them keeps the connection.
const MAX_COMMANDS: usize = 8;
/// How much of the standard error of a command is kept.
const MAX_STDERR_BYTES: u64 = 16 << 10;
/// Exit status of ssh if it fails itself (ssh(1)), and of a few commands.
const SSH_FAILED: i32 = 255;
/// Time limit for the question whether a connection exists.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// A connection to an SSH server. Clones share it; it is closed when the last one is dropped.
#[derive(Debug, Clone)]
pub struct SshSession(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    label: String,
    control_socket: PathBuf,
    commands: Semaphore,
    closed: watch::Receiver<Option<Diagnostic>>,
    _close: DropGuard,
}

impl SshSession {
    /// Connects to the server of `node`, in several attempts, each of which is reported.
    ///
    /// Errors: [`Code::SshKeyNotFound`](diagnostics::Code::SshKeyNotFound),
    /// [`Code::SshUnreachable`](diagnostics::Code::SshUnreachable) after the last attempt,
    /// [`Code::SshAuthFailed`](diagnostics::Code::SshAuthFailed),
    /// [`Code::SshHostKeyUnknown`](diagnostics::Code::SshHostKeyUnknown) with the fingerprint of
    /// the key, and [`Code::ConfigInvalid`](diagnostics::Code::ConfigInvalid).
    pub async fn connect(
        node: &SshNode,
        settings: &SshSettings,
        report: &(dyn Fn(Narration) + Send + Sync),
    ) -> Result<Self, Diagnostic> {
        Self::connect_as(errors::label(node), node, settings, report).await
    }

    /// Like [`connect`](Self::connect). Errors of the session name the server by `session_label`.
    pub(crate) async fn connect_as(
        session_label: String,
        node: &SshNode,
        settings: &SshSettings,
        report: &(dyn Fn(Narration) + Send + Sync),
    ) -> Result<Self, Diagnostic> {
        let label = errors::label(node);
        let count = settings.attempt_pauses.len();
        let mut last = errors::unreachable(node, "no attempt was made");
        for (number, pause) in (1..).zip(&settings.attempt_pauses) {
            sleep(*pause).await;
            let message = format!("Connecting to {label} by SSH (attempt {number} of {count}).");
            report(Narration::info("queen", "connect", message));
            match master::start(node, settings).await {
                Ok(master) => {
                    return Ok(Self(Arc::new(Inner {
                        label: session_label,
                        control_socket: master.control_socket,
                        commands: Semaphore::new(MAX_COMMANDS),
                        closed: master.closed,
                        _close: master.close,
                    })));
                }
                Err(error) if error.code == diagnostics::Code::SshUnreachable => {
                    let message = format!("Attempt {number} failed: {error}.");
                    report(Narration::warn("queen", "connect", message));
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The server as messages name it: `user@host:port`, without what is not set, and the node
    /// if this is the session of a link.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Whether both are the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits until the connection has ended; returns why.
    pub async fn closed(&self) -> Diagnostic {
        let mut closed = self.0.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| errors::lost(&self.0.label, ""))
    }

    /// Runs a command. Its status may be any; errors are those of the connection and of limits.
    pub async fn run(&self, command: &RemoteCommand) -> Result<Output, Diagnostic> {
        let line = command.line()?;
        let _permit = self.0.commands.acquire().await;
        let stdin = match &command.stdin {
            Input::Bytes(_) => Stdio::piped(),
            Input::File(file) => {
                let unusable = |e| errors::unusable_file(file, &e);
                let file = tokio::fs::File::open(file).await.map_err(unusable)?;
                Stdio::from(file.into_std().await)
            }
        };
        let mut child = options::through(&self.0.control_socket)
            .args([NO_HOST, &line])
            .stdin(stdin)
            .spawn()
            .map_err(|e| errors::no_ssh(&e))?;
        match timeout(command.limit, self.communicate(&mut child, command)).await {
            Ok(result) => result,
            Err(_) => Err(errors::command_timed_out(
                &self.0.label,
                command.name,
                command.limit,
            )),
        }
    }

    /// Runs a command; a status other than 0 is an error.
    pub async fn run_ok(&self, command: &RemoteCommand) -> Result<Output, Diagnostic> {
        let output = self.run(command).await?;
        if output.status == 0 {
            return Ok(output);
        }
        Err(errors::command_failed(
            &self.0.label,
            command.name,
            output.status,
            &output.stderr,
        ))
    }

    async fn communicate(
        &self,
        child: &mut Child,
        command: &RemoteCommand,
    ) -> Result<Output, Diagnostic> {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let (Some(mut stdin), Input::Bytes(bytes)) = (stdin, &command.stdin) {
                // A command that does not read its input closes it.
                let _ = stdin.write_all(bytes).await;
            }
        };
        let max_output = command.max_output + MARK.len();
        let output = async {
            let output = read_all(stdout, max_output).await;
            output.ok_or_else(|| {
                let problem = format!("more than {} bytes", command.max_output);
                errors::unexpected_output(&self.0.label, command.name, &problem)
            })
        };
        let ended = async {
            let (status, (), stderr) = tokio::join!(child.wait(), write, read_beginning(stderr));
            Ok((status.map_err(|e| errors::no_ssh(&e))?, stderr))
        };
        let (stdout, (status, stderr)) = tokio::try_join!(output, ended)?;
        let status = exit_status(status);
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        if status == SSH_FAILED {
            return Err(if self.exists().await {
                errors::command_without_status(&self.0.label, command.name, &stderr)
            } else {
                errors::lost(&self.0.label, &stderr)
            });
        }
        let Some(stdout) = after_mark(&stdout) else {
            // The login shell did not run the script.
            let shown = [String::from_utf8_lossy(&stdout).as_ref(), &stderr].concat();
            return Err(errors::unexpected_output(
                &self.0.label,
                command.name,
                &shown,
            ));
        };
        Ok(Output {
            status,
            stdout: stdout.to_owned(),
            stderr,
        })
    }

    /// Whether the connection still exists.
    async fn exists(&self) -> bool {
        let mut check = options::through(&self.0.control_socket);
        check.args(["-O", "check", NO_HOST]);
        matches!(timeout(CHECK_LIMIT, check.output()).await, Ok(Ok(output)) if output.status.success())
    }

    pub(crate) fn control_socket(&self) -> &Path {
        &self.0.control_socket
    }
}

/// Returns what follows the first mark.
fn after_mark(bytes: &[u8]) -> Option<&[u8]> {
    let mark = MARK.as_bytes();
    let start = bytes.windows(mark.len()).position(|part| part == mark)?;
    Some(&bytes[start + mark.len()..])
}

fn exit_status(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Reads to the end. `None` as soon as there are more than `limit` bytes.
async fn read_all(reader: Option<impl AsyncRead + Unpin>, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(reader) = reader {
        let mut reader = reader.take(limit as u64 + 1);
        let _ = reader.read_to_end(&mut bytes).await;
    }
    (bytes.len() <= limit).then_some(bytes)
}

/// Reads to the end. Keeps the first [`MAX_STDERR_BYTES`].
async fn read_beginning(reader: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut reader) = reader {
        let mut beginning = (&mut reader).take(MAX_STDERR_BYTES);
        let _ = beginning.read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_login_scripts_print_is_removed() {
        assert_eq!(after_mark(b"welcome\nrbee:begin\nx"), Some(&b"x"[..]));
        assert_eq!(after_mark(b"rbee:begin\n"), Some(&b""[..]));
        assert_eq!(after_mark(b"This account is not available.\n"), None);
    }

    #[tokio::test]
    async fn output_is_limited() {
        assert_eq!(read_all(Some(&[7; 11][..]), 10).await, None);
        assert_eq!(read_all(Some(&[7; 10][..]), 10).await, Some(vec![7; 10]));
        let endless = tokio::io::repeat(7);
        assert_eq!(read_all(Some(endless), 10).await, None);
        let long = tokio::io::repeat(7).take(2 * MAX_STDERR_BYTES);
        assert_eq!(
            read_beginning(Some(long)).await.len() as u64,
            MAX_STDERR_BYTES
        );
    }
}
