use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use daemon_shell::{ProcessIdentity, Signal};
use diagnostics::{Code, Diagnostic, escape};
use state_files::DaemonRecord;
use tokio::{
    process::{Child, Command},
    time::{MissedTickBehavior, interval, timeout},
};
use worker_contract::FatalLine;

use crate::{Launch, Queen, QueenLifecycle, log, stop};

/// Longest from the start of the process to its first healthy answer.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often a starting queen is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of the log that are searched for the reason of a failed start.
const LOG_END: usize = 40;
/// Lines of the log that a failed start tells when it finds no reason.
const LAST_WORDS: usize = 8;

/// Ends the queen that is being started when the start is given up.
struct Unfinished(Option<ProcessIdentity>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(process) = self.0 {
            let _ = process.signal(Signal::Term);
        }
    }
}

impl QueenLifecycle {
    /// Starts a queen and waits until it answers. The caller holds the lock.
    pub(crate) async fn start(&self) -> Result<Queen, Diagnostic> {
        let mut child = self.spawn()?;
        let process = child.id().and_then(ProcessIdentity::of);
        let mut unfinished = Unfinished(process);
        let started = timeout(START_LIMIT, async {
            tokio::select! {
                status = child.wait() => Err(status),
                queen = self.until_it_answers(process) => Ok(queen),
            }
        })
        .await;
        match started {
            Ok(Ok(queen)) => {
                if queen.is_ok() {
                    unfinished.0 = None;
                }
                queen
            }
            Ok(Err(status)) => {
                unfinished.0 = None;
                // Someone may have started one by hand; then ours gave way to it.
                if let Ok(Some(queen)) = self.find().await {
                    return Ok(queen);
                }
                Err(self.ended(status))
            }
            Err(_) => {
                if let Some(process) = unfinished.0.take() {
                    stop::end(process, Duration::ZERO).await?;
                }
                Err(self.never_answered())
            }
        }
    }

    fn spawn(&self) -> Result<Child, Diagnostic> {
        let log = log::rotate(&self.log_path())?;
        let errors = log.try_clone().map_err(Diagnostic::internal)?;
        Command::new(&self.launch.program)
            .args(self.launch.arguments(&self.home))
            .current_dir(self.home.path())
            // A group of its own, so that Ctrl+C at the keeper's terminal does not reach it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|e| cannot_run(&self.launch, &e))
    }

    async fn until_it_answers(
        &self,
        process: Option<ProcessIdentity>,
    ) -> Result<Queen, Diagnostic> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let Some(record) = DaemonRecord::read(&self.home.queen_record())? else {
                continue;
            };
            if Some(record.process) != process {
                // Of an earlier queen; the new one overwrites it.
                continue;
            }
            crate::check_version(&record.version, record.api_version)?;
            let client = self.client(&record)?;
            if let Ok(health) = client.health().await {
                crate::check_version(&health.version, health.api_version)?;
                return Ok(Queen {
                    client,
                    process: record.process,
                    version: health.version,
                    started_by_us: true,
                });
            }
        }
    }

    fn ended(&self, status: io::Result<ExitStatus>) -> Diagnostic {
        let how = match status {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        let words = log::tail(&self.log_path(), LOG_END).unwrap_or_default();
        failure(&format!("the queen ended while it started ({how})"), &words)
    }

    fn never_answered(&self) -> Diagnostic {
        let words = log::tail(&self.log_path(), LOG_END).unwrap_or_default();
        failure(
            &format!(
                "the queen did not answer within {} s of its start and was ended",
                START_LIMIT.as_secs()
            ),
            &words,
        )
    }
}

/// Why a start failed: the queen's own reason, else what happened with its last words.
fn failure(what: &str, log: &str) -> Diagnostic {
    if let Some(reason) = fatal_line(log) {
        return in_keepers_terms(reason);
    }
    let mut words: Vec<String> = log
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(escape)
        .collect();
    words.drain(..words.len().saturating_sub(LAST_WORDS));
    let message = if words.is_empty() {
        format!("{what}; its log is empty")
    } else {
        format!("{what}; its log ends with:\n  {}", words.join("\n  "))
    };
    Diagnostic::new(Code::QueenStartFailed, message)
        .hint("`rbee-keeper queen logs` shows the rest of the log")
}

/// A last line `{"fatal": …}`.
fn fatal_line(log: &str) -> Option<Diagnostic> {
    let last = log.trim_end().lines().next_back()?;
    let FatalLine { fatal } = serde_json::from_str(last).ok()?;
    Some(fatal)
}

/// The queen names its own flag for the port; here it has another name.
fn in_keepers_terms(mut reason: Diagnostic) -> Diagnostic {
    reason.hint = reason
        .hint
        .map(|hint| hint.replace("`--port`", "`--queen-port`"));
    reason
}

fn cannot_run(launch: &Launch, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::QueenStartFailed,
        format!("cannot run {}: {error}", launch.program.display()),
    )
    .hint("`queen-rbee` is expected beside `rbee-keeper`; `--queen-binary` names another place")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queens_own_reason_is_the_reason() {
        let line = r#"{"fatal":{"code":"STATE_TOO_NEW","message":"m","hint":"h"}}"#;
        let told = failure("the queen ended", &format!("INFO starting\n{line}\n"));
        assert_eq!(told, Diagnostic::new(Code::StateTooNew, "m").hint("h"));
    }

    #[test]
    fn without_one_the_last_words_are_told_harmlessly() {
        let told = failure("the queen ended (exit status: 3)", "a\n\n\u{1b}[31mb\n");
        assert_eq!(told.code, Code::QueenStartFailed);
        assert_eq!(
            told.message,
            "the queen ended (exit status: 3); its log ends with:\n  a\n  \\u{1b}[31mb"
        );
        assert!(failure("x", "").message.ends_with("its log is empty"));
    }

    #[test]
    fn a_taken_port_is_told_with_the_keepers_flag() {
        let line =
            r#"{"fatal":{"code":"PORT_IN_USE","message":"m","hint":"choose with `--port`"}}"#;
        let told = failure("the queen ended", line);
        assert_eq!(told.code, Code::PortInUse);
        assert_eq!(told.hint.as_deref(), Some("choose with `--queen-port`"));
    }
}
