use std::{
    fmt,
    io::{BufRead as _, BufReader},
    ops::AddAssign,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

/// Counts of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
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
    /// Counts one test.
    pub fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
            skipped: 0,
        }
    }

    /// Runs a command, prints its output, and adds up the summary lines of its test runners. A
    /// command that fails without reporting a failed test counts as one failed test.
    pub fn of(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        let mut tally = Self::default();
        let stdout = child.stdout.take().context("the command has no stdout")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            if let Some(counted) = summary_line(&line) {
                tally += counted;
            }
        }
        if !child.wait()?.success() && tally.failed == 0 {
            tally.failed = 1;
        }
        Ok(tally)
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
}
