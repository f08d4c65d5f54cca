//! Suspends this machine by a command of its system.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use diagnostics::{Code, Diagnostic, excerpt};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// What suspends a machine.
pub const DEFAULT_COMMAND: &str = if cfg!(target_os = "macos") {
    "pmset sleepnow"
} else {
    "systemctl suspend"
};
/// A command that runs for this long has been accepted: some return only after the machine has
/// resumed.
const ACCEPTED_AFTER: Duration = Duration::from_secs(3);
/// Most of the command's messages that an error shows.
const SHOWN_CHARS: usize = 400;

/// The command that suspends this machine.
#[derive(Debug, Clone)]
pub struct SuspendCommand {
    line: String,
    words: Vec<String>,
}

impl SuspendCommand {
    /// Splits a command line as a shell does, without executing one.
    pub fn parse(line: &str) -> Result<Self, Diagnostic> {
        match shell_words::split(line) {
            Ok(words) if !words.is_empty() => Ok(Self {
                line: line.to_owned(),
                words,
            }),
            _ => Err(not_a_command(line)),
        }
    }

    /// Whether it is that of the system, which can do what the kernel can.
    pub fn is_default(&self) -> bool {
        self.line == DEFAULT_COMMAND
    }

    /// Starts the command, and returns when it has succeeded or runs for some time.
    ///
    /// Errors: [`Code::SuspendFailed`] with its messages.
    pub async fn run(&self) -> Result<(), Diagnostic> {
        let mut words = self.words.iter();
        let Some(program) = words.next() else {
            return Err(not_a_command(&self.line));
        };
        let mut command = Command::new(program);
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = command.spawn().map_err(|e| self.not_started(&e))?;
        tracing::info!(command = self.line, "suspending this machine");
        // Of its own, so that a command that takes longer is waited for all the same.
        let mut ending = tokio::spawn(end(child));
        match timeout(ACCEPTED_AFTER, &mut ending).await {
            Ok(Ok(Ok((status, _)))) if status.success() => Ok(()),
            Ok(Ok(Ok((status, messages)))) => Err(self.failed(status, &messages)),
            Ok(Ok(Err(error))) => Err(self.not_started(&error)),
            Ok(Err(panic)) => Err(Diagnostic::internal(panic)),
            Err(_) => {
                let this = self.clone();
                tokio::spawn(async move {
                    if let Ok(Ok((status, messages))) = ending.await
                        && !status.success()
                    {
                        let error = this.failed(status, &messages);
                        tracing::warn!(%error, "this machine was not suspended");
                    }
                });
                Ok(())
            }
        }
    }

    fn not_started(&self, error: &io::Error) -> Diagnostic {
        let line = excerpt(&self.line, SHOWN_CHARS);
        Diagnostic::new(
            Code::SuspendFailed,
            format!("`{line}` cannot be executed: {error}"),
        )
        .hint(OTHER_COMMAND)
    }

    fn failed(&self, status: ExitStatus, messages: &str) -> Diagnostic {
        let line = excerpt(&self.line, SHOWN_CHARS);
        let messages = excerpt(messages.trim(), SHOWN_CHARS);
        let messages = match messages.as_str() {
            "" => "no message".to_owned(),
            _ => messages,
        };
        let hint = if self.is_default() && cfg!(target_os = "linux") {
            format!(
                "permit the user of rbee-hive to suspend the machine: with polkit, a rule that returns \
                 YES for the action `org.freedesktop.login1.suspend` (docs/sleep.md shows one). Or \
                 {OTHER_COMMAND}"
            )
        } else {
            OTHER_COMMAND.to_owned()
        };
        Diagnostic::new(
            Code::SuspendFailed,
            format!("`{line}` failed ({status}): {messages}"),
        )
        .hint(hint)
    }
}

const OTHER_COMMAND: &str = "start the hive with a command that suspends the machine: \
     `rbee-hive --suspend-command COMMAND`, or the variable `RBEE_SUSPEND_COMMAND`";

async fn end(child: Child) -> io::Result<(ExitStatus, String)> {
    let output = child.wait_with_output().await?;
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status, messages))
}

fn not_a_command(line: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("not a command: \"{}\"", excerpt(line, SHOWN_CHARS)),
    )
    .hint("write a program and its arguments, such as `systemctl suspend`")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(line: &str) -> Result<(), Diagnostic> {
        SuspendCommand::parse(line)?.run().await
    }

    #[tokio::test]
    async fn a_command_that_fails_is_named_with_its_exit_and_messages() {
        assert_eq!(run("true").await, Ok(()));
        let error = run(r"sh -c 'printf \033[31mno >&2; exit 3'").await;
        let error = error.unwrap_err();
        assert_eq!(error.code, Code::SuspendFailed);
        assert!(error.message.contains("exit status: 3"), "{error}");
        assert!(!error.message.contains('\u{1b}'), "{error}");
        assert!(error.message.contains("[31mno"), "{error}");
        let hint = error.hint.unwrap();
        assert!(hint.contains("--suspend-command"), "{hint}");
        let error = run("/nowhere/suspend now").await.unwrap_err();
        assert!(
            error
                .message
                .contains("`/nowhere/suspend now` cannot be executed")
        );
    }

    #[test]
    fn the_default_names_the_rule_that_is_missing() {
        let command = SuspendCommand::parse("systemctl suspend").unwrap();
        let error = command.failed(ExitStatus::default(), "Access denied\n");
        assert!(error.message.ends_with("Access denied"), "{error}");
        assert!(error.hint.unwrap().contains("polkit"));
        for bad in ["", "  ", "a 'b"] {
            let error = SuspendCommand::parse(bad).unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_command_that_lasts_has_been_accepted() {
        assert_eq!(run("sleep 4").await, Ok(()));
    }
}
