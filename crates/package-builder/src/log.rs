use std::{
    collections::VecDeque,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use diagnostics::{Diagnostic, excerpt};

use crate::{BuildEvent, errors};

/// Bytes of a line at most; the rest of a longer one is the next line.
const LINE: usize = 4096;
/// Lines that are remembered for error messages.
const RECENT: usize = 200;
/// Lines of an error message.
const SHOWN: usize = 5;
/// Characters of a line in an error message.
const EXCERPT: usize = 300;

/// The log of a build. Everything in it is escaped.
pub(crate) struct Log<'a> {
    file: BufWriter<File>,
    written: u64,
    recent: VecDeque<String>,
    listener: &'a (dyn Fn(BuildEvent) + Send + Sync),
}

/// The unfinished line of a stream.
#[derive(Debug, Default)]
pub(crate) struct Partial(Vec<u8>);

impl<'a> Log<'a> {
    pub(crate) fn create(
        path: &Path,
        listener: &'a (dyn Fn(BuildEvent) + Send + Sync),
    ) -> Result<Self, Diagnostic> {
        let create = || {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            File::create(path)
        };
        let file = create().map_err(|e| errors::storage("create", path, &e))?;
        Ok(Self {
            file: BufWriter::new(file),
            written: 0,
            recent: VecDeque::new(),
            listener,
        })
    }

    /// Bytes in the log.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Sends an event.
    pub(crate) fn event(&self, event: BuildEvent) {
        (self.listener)(event);
    }

    /// Says what the build does.
    pub(crate) fn message(&mut self, text: &str) {
        self.write(&format!("==> {text}"));
        self.event(BuildEvent::Message(text.to_owned()));
    }

    /// Begins a part of the log, whose lines errors show.
    pub(crate) fn section(&mut self) {
        self.recent.clear();
    }

    /// Adds output of a stream.
    pub(crate) fn output(&mut self, partial: &mut Partial, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.finish(partial);
            } else {
                partial.0.push(*byte);
                if partial.0.len() >= LINE {
                    self.finish(partial);
                }
            }
        }
    }

    /// Adds the unfinished line of a stream that has ended.
    pub(crate) fn end(&mut self, partial: &mut Partial) {
        if !partial.0.is_empty() {
            self.finish(partial);
        }
        // A log that cannot be written must not fail a build.
        let _ = self.file.flush();
    }

    fn finish(&mut self, partial: &mut Partial) {
        let text = String::from_utf8_lossy(&partial.0).replace('\t', "    ");
        let line = excerpt(text.trim_end_matches('\r'), LINE);
        partial.0.clear();
        self.write(&line);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line.clone());
        self.event(BuildEvent::Line(line));
    }

    fn write(&mut self, line: &str) {
        self.written += line.len() as u64 + 1;
        let _ = writeln!(self.file, "{line}");
    }

    /// The lines of the section that say what failed: those of compilers, else the last ones.
    pub(crate) fn failure(&self) -> Vec<String> {
        let names_error = |line: &&String| {
            let line = line.to_lowercase();
            line.contains("error") || line.contains("not found") || line.contains("denied")
        };
        let mut lines: Vec<&String> = self.recent.iter().filter(names_error).take(SHOWN).collect();
        if lines.is_empty() {
            lines = self.recent.iter().rev().take(SHOWN).rev().collect();
        }
        lines.iter().map(|line| excerpt(line, EXCERPT)).collect()
    }

    /// Whether a line of the section contains a text.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.recent.iter().any(|line| line.contains(text))
    }
}
