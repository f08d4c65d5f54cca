//! Everything that the keeper prints. Results go to standard output, narration and errors to
//! standard error. No other module prints.

pub(crate) mod binaries;
pub(crate) mod decisions;
pub(crate) mod deployments;
pub(crate) mod doctor;
pub(crate) mod engines;
mod fit;
pub(crate) mod models;
pub(crate) mod nodes;
pub(crate) mod packages;
pub(crate) mod policy;
pub(crate) mod power;
mod style;
pub(crate) mod table;
pub(crate) mod text;
mod transfer;
pub(crate) mod yields;

pub(crate) use transfer::Transfer;

use std::{
    io::{self, ErrorKind, IsTerminal as _, Write as _},
    time::Duration,
};

use diagnostics::{Diagnostic, ErrorBody, Narration};
use queen_contract::Waiting;
use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt as _, Stderr, Stdout},
    time::timeout,
};
use worker_contract::TokenEvent;

use self::{style::Style, text::Footer};
use crate::{errors, failure::Failure};

/// Limit for the output after an interrupt: the process exits even if nothing reads its
/// standard output.
const INTERRUPTED_LIMIT: Duration = Duration::from_millis(200);

/// Output format of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for display.
    Text,
    /// `--json`: one JSON document, also for an error.
    Document,
    /// `infer --json`: one JSON object per line for each event, narration and error.
    Events,
}

/// A line of [`Format::Events`].
#[derive(Serialize)]
struct EventLine<'a, T> {
    event: &'a str,
    data: &'a T,
}

/// Standard output and standard error. Writes are asynchronous, so that Ctrl+C is handled
/// even if the output is not being read.
pub(crate) struct Screen {
    stdout: Stdout,
    stderr: Stderr,
    format: Format,
    quiet: bool,
    stdout_is_terminal: bool,
    style: Style,
    /// The last text written to standard output does not end with a line break.
    in_line: bool,
    hides_reasoning: bool,
    /// Reasoning was written to standard error, and nothing else since.
    in_reasoning: bool,
}

/// Prints an error to standard error without an async runtime.
pub(crate) fn print_error_blocking(error: &Diagnostic) {
    let text = text::error(error, Style::for_stderr());
    let _ = io::stderr().write_all(text.as_bytes());
}

impl Screen {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        Self {
            stdout: tokio::io::stdout(),
            stderr: tokio::io::stderr(),
            format,
            quiet,
            stdout_is_terminal: io::stdout().is_terminal(),
            style: Style::for_stderr(),
            in_line: false,
            hides_reasoning: quiet,
            in_reasoning: false,
        }
    }

    /// Leaves reasoning out of the text. It is always left out by `--quiet`.
    pub(crate) fn hide_reasoning(&mut self, hide: bool) {
        self.hides_reasoning |= hide;
    }

    /// Prints the result of a command: `json` in the JSON formats, else `text`, which must be
    /// escaped already.
    pub(crate) async fn document(
        &mut self,
        json: &(impl Serialize + Sync),
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let result = match self.format {
            Format::Text => text(),
            Format::Document | Format::Events => {
                serde_json::to_string_pretty(json).map_err(Diagnostic::internal)? + "\n"
            }
        };
        self.write(result.as_bytes()).await
    }

    /// Prints a log, which is untrusted text.
    pub(crate) async fn log(&mut self, log: &str) -> Result<(), Failure> {
        let text = self.escape_for_stdout(log);
        self.document(&serde_json::json!({ "log": log }), || text)
            .await
    }

    /// Prints text of the keeper itself, such as help, in any format.
    pub(crate) async fn plain(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.write(text).await
    }

    /// Prints an event in [`Format::Events`], nothing in other formats.
    pub(crate) async fn event(
        &mut self,
        name: &str,
        data: &(impl Serialize + Sync),
    ) -> Result<(), Failure> {
        if self.format != Format::Events {
            return Ok(());
        }
        let line = EventLine { event: name, data };
        let line = serde_json::to_string(&line).map_err(Diagnostic::internal)? + "\n";
        self.write(line.as_bytes()).await
    }

    /// Prints a token of a completion.
    pub(crate) async fn token(&mut self, token: &TokenEvent) -> Result<(), Failure> {
        if self.format == Format::Events {
            return self.event("token", token).await;
        }
        self.reasoning(&token.reasoning).await;
        if token.t.is_empty() {
            return Ok(());
        }
        self.end_reasoning().await;
        let text = self.escape_for_stdout(&token.t);
        self.in_line = !text.ends_with('\n');
        self.write(text.as_bytes()).await
    }

    /// Prints reasoning to standard error, so that standard output has the answer only.
    async fn reasoning(&mut self, text: &str) {
        if text.is_empty() || self.hides_reasoning {
            return;
        }
        let text = self.style.dim(&text::escape_for_terminal(text));
        self.in_reasoning = true;
        self.write_stderr(&text).await;
    }

    /// Separates reasoning from what follows.
    async fn end_reasoning(&mut self) {
        if std::mem::take(&mut self.in_reasoning) {
            self.write_stderr("\n\n").await;
        }
    }

    /// Ends the completion and prints its statistics.
    pub(crate) async fn footer(&mut self, footer: &Footer) -> Result<(), Failure> {
        self.end_reasoning().await;
        self.end_line().await?;
        if self.format != Format::Events && !self.quiet {
            self.write_stderr(&text::footer(footer, self.style)).await;
        }
        Ok(())
    }

    pub(crate) async fn narrate(&mut self, narration: &Narration) -> Result<(), Failure> {
        if self.format == Format::Events {
            return self.event("narration", narration).await;
        }
        if !self.quiet {
            self.end_reasoning().await;
            // On a terminal, the narration would continue the line of the completion.
            if self.in_line && self.stdout_is_terminal {
                self.write_stderr("\n").await;
            }
            self.write_stderr(&text::narration(narration, self.style))
                .await;
        }
        Ok(())
    }

    /// Prints why a request waits, and its position.
    pub(crate) async fn waiting(&mut self, waiting: &Waiting) -> Result<(), Failure> {
        if self.format == Format::Events {
            return self.event("waiting", waiting).await;
        }
        let narration = Narration::info("queen", "wait", waiting.message.as_str());
        self.narrate(&narration).await
    }

    /// The text of a narration, which is empty if none is printed.
    pub(crate) fn narration(&self, narration: &Narration) -> String {
        if self.quiet {
            String::new()
        } else {
            text::narration(narration, self.style)
        }
    }

    /// Prints what was changed in the request or ignored, where the event that says so is not
    /// printed.
    pub(crate) async fn notes(&mut self, notes: &[String]) -> Result<(), Failure> {
        if self.format != Format::Events {
            for note in notes {
                let warning = Narration::warn("worker", "note", note);
                self.narrate(&warning).await?;
            }
        }
        Ok(())
    }

    /// Prints the error of a failed command.
    pub(crate) async fn failure(&mut self, failure: &Failure) {
        match failure {
            Failure::Reported | Failure::OutputClosed => {}
            Failure::Interrupted(_) => {
                let error = errors::interrupted();
                let _ = timeout(INTERRUPTED_LIMIT, self.end_results(&error)).await;
            }
            Failure::Failed(error) | Failure::Usage(error) => {
                self.end_reasoning().await;
                // A second failure, of standard output, is not reported.
                let _ = self.end_results(error).await;
                self.write_stderr(&text::error(error, self.style)).await;
            }
        }
    }

    /// Ends a line of text, or prints the error in the JSON formats.
    async fn end_results(&mut self, error: &Diagnostic) -> Result<(), Failure> {
        match self.format {
            Format::Text => self.end_line().await,
            Format::Document => {
                self.document(&ErrorBody::from(error.clone()), String::new)
                    .await
            }
            Format::Events => self.event("error", error).await,
        }
    }

    /// Prints clap's message about an invalid command line.
    pub(crate) async fn usage_error(&mut self, message: &str) {
        self.write_stderr(&text::usage_error(message, self.style))
            .await;
    }

    async fn end_line(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.in_line) {
            self.write(b"\n").await?;
        }
        Ok(())
    }

    fn escape_for_stdout(&self, text: &str) -> String {
        if self.stdout_is_terminal {
            text::escape_for_terminal(text)
        } else {
            text.to_owned()
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut write = async || {
            self.stdout.write_all(bytes).await?;
            self.stdout.flush().await
        };
        write().await.map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => errors::output_failed(&e).into(),
        })
    }

    /// Ignores write errors: a command does not fail because standard error is closed.
    async fn write_stderr(&mut self, text: &str) {
        let _ = self.stderr.write_all(text.as_bytes()).await;
        let _ = self.stderr.flush().await;
    }
}
