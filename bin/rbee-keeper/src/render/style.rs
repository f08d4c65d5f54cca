use std::io::{self, IsTerminal as _};

/// Colors of the text output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) colored: bool,
}

impl Style {
    /// Returns the style for this process's standard error.
    pub(crate) fn for_stderr() -> Self {
        Self {
            colored: wants_colors(io::stderr().is_terminal(), |name| std::env::var(name).ok()),
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

/// Decides by terminal and environment. What the user sets for every program stands above what
/// the terminal can do: `NO_COLOR` (no-color.org), then `FORCE_COLOR` (force-color.org) and
/// `CLICOLOR_FORCE`, then `CLICOLOR` (bixense.com/clicolors).
fn wants_colors(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    if set("NO_COLOR").is_some() {
        return false;
    }
    if let Some(force) = set("FORCE_COLOR").or_else(|| set("CLICOLOR_FORCE")) {
        return force != "0";
    }
    let capable = set("TERM").is_some_and(|term| term != "dumb");
    terminal && capable && set("CLICOLOR").as_deref() != Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colored(terminal: bool, environment: &[(&str, &str)]) -> bool {
        wants_colors(terminal, |name| {
            let entry = environment.iter().find(|(key, _)| *key == name);
            entry.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn colors_need_a_capable_terminal_and_no_opt_out() {
        let xterm = ("TERM", "xterm-256color");
        assert!(colored(true, &[xterm]));
        assert!(!colored(false, &[xterm]));
        assert!(!colored(true, &[("TERM", "dumb")]));
        assert!(!colored(true, &[]));
        for (name, value, expected) in [
            ("NO_COLOR", "1", false),
            ("NO_COLOR", "", true),
            ("CLICOLOR", "0", false),
            ("CLICOLOR", "1", true),
            ("FORCE_COLOR", "0", false),
        ] {
            assert_eq!(
                colored(true, &[xterm, (name, value)]),
                expected,
                "{name}={value}"
            );
        }
    }

    #[test]
    fn colors_can_be_forced() {
        for name in ["FORCE_COLOR", "CLICOLOR_FORCE"] {
            assert!(colored(false, &[(name, "1")]));
            assert!(!colored(false, &[(name, "")]));
            assert!(!colored(false, &[(name, "0")]));
            assert!(!colored(true, &[(name, "1"), ("NO_COLOR", "1")]));
        }
    }
}
