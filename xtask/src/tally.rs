use std::{
    fmt,
    io::{BufRead as _, BufReader},
    ops::AddAssign,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

/// Tests counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// They passed.
    pub passed: u64,
    /// They failed.
    pub failed: u64,
    /// They were not run.
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
    /// One test that passed or failed.
    pub fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
            skipped: 0,
        }
    }

    /// Runs a command, shows its output, and counts what its test runners say. A command
    /// that fails without a failed test counts as one.
    pub fn of(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        let mut tally = Self::default();
        let stdout = child.stdout.take().context("no output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            if let Some(counted) = closing_line(&line) {
                tally += counted;
            }
        }
        if !child.wait()?.success() && tally.failed == 0 {
            tally.failed = 1;
        }
        Ok(tally)
    }
}

/// Reads the closing line of a test runner: libtest's `test result: …`, and
/// `NAME: N passed, N failed[, N skipped]`.
fn closing_line(line: &str) -> Option<Tally> {
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
    fn closing_lines_are_read() {
        let tally = |passed, failed, skipped| Tally {
            passed,
            failed,
            skipped,
        };
        assert_eq!(
            closing_line(
                "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out"
            ),
            Some(tally(12, 1, 2))
        );
        assert_eq!(
            closing_line("bdd: 3 passed, 1 failed"),
            Some(tally(3, 1, 0))
        );
        assert_eq!(
            closing_line("bdd: no scenario matched"),
            Some(tally(0, 0, 0))
        );
        assert_eq!(closing_line("hive: 3 passed"), None);
    }
}
