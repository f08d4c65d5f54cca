/// Whether text for people is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether it is.
    pub coloured: bool,
}

/// Colours are for terminals that have them and users who want them (no-color.org).
pub fn wanted(terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
    terminal && no_color.unwrap_or_default().is_empty() && term != Some("dumb")
}

impl Style {
    /// Something failed.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Something to look at.
    pub fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// What to do.
    pub fn help(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    /// Beside the point.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, sgr: &str, text: &str) -> String {
        if self.coloured {
            format!("\u{1b}[{sgr}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert!(wanted(true, None, Some("xterm-256color")));
        assert!(wanted(true, Some(""), None));
        assert!(!wanted(true, Some("1"), None));
        assert!(!wanted(true, None, Some("dumb")));
        assert!(!wanted(false, None, Some("xterm")));
    }
}
