use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use daemon_shell::{ProcessIdentity, Signal};
use diagnostics::{Diagnostic, escape};
use state_files::DaemonRecord;
use tokio::{
    process::{Child, Command},
    time::{MissedTickBehavior, interval, timeout},
};
use worker_contract::FatalLine;

use crate::{
    Queen, QueenLifecycle, check_version,
    errors::{binary_does_not_start, start_failed},
    log, stop,
};

/// Maximum time from the start of the process to its first healthy response.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Interval at which a starting queen is polled.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Number of log lines that are read after a failed start.
const LOG_LINES: usize = 40;
/// Number of log lines in the error if they contain no reason.
const LOG_LINES_SHOWN: usize = 8;

/// Terminates the queen that is being started when the start is abandoned.
struct TerminateOnDrop(Option<ProcessIdentity>);

impl Drop for TerminateOnDrop {
    fn drop(&mut self) {
        if let Some(process) = self.0 {
            let _ = process.signal(Signal::Term);
        }
    }
}

impl QueenLifecycle {
    /// Starts a queen and waits until it responds. The caller holds the lock.
    pub(crate) async fn start(&self) -> Result<Queen, Diagnostic> {
        let mut child = self.spawn()?;
        let process = child.id().and_then(ProcessIdentity::of);
        let mut guard = TerminateOnDrop(process);
        let started = timeout(START_LIMIT, async {
            tokio::select! {
                status = child.wait() => Err(status),
                queen = self.until_healthy(process) => Ok(queen),
            }
        })
        .await;
        match started {
            Ok(Ok(queen)) => {
                if queen.is_ok() {
                    guard.0 = None;
                }
                queen
            }
            Ok(Err(status)) => {
                guard.0 = None;
                // A queen that was started by hand at the same time holds the home's lock.
                if let Ok(Some(queen)) = self.find().await {
                    return Ok(queen);
                }
                Err(self.exited(status))
            }
            Err(_) => {
                if let Some(process) = guard.0.take() {
                    stop::terminate(process, Duration::ZERO).await?;
                }
                Err(self.timed_out())
            }
        }
    }

    fn spawn(&self) -> Result<Child, Diagnostic> {
        let log = log::rotate(&self.log_path())?;
        let stderr = log.try_clone().map_err(Diagnostic::internal)?;
        Command::new(&self.launch.program)
            .args(self.launch.arguments(&self.home))
            .current_dir(self.home.path())
            // In a group of its own, it does not get the Ctrl+C of the keeper's terminal.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            .spawn()
            .map_err(|e| binary_does_not_start(&self.launch.program, &e))
    }

    async fn until_healthy(&self, process: Option<ProcessIdentity>) -> Result<Queen, Diagnostic> {
        let mut poll = interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            poll.tick().await;
            let Some(record) = DaemonRecord::read(&self.home.queen_record())? else {
                continue;
            };
            if Some(record.process) != process {
                // The record of an earlier queen, which the new one will overwrite.
                continue;
            }
            check_version(&record.version, record.api_version)?;
            let client = self.client(&record)?;
            if let Ok(health) = client.health().await {
                check_version(&health.version, health.api_version)?;
                return Ok(Queen {
                    client,
                    process: record.process,
                    version: health.version,
                    started_by_us: true,
                });
            }
        }
    }

    fn exited(&self, status: io::Result<ExitStatus>) -> Diagnostic {
        let how = match status {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        let log = log::tail(&self.log_path(), LOG_LINES).unwrap_or_default();
        explain(&format!("the queen exited during startup ({how})"), &log)
    }

    fn timed_out(&self) -> Diagnostic {
        let log = log::tail(&self.log_path(), LOG_LINES).unwrap_or_default();
        explain(
            &format!(
                "the queen did not respond within {} s after its start and was stopped",
                START_LIMIT.as_secs()
            ),
            &log,
        )
    }
}

/// The reason for a failed start: the queen's own, else `what` with the end of the log.
fn explain(what: &str, log: &str) -> Diagnostic {
    if let Some(reason) = fatal_line(log) {
        return with_keeper_flags(reason);
    }
    let mut lines: Vec<String> = log
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(escape)
        .collect();
    lines.drain(..lines.len().saturating_sub(LOG_LINES_SHOWN));
    start_failed(what, &lines)
}

/// The error in a [`FatalLine`] at the end of a log.
fn fatal_line(log: &str) -> Option<Diagnostic> {
    let last = log.trim_end().lines().next_back()?;
    let FatalLine { fatal } = serde_json::from_str(last).ok()?;
    Some(fatal)
}

/// Replaces the queen's flag for its port by the keeper's in the hint.
fn with_keeper_flags(mut reason: Diagnostic) -> Diagnostic {
    reason.hint = reason
        .hint
        .map(|hint| hint.replace("`--port`", "`--queen-port`"));
    reason
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn the_fatal_line_of_the_queen_is_the_error() {
        let line = r#"{"fatal":{"code":"STATE_TOO_NEW","message":"m","hint":"h"}}"#;
        let error = explain("the queen exited", &format!("INFO starting\n{line}\n"));
        assert_eq!(error, Diagnostic::new(Code::StateTooNew, "m").hint("h"));
    }

    #[test]
    fn without_a_fatal_line_the_error_ends_with_the_escaped_log() {
        let error = explain("the queen exited (exit status: 3)", "a\n\n\u{1b}[31mb\n");
        assert_eq!(error.code, Code::QueenStartFailed);
        assert_eq!(
            error.message,
            "the queen exited (exit status: 3); its log ends with:\n  a\n  \\u{1b}[31mb"
        );
        let nine_lines = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        assert_eq!(
            explain("x", nine_lines).message,
            "x; its log ends with:\n  2\n  3\n  4\n  5\n  6\n  7\n  8\n  9"
        );
        assert_eq!(explain("x", "").message, "x; its log is empty");
    }

    #[test]
    fn the_hint_for_a_taken_port_names_the_flag_of_the_keeper() {
        let line =
            r#"{"fatal":{"code":"PORT_IN_USE","message":"m","hint":"choose with `--port`"}}"#;
        let error = explain("the queen exited", line);
        assert_eq!(error.code, Code::PortInUse);
        assert_eq!(error.hint.as_deref(), Some("choose with `--queen-port`"));
    }
}
