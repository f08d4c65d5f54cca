//! What cargo prints, read line by line.

use diagnostics::excerpt;

/// Longest line that is shown, in characters.
const MAX_CHARS: usize = 400;
/// Number of lines that name errors.
const MAX_ERRORS: usize = 12;

/// Splits output into lines and counts what was compiled.
#[derive(Debug, Default)]
pub(crate) struct CargoOutput {
    partial: Vec<u8>,
    compiled: u64,
    errors: Vec<String>,
    /// The last lines, for a failure that names no error.
    last: Vec<String>,
    /// Whether the next line says where the last error is.
    wants_location: bool,
}

/// A line that users should see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A crate is compiled: its name and version.
    Compiling(String),
    /// Anything else.
    Line(String),
}

impl CargoOutput {
    /// Number of crates that were compiled, or are.
    pub(crate) fn compiled(&self) -> u64 {
        self.compiled
    }

    /// Adds output, and returns the lines that are complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Shown> {
        self.partial.extend_from_slice(bytes);
        let mut shown = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            shown.extend(self.line(&line));
        }
        if self.partial.len() > MAX_CHARS * 16 {
            let line = std::mem::take(&mut self.partial);
            shown.extend(self.line(&line));
        }
        shown
    }

    fn line(&mut self, line: &[u8]) -> Option<Shown> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let line = excerpt(text, MAX_CHARS);
        if self.last.len() >= MAX_ERRORS {
            self.last.remove(0);
        }
        self.last.push(line.clone());
        let is_error = text.starts_with("error");
        let is_location = self.wants_location && text.starts_with("-->");
        if (is_error || is_location) && self.errors.len() < MAX_ERRORS {
            self.errors.push(line.clone());
        }
        self.wants_location = is_error;
        if let Some(name) = text.strip_prefix("Compiling ") {
            self.compiled += 1;
            return Some(Shown::Compiling(excerpt(name, MAX_CHARS)));
        }
        let is_shown = is_error
            || ["warning", "Updating", "Downloading", "Finished"]
                .iter()
                .any(|start| text.starts_with(start));
        is_shown.then_some(Shown::Line(line))
    }

    /// The compiler's own lines about the failure; the last lines if it named no error.
    pub(crate) fn failure(mut self) -> Vec<String> {
        let rest = std::mem::take(&mut self.partial);
        self.line(&rest);
        if self.errors.is_empty() {
            self.last
        } else {
            self.errors
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "   Compiling a v0.1.0 (/x)
error[E0425]: cannot find value `y` in this scope
 --> src/main.rs:2:5
  |
2 |     y
  |     ^ not found in this scope

error: could not compile `a` (bin \"a\") due to 1 previous error
";

    #[test]
    fn errors_are_the_lines_of_the_compiler_with_their_places() {
        for size in [1, 7, 4096] {
            let mut output = CargoOutput::default();
            let shown: Vec<Shown> = FAILED
                .as_bytes()
                .chunks(size)
                .flat_map(|part| output.push(part))
                .collect();
            assert_eq!(shown[0], Shown::Compiling("a v0.1.0 (/x)".into()));
            assert_eq!(output.compiled(), 1);
            assert_eq!(
                output.failure(),
                [
                    "error[E0425]: cannot find value `y` in this scope",
                    "--> src/main.rs:2:5",
                    "error: could not compile `a` (bin \"a\") due to 1 previous error",
                ]
            );
        }
    }

    #[test]
    fn without_an_error_the_last_lines_are_shown_escaped() {
        let mut output = CargoOutput::default();
        output.push(b"one\n\x1b[31mtwo");
        assert_eq!(output.failure(), ["one", r"\u{1b}[31mtwo"]);
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut output = CargoOutput::default();
        for _ in 0..1000 {
            output.push(&[b'x'; 1000]);
        }
        assert!(output.partial.len() <= MAX_CHARS * 16 + 1000);
    }
}
