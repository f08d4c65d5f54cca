use std::{fmt, str::FromStr};

use diagnostics::{Code, Diagnostic, excerpt};
use input_validation::ModelRef;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which requests for a model are served first.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Someone waits for the response: served before batch requests.
    #[default]
    Interactive,
    /// Nobody waits for the response: served when no interactive request waits, and once for every
    /// few interactive ones.
    Batch,
}

impl Priority {
    /// The name that users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        match text {
            "interactive" => Ok(Self::Interactive),
            "batch" => Ok(Self::Batch),
            _ => Err(Diagnostic::new(
                Code::InvalidRequest,
                format!("\"{}\" is not a priority", excerpt(text, 40)),
            )
            .hint("use `interactive` or `batch`")),
        }
    }
}

/// Why a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingReason {
    /// All slots of the workers that can serve it are busy.
    Busy,
    /// A worker is being started or is loading the model.
    Loading,
    /// The model needs memory that other models use.
    Memory,
    /// The last start of a worker failed; the next attempt follows after a pause.
    Backoff,
    /// The policy refuses all workers that could run it now.
    Policy,
    /// A node that is asleep is being woken.
    Waking,
}

/// The request waits for a worker. Sent again when the reason or the position changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// Why it waits.
    pub reason: WaitingReason,
    /// Position among the requests that wait for the model: 1 for the next one.
    #[schema(minimum = 1)]
    pub position: u32,
    /// Number of requests that wait for the model.
    #[schema(minimum = 1)]
    pub waiting: u32,
    /// Estimated time until it has a worker, in seconds, from measured times; absent until these
    /// are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub estimated_seconds: Option<u64>,
    /// Sentence for display.
    pub message: String,
}

/// Requests that wait for one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueEntry {
    /// The model.
    pub model: ModelRef,
    /// Number of interactive requests that wait.
    pub interactive: u32,
    /// Number of batch requests that wait.
    pub batch: u32,
    /// How long the oldest of them has waited, in milliseconds.
    pub oldest_wait_ms: u64,
    /// Estimated time until the last of them has a worker, in seconds; absent until it is known
    /// how long requests for the model take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub estimated_seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_written_as_it_is_read() {
        for priority in [Priority::Interactive, Priority::Batch] {
            assert_eq!(priority.as_str().parse(), Ok(priority));
            let json = serde_json::to_value(priority).unwrap();
            assert_eq!(json, priority.as_str());
        }
        let error = "urgent".parse::<Priority>().unwrap_err();
        assert_eq!(error.code, Code::InvalidRequest);
    }
}
