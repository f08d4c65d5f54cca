use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read},
    ops::AddAssign,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// Lines that are kept of the output of a failed test.
const EXCERPT_LINES: usize = 60;

/// Counts of tests, and what the failed ones printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Lines about the failed tests, to be repeated at the end of a long log.
    pub failures: Vec<String>,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl Tally {
    /// Prints the result of one test, and counts it.
    pub fn one(name: &str, passed: bool) -> Self {
        let line = format!("{name} ... {}", if passed { "ok" } else { "FAILED" });
        println!("{line}");
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
            failures: if passed { Vec::new() } else { vec![line] },
            ..Self::default()
        }
    }

    /// Runs a command, prints its output, and adds up the summary lines of its test runners. A
    /// command that fails without reporting a failed test counts as one failed test.
    pub fn of(command: &mut Command) -> Result<Self> {
        let mut child = spawn(command.stdout(Stdio::piped()))?;
        let stdout = child.stdout.take().context("the command has no stdout")?;
        Self::read(child, stdout, command, |line| println!("{line}"))
    }

    /// As [`Tally::of`], but returns the output, with what is written to stderr.
    pub fn with_output(command: &mut Command) -> Result<(Self, String)> {
        let (reader, writer) = io::pipe()?;
        let child = spawn(command.stdout(writer.try_clone()?).stderr(writer))?;
        // The command keeps the other end of the pipe open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut output = String::new();
        let tally = Self::read(child, reader, command, |line| {
            output.push_str(line);
            output.push('\n');
        })?;
        Ok((tally, output))
    }

    fn read(
        mut child: Child,
        output: impl Read,
        command: &Command,
        mut print: impl FnMut(&str),
    ) -> Result<Self> {
        let mut tally = Self::default();
        let mut excerpt = Excerpt::default();
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            print(&line);
            if let Some(counted) = summary_line(&line) {
                tally += counted;
            }
            if excerpt.includes(&line) {
                tally.failures.push(line);
            }
        }
        let status = child.wait()?;
        if !status.success() && tally.failed == 0 {
            tally.failed = 1;
            tally.failures.push(format!("{command:?}: {status}"));
        }
        Ok(tally)
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))
}

/// Finds the lines about failed tests in the output of a test runner.
#[derive(Default)]
struct Excerpt {
    /// Number of following lines that belong to the current failure.
    rest: usize,
}

impl Excerpt {
    fn includes(&mut self, line: &str) -> bool {
        // libtest prints the output of failed tests in sections with this title, cucumber marks
        // failed steps, and the other runners print the output after the name.
        if line == "failures:"
            || line.trim_start().starts_with('\u{2718}')
            || line.contains(" ... FAILED") && !line.starts_with("test ")
        {
            self.rest = EXCERPT_LINES;
        } else if line.contains(" ... ok") || summary_line(line).is_some() {
            self.rest = 0;
        }
        self.rest = self.rest.saturating_sub(1);
        self.rest > 0
    }
}

/// Parses the summary line of a test runner: libtest's `test result: …`, or
/// `NAME: N passed, N failed[, N skipped]`.
fn summary_line(line: &str) -> Option<Tally> {
    let rest = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => {
            line.split_once(": ")
                .filter(|(name, _)| ["bdd", "client", "fuzz"].contains(name))?
                .1
        }
    };
    let mut tally = Tally::default();
    for part in rest.split([';', ',']) {
        let Some((count, what)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(count) = count.parse() else { continue };
        match what {
            "passed" => tally.passed = count,
            "failed" => tally.failed = count,
            "ignored" | "skipped" => tally.skipped = count,
            _ => {}
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines_are_read() {
        let tally = |passed, failed, skipped| Tally {
            passed,
            failed,
            skipped,
            failures: Vec::new(),
        };
        assert_eq!(
            summary_line(
                "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out"
            ),
            Some(tally(12, 1, 2))
        );
        assert_eq!(
            summary_line("bdd: 3 passed, 1 failed"),
            Some(tally(3, 1, 0))
        );
        assert_eq!(
            summary_line("bdd: no scenario matched"),
            Some(tally(0, 0, 0))
        );
        assert_eq!(summary_line("hive: 3 passed"), None);
    }

    #[test]
    fn output_of_failed_tests_is_found() {
        let output = "\
test a ... ok
test b ... FAILED

failures:

---- b stdout ----
left: 1

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
   \u{2714}  Given a queen
   \u{2718}  Then it answers
      Step panicked.
bdd: 0 passed, 1 failed
client c ... FAILED
AssertionError
client d ... ok
";
        let mut excerpt = Excerpt::default();
        let lines: Vec<&str> = output.lines().filter(|l| excerpt.includes(l)).collect();
        assert_eq!(
            lines,
            [
                "failures:",
                "",
                "---- b stdout ----",
                "left: 1",
                "",
                "   \u{2718}  Then it answers",
                "      Step panicked.",
                "client c ... FAILED",
                "AssertionError",
            ]
        );
    }
}
