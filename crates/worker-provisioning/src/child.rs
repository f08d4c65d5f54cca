//! Processes that end in time, with everything that they have started.

use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use daemon_shell::{ProcessIdentity, blocking};
use diagnostics::Diagnostic;
use rustix::process::{Pid, Signal, kill_process_group};
use state_files::{BuildRecord, StagingDir};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::errors;

/// Time to read what a process has written after it exited.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// How often, and how long, to wait for a program that is busy.
const BUSY_ATTEMPTS: usize = 20;
const BUSY_DELAY: Duration = Duration::from_millis(50);
/// Bytes that are read at once.
const BLOCK: usize = 16 * 1024;

/// A program with its arguments and limits.
pub(crate) struct Program<'a> {
    /// What it does, for errors: "the build of x".
    pub(crate) what: &'a str,
    pub(crate) executable: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) dir: &'a Path,
    /// The variable `PATH`.
    pub(crate) path: &'a OsString,
    pub(crate) env: &'a [(&'a str, &'a str)],
    pub(crate) limit: Duration,
    /// Maximum size of the output, in bytes. It is killed when it writes more.
    pub(crate) output_limit: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited(ExitStatus),
    /// It was killed at its time limit.
    TooSlow,
    /// It was killed at the limit of its output.
    TooMuchOutput,
}

/// Variables that change where and what cargo builds.
const REMOVED: [&str; 4] = [
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "RUSTC_WRAPPER",
];

impl Program<'_> {
    /// Runs the program in a process group of its own, recorded in `staging`. `output` gets what it
    /// writes to both streams. When the function returns, no process of the group is left.
    ///
    /// Errors: `CANCELLED`, and `STATE_UNUSABLE` if it cannot be started.
    pub(crate) async fn run(
        self,
        staging: &StagingDir,
        cancel: &CancellationToken,
        mut output: impl FnMut(&[u8]),
    ) -> Result<End, Diagnostic> {
        if cancel.is_cancelled() {
            return Err(errors::cancelled(self.what));
        }
        let (reader, writer) = io::pipe().map_err(Diagnostic::internal)?;
        let mut reader =
            pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(Diagnostic::internal)?;
        let spawned = {
            let mut command = Command::new(&self.executable);
            command
                .args(&self.args)
                .current_dir(self.dir)
                .env("PATH", self.path)
                .envs(self.env.iter().copied())
                .stdin(Stdio::null())
                .stdout(writer.try_clone().map_err(Diagnostic::internal)?)
                .stderr(writer)
                .process_group(0)
                .kill_on_drop(true);
            for name in REMOVED {
                command.env_remove(name);
            }
            spawn(&mut command).await
            // The command holds the other end of the pipe.
        };
        let child = spawned.map_err(|e| errors::does_not_start(self.what, &self.executable, &e))?;
        let mut group = Group { child };
        let identity = group.child.id().and_then(ProcessIdentity::of);
        if let Some(process) = identity {
            let staging = staging.clone();
            blocking(move || BuildRecord { process }.write(&staging)).await?;
        }

        let mut block = vec![0; BLOCK];
        let mut size = 0_u64;
        let mut is_open = true;
        let expired = sleep(self.limit);
        let gone = async {
            if let Some(identity) = identity {
                identity.gone().await;
            }
        };
        tokio::pin!(expired, gone);
        let early = loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    group.end().await?;
                    return Err(errors::cancelled(self.what));
                }
                read = reader.read(&mut block), if is_open => match read {
                    Ok(0) | Err(_) => is_open = false,
                    Ok(read) => {
                        size += read as u64;
                        output(&block[..read]);
                        if size > self.output_limit {
                            break Some(End::TooMuchOutput);
                        }
                    }
                },
                () = &mut gone => break None,
                () = &mut expired => break Some(End::TooSlow),
            }
        };
        let status = group.end().await?;
        if is_open && early.is_none() {
            let rest = async {
                while let Ok(read @ 1..) = reader.read(&mut block).await {
                    size += read as u64;
                    if size > self.output_limit {
                        return;
                    }
                    output(&block[..read]);
                }
            };
            let _ = timeout(DRAIN_LIMIT, rest).await;
        }
        Ok(early.unwrap_or(End::Exited(status)))
    }
}

/// Starts a program. One that this process has just written is busy while another process, which
/// was forked in the meantime, has not executed its own program yet.
async fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..BUSY_ATTEMPTS {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => sleep(BUSY_DELAY).await,
            spawned => return spawned,
        }
    }
    command.spawn()
}

/// A child with its process group, which is killed when the value is dropped.
struct Group {
    child: Child,
}

impl Group {
    /// Kills what is left of the group and returns how its leader exited.
    async fn end(&mut self) -> Result<ExitStatus, Diagnostic> {
        self.kill();
        self.child.wait().await.map_err(Diagnostic::internal)
    }

    /// The leader has not been waited for, so no other process can have its pid.
    fn kill(&self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(
        script: &str,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> (Result<End, Diagnostic>, String) {
        let dir = tempfile::tempdir().unwrap();
        let dirs = state_files::BinaryDirs::new(dir.path().to_owned());
        let staging = dirs.staging("x");
        std::fs::create_dir_all(staging.path()).unwrap();
        let mut text = Vec::new();
        let end = Program {
            what: "the test",
            executable: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            dir: dir.path(),
            path: &std::env::var_os("PATH").unwrap(),
            env: &[("X", "1")],
            limit,
            output_limit: 1000,
        }
        .run(&staging, cancel, |bytes| text.extend_from_slice(bytes))
        .await;
        (end, String::from_utf8(text).unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);

    /// Whether a process with this pid, which the script printed, is running.
    fn runs(text: &str) -> bool {
        ProcessIdentity::of(text.trim().parse().unwrap()).is_some()
    }

    #[tokio::test]
    async fn output_and_status_are_those_of_the_program() {
        let none = CancellationToken::new();
        let (end, text) = shell("echo out $X; echo err >&2; exit 3", LONG, &none).await;
        let Ok(End::Exited(status)) = end else {
            panic!("{end:?}");
        };
        assert_eq!((status.code(), text.as_str()), (Some(3), "out 1\nerr\n"));
    }

    #[tokio::test]
    async fn nothing_that_it_has_started_is_left() {
        let none = CancellationToken::new();
        let (end, text) = shell("sleep 60 >/dev/null 2>&1 & echo $!", LONG, &none).await;
        assert!(matches!(end, Ok(End::Exited(_))), "{end:?}");
        bdd::eventually(LONG, || async {
            if runs(&text) { Err("it runs") } else { Ok(()) }
        })
        .await;
    }

    #[tokio::test]
    async fn time_and_output_are_limited() {
        let none = CancellationToken::new();
        let short = Duration::from_millis(50);
        let (end, _) = shell("sleep 60", short, &none).await;
        assert_eq!(end, Ok(End::TooSlow));
        let (end, _) = shell("while :; do echo aaaaaaaaaaaaaaaaa; done", LONG, &none).await;
        assert_eq!(end, Ok(End::TooMuchOutput));
    }

    #[tokio::test]
    async fn a_cancelled_program_ends() {
        let cancel = CancellationToken::new();
        let later = cancel.clone();
        tokio::spawn(async move { later.cancel() });
        let (end, _) = shell("sleep 60", LONG, &cancel).await;
        assert_eq!(end.unwrap_err().message, "the test was cancelled");
    }
}
