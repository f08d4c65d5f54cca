//! All that the program prints, and nothing else prints. Results go to standard output,
//! narration and errors to standard error.

pub mod style;
pub mod text;

use std::io::{self, ErrorKind, IsTerminal as _};

use diagnostics::{Code, Diagnostic, ErrorBody, Narration};
use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, Stderr, Stdout};
use worker_contract::TokenEvent;

use self::{style::Style, text::Footer};
use crate::failure::Failure;

/// The form of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// `--json`: one JSON document, errors included.
    Document,
    /// `infer --json`: one JSON object a line for each event, errors and narration included.
    Events,
}

/// A line of [`Format::Events`].
#[derive(Serialize)]
struct EventLine<'a, T> {
    event: &'a str,
    data: &'a T,
}

/// Standard output and standard error. Their writers do not block the program, so that
/// Ctrl+C is heard while nobody reads.
pub struct Screen {
    stdout: Stdout,
    stderr: Stderr,
    format: Format,
    quiet: bool,
    to_terminal: bool,
    style: Style,
    /// Text was written and its line is not ended yet.
    in_line: bool,
}

impl Screen {
    /// The process's own standard output and standard error.
    pub fn new(format: Format, quiet: bool) -> Self {
        let coloured = style::wanted(
            io::stderr().is_terminal(),
            std::env::var("NO_COLOR").ok().as_deref(),
            std::env::var("TERM").ok().as_deref(),
        );
        Self {
            stdout: tokio::io::stdout(),
            stderr: tokio::io::stderr(),
            format,
            quiet,
            to_terminal: io::stdout().is_terminal(),
            style: Style { coloured },
            in_line: false,
        }
    }

    /// The result of a command: `json` as it is, or `text`, which is harmless already.
    pub async fn document(
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

    /// A log: foreign text.
    pub async fn log(&mut self, log: &str) -> Result<(), Failure> {
        let harmless = self.harmless(log);
        self.document(&serde_json::json!({ "log": log }), || harmless)
            .await
    }

    /// Text of this program's own, whatever the format.
    pub async fn own_text(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.write(text).await
    }

    /// An event of an answer that only programs want to see.
    pub async fn event(
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

    /// A token of an answer.
    pub async fn token(&mut self, token: &TokenEvent) -> Result<(), Failure> {
        if self.format == Format::Events {
            return self.event("token", token).await;
        }
        if token.t.is_empty() {
            return Ok(());
        }
        let text = self.harmless(&token.t);
        self.in_line = !text.ends_with('\n');
        self.write(text.as_bytes()).await
    }

    /// The end of an answer: its figures.
    pub async fn footer(&mut self, footer: &Footer) -> Result<(), Failure> {
        self.end_line().await?;
        if self.format != Format::Events && !self.quiet {
            self.tell(&text::footer(footer, self.style)).await;
        }
        Ok(())
    }

    /// What happens meanwhile.
    pub async fn narrate(&mut self, narration: &Narration) -> Result<(), Failure> {
        if self.format == Format::Events {
            return self.event("narration", narration).await;
        }
        if !self.quiet {
            // Not into the middle of the answer's line on the same terminal.
            if self.in_line && self.to_terminal {
                self.tell("\n").await;
            }
            self.tell(&text::narration(narration, self.style)).await;
        }
        Ok(())
    }

    /// Why the command did not do what it was asked to.
    pub async fn failure(&mut self, failure: &Failure) {
        if *failure == Failure::OutputClosed {
            return;
        }
        // Nothing is left to be done about a standard output that fails as well.
        let _ = self.end_line().await;
        let interrupted = Diagnostic::new(Code::Cancelled, "interrupted");
        let diagnostic = failure.diagnostic().unwrap_or(&interrupted);
        let _ = match self.format {
            Format::Text => Ok(()),
            Format::Document => {
                self.document(&ErrorBody::from(diagnostic.clone()), String::new)
                    .await
            }
            Format::Events => self.event("error", diagnostic).await,
        };
        if let Some(diagnostic) = failure.diagnostic() {
            self.tell(&text::error(diagnostic, self.style)).await;
        }
    }

    /// What is wrong with the command line, in clap's words.
    pub async fn usage(&mut self, message: &str) {
        self.tell(&text::usage(message, self.style)).await;
    }

    async fn end_line(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.in_line) {
            self.write(b"\n").await?;
        }
        Ok(())
    }

    fn harmless(&self, text: &str) -> String {
        if self.to_terminal {
            text::for_terminal(text)
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
            ErrorKind::StorageFull => {
                Diagnostic::new(Code::DiskFull, format!("cannot write the output: {e}")).into()
            }
            _ => Diagnostic::internal(format!("cannot write the output: {e}")).into(),
        })
    }

    /// Standard error that cannot be written to is not worth failing for.
    async fn tell(&mut self, text: &str) {
        let _ = self.stderr.write_all(text.as_bytes()).await;
        let _ = self.stderr.flush().await;
    }
}
