use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
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
const MAX_STDERR_BYTES: usize = 16 << 10;
/// Exit status of ssh if the connection fails (ssh(1)).
const CONNECTION_FAILED: i32 = 255;

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
                        label,
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

    /// The server as messages name it: `user@host:port`, without what is not set.
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
        let (status, (), stdout, stderr) = tokio::join!(
            child.wait(),
            write,
            read(stdout, max_output),
            read(stderr, MAX_STDERR_BYTES),
        );
        let status = exit_status(status.map_err(|e| errors::no_ssh(&e))?);
        let stderr = String::from_utf8_lossy(&stderr.bytes).into_owned();
        if status == CONNECTION_FAILED {
            return Err(errors::lost(&self.0.label, &stderr));
        }
        if stdout.is_cut_off {
            let problem = format!("more than {} bytes", command.max_output);
            return Err(errors::unexpected_output(
                &self.0.label,
                command.name,
                &problem,
            ));
        }
        let Some(stdout) = after_mark(&stdout.bytes) else {
            // The login shell did not run the script.
            let shown = [String::from_utf8_lossy(&stdout.bytes).as_ref(), &stderr].concat();
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

/// Bytes that were read, at most a limit.
#[derive(Debug, Default)]
pub(crate) struct Limited {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_cut_off: bool,
}

/// Reads to the end. Keeps the first `limit` bytes.
async fn read(reader: Option<impl AsyncRead + Unpin>, limit: usize) -> Limited {
    let mut limited = Limited::default();
    let Some(mut reader) = reader else {
        return limited;
    };
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count @ 1..) = reader.read(&mut chunk).await {
        let room = limit - limited.bytes.len();
        limited.bytes.extend_from_slice(&chunk[..count.min(room)]);
        limited.is_cut_off |= count > room;
    }
    limited
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
        let read = read(Some(&[7; 100][..]), 10).await;
        assert_eq!((read.bytes.len(), read.is_cut_off), (10, true));
        let read = super::read(Some(&[7; 10][..]), 10).await;
        assert_eq!((read.bytes.len(), read.is_cut_off), (10, false));
    }
}
