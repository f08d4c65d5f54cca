//! The report of `rbee-keeper doctor`, for terminals of 80 columns.

use diagnostics::escape;
use hive_contract::{PreflightCheck, PreflightLevel, Verdict};
use queen_contract::NodePreflight;
use serde::Serialize;

/// Width of the text.
const WIDTH: usize = 80;
/// Column in which findings begin.
const FINDING: usize = 28;

/// Result of `rbee-keeper doctor`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// The worst verdict of all checks.
    pub(crate) verdict: Verdict,
    /// Checks of the queen and its machine.
    pub(crate) queen: Vec<PreflightCheck>,
    /// Checks of each node; empty if the queen does not respond.
    pub(crate) nodes: Vec<NodePreflight>,
}

impl Report {
    pub(crate) fn new(queen: Vec<PreflightCheck>, nodes: Vec<NodePreflight>) -> Self {
        let all = queen.iter().chain(nodes.iter().flat_map(|n| &n.checks));
        Self {
            verdict: all
                .map(|check| check.verdict)
                .max()
                .unwrap_or(Verdict::Pass),
            queen,
            nodes,
        }
    }
}

/// Formats the report: one section for the queen and for each level of each node, and a summary.
pub(crate) fn report(report: &Report) -> String {
    let mut text = section("queen", &report.queen);
    for node in &report.nodes {
        for (level, name) in [
            (PreflightLevel::Ssh, "SSH"),
            (PreflightLevel::Hive, "hive"),
            (PreflightLevel::Worker, "worker"),
        ] {
            let checks: Vec<PreflightCheck> = node
                .checks
                .iter()
                .filter(|check| check.level == level)
                .cloned()
                .collect();
            text += &section(&format!("node {}: {name}", node.node), &checks);
        }
    }
    text + &summary(report)
}

fn section(title: &str, checks: &[PreflightCheck]) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let checks: String = checks.iter().map(check).collect();
    format!("{title}\n{checks}\n")
}

fn check(check: &PreflightCheck) -> String {
    let verdict = match check.verdict {
        Verdict::Pass => "ok",
        Verdict::Skipped => "skip",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    let head = format!("  {verdict:<6}{:<20}", escape(&check.name));
    let mut text = paragraph(&head, &check.measured);
    let indent = " ".repeat(FINDING);
    if check.verdict == Verdict::Fail {
        text += &paragraph(&format!("{indent}required: "), &check.requirement);
    }
    if let Some(hint) = &check.hint {
        text += &paragraph(&format!("{indent}hint: "), hint);
    }
    text
}

/// Breaks a text between words. `head` precedes the first line.
fn paragraph(head: &str, text: &str) -> String {
    let mut lines = head.to_owned();
    let mut column = head.chars().count();
    let mut is_first = true;
    for word in escape(text).split_whitespace() {
        let length = word.chars().count();
        if !is_first && column + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(&" ".repeat(FINDING));
            column = FINDING;
            is_first = true;
        }
        if !is_first {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
        is_first = false;
    }
    lines.trim_end().to_owned() + "\n"
}

fn summary(report: &Report) -> String {
    let of_nodes = report.nodes.iter().flat_map(|node| &node.checks);
    let verdicts: Vec<Verdict> = report
        .queen
        .iter()
        .chain(of_nodes)
        .map(|check| check.verdict)
        .collect();
    let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
    let mut parts = Vec::new();
    for (verdict, what) in [
        (Verdict::Pass, "passed"),
        (Verdict::Warn, "with a warning"),
        (Verdict::Fail, "failed"),
        (Verdict::Skipped, "skipped"),
    ] {
        match count(verdict) {
            0 => {}
            n => parts.push(format!("{n} {what}")),
        }
    }
    format!("{} checks: {}\n", verdicts.len(), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checks(checks: serde_json::Value) -> Vec<PreflightCheck> {
        serde_json::from_value(checks).unwrap()
    }

    #[test]
    fn the_report_fits_into_80_columns_and_names_what_to_do() {
        let queen = checks(json!([
            {"level": "queen", "name": "home", "requirement": "a home", "measured": "/srv/rbee",
             "verdict": "pass"},
        ]));
        let node = checks(json!([
            {"level": "hive", "name": "api", "requirement": "the hive responds",
             "measured": "it responds", "verdict": "pass"},
            {"level": "hive", "name": "disk", "requirement": "256.0 MiB of free space",
             "measured": "1.0 GiB of 8.0 GiB free", "verdict": "warn",
             "hint": "free space: `rbee-keeper model prune` removes models"},
            {"level": "worker", "name": "compute capability", "requirement": "7.5", "measured": "9.0",
             "verdict": "pass"},
            {"level": "worker", "name": "memory",
             "requirement": "9.1 GiB on CPU-0 (1.0 GiB for weights, 8.0 GiB for a context of 8192 tokens, 64.0 MiB for work)",
             "measured": "8.0 GiB available on CPU-0", "verdict": "fail",
             "code": "INSUFFICIENT_RAM", "hint": "use a shorter context: `--context 7104`"},
            {"level": "worker", "name": "a\u{1b}[31m", "requirement": "x",
             "measured": "the\u{7} device is refused", "verdict": "skipped"},
        ]));
        let nodes = vec![NodePreflight {
            node: "local".parse().unwrap(),
            checks: node,
        }];
        let report = Report::new(queen, nodes);
        assert_eq!(report.verdict, Verdict::Fail);
        let expected = "\
queen
  ok    home                /srv/rbee

node local: hive
  ok    api                 it responds
  warn  disk                1.0 GiB of 8.0 GiB free
                            hint: free space: `rbee-keeper model prune` removes
                            models

node local: worker
  ok    compute capability  9.0
  FAIL  memory              8.0 GiB available on CPU-0
                            required: 9.1 GiB on CPU-0 (1.0 GiB for weights, 8.0
                            GiB for a context of 8192 tokens, 64.0 MiB for work)
                            hint: use a shorter context: `--context 7104`
  skip  a\\u{1b}[31m         the\\u{7} device is refused

6 checks: 3 passed, 1 with a warning, 1 failed, 1 skipped
";
        assert_eq!(super::report(&report), expected);
    }

    #[test]
    fn the_worst_verdict_is_that_of_the_report() {
        let check = |verdict: &str| {
            checks(
                json!([{"level": "queen", "name": "a", "requirement": "b", "measured": "c",
                "verdict": verdict}]),
            )
        };
        for (verdicts, expected) in [
            (vec!["pass", "skipped"], Verdict::Skipped),
            (vec!["warn", "skipped"], Verdict::Warn),
            (vec!["fail", "warn"], Verdict::Fail),
            (vec![], Verdict::Pass),
        ] {
            let all = verdicts.iter().flat_map(|v| check(v)).collect();
            assert_eq!(Report::new(all, Vec::new()).verdict, expected);
        }
    }
}
