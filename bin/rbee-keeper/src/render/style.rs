use std::io::{self, IsTerminal as _};

/// Colors of the text output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) colored: bool,
}

impl Style {
    /// Returns the style for this process's standard error.
    pub(crate) fn for_stderr() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self {
            colored: wants_colors(
                io::stderr().is_terminal(),
                variable("NO_COLOR").as_deref(),
                variable("TERM").as_deref(),
            ),
        }
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn hint(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    /// Styles secondary information.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, sgr: &str, text: &str) -> String {
        if self.colored {
            format!("\u{1b}[{sgr}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Decides by terminal and environment; see no-color.org.
fn wants_colors(terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
    terminal && no_color.unwrap_or_default().is_empty() && term != Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_need_a_terminal_and_no_opt_out() {
        assert!(wants_colors(true, None, Some("xterm-256color")));
        assert!(wants_colors(true, Some(""), None));
        assert!(!wants_colors(true, Some("1"), None));
        assert!(!wants_colors(true, None, Some("dumb")));
        assert!(!wants_colors(false, None, Some("xterm")));
    }
}
