use std::fmt;

use diagnostics::excerpt;
use serde::Serialize;

use crate::case::Case;
use crate::verdict::{Checked, Verdict};

/// Maximum length of a received value in a report, in characters.
const SHOWN: usize = 300;

/// Outcome of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    Failed { expected: String, received: String },
    NotApplicable { why: String },
}

/// A case and its outcome.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub case: &'static str,
    pub promise: &'static str,
    /// Duration of the check, in milliseconds.
    pub ms: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Row {
    pub(crate) fn new(case: &Case, checked: Checked, ms: u64) -> Self {
        let outcome = match checked {
            Ok(()) => Outcome::Passed,
            Err(Verdict::Miss { expected, received }) => Outcome::Failed {
                expected,
                received: excerpt(&received, SHOWN),
            },
            Err(Verdict::NotApplicable(why)) => Outcome::NotApplicable { why },
        };
        Self {
            case: case.name,
            promise: case.promise,
            ms,
            outcome,
        }
    }
}

/// Outcomes of all cases. Its text is a table.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `implementation` and `version` of the worker.
    pub worker: String,
    pub seconds: f64,
    pub cases: Vec<Row>,
}

impl Report {
    /// Returns the names of the cases that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        let failed = |row: &&Row| matches!(row.outcome, Outcome::Failed { .. });
        self.cases.iter().filter(failed).map(|r| r.case).collect()
    }

    fn count(&self, is_counted: impl Fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|r| is_counted(&r.outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.cases.iter().map(|row| row.case.len()).max();
        let width = width.unwrap_or(0);
        for row in &self.cases {
            let name = row.case;
            match &row.outcome {
                Outcome::Passed => writeln!(f, "{name:width$}  passed          {}", row.promise)?,
                Outcome::Failed { expected, received } => writeln!(
                    f,
                    "{name:width$}  FAILED          {}\n{:width$}    expected: {expected}\n{:width$}    received: {received}",
                    row.promise, "", ""
                )?,
                Outcome::NotApplicable { why } => {
                    writeln!(f, "{name:width$}  not applicable  {why}")?;
                }
            }
        }
        write!(
            f,
            "{}: {} passed, {} failed, {} not applicable in {:.1} s",
            self.worker,
            self.count(|o| *o == Outcome::Passed),
            self.failed().len(),
            self.count(|o| matches!(o, Outcome::NotApplicable { .. })),
            self.seconds
        )
    }
}
