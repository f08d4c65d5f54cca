use diagnostics::{Diagnostic, Narration};
use input_validation::JobId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What is being done: `load`, `download`.
    pub phase: String,
    /// Done so far.
    pub done: u64,
    /// Of this many; absent while not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What is counted: `bytes`.
    pub unit: String,
    /// Units per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Seconds to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<f64>,
}

/// An event of a job: narration and progress, then exactly one of result, error and
/// cancelled, last. As SSE the variant is the event's name, its content the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobEvent {
    /// What happens.
    Narration(Narration),
    /// How far it is.
    Progress(Progress),
    /// It is done; the content is what the plain call would have answered.
    Result(serde_json::Value),
    /// It failed.
    Error(Diagnostic),
    /// It was cancelled.
    Cancelled {},
}

impl JobEvent {
    /// The name of the event in SSE.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Narration(_) => "narration",
            Self::Progress(_) => "progress",
            Self::Result(_) => "result",
            Self::Error(_) => "error",
            Self::Cancelled {} => "cancelled",
        }
    }

    /// Whether nothing follows it.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Result(_) | Self::Error(_) | Self::Cancelled {})
    }

    /// The event's data in SSE: one line of JSON.
    pub fn data(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Narration(e) => serde_json::to_string(e),
            Self::Progress(e) => serde_json::to_string(e),
            Self::Result(e) => serde_json::to_string(e),
            Self::Error(e) => serde_json::to_string(e),
            Self::Cancelled {} => Ok("{}".to_owned()),
        }
    }

    /// Reads an event by its SSE name and data; `Ok(None)` is an event that this version
    /// does not know and passes over.
    pub fn read_sse(name: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match name {
            "narration" => Self::Narration(serde_json::from_str(data)?),
            "progress" => Self::Progress(serde_json::from_str(data)?),
            "result" => Self::Result(serde_json::from_str(data)?),
            "error" => Self::Error(serde_json::from_str(data)?),
            "cancelled" => Self::Cancelled {},
            _ => return Ok(None),
        }))
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It goes on.
    Running,
    /// It is done.
    Succeeded,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// Answer of `GET /v1/jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobStatus {
    /// The job's name.
    pub id: JobId,
    /// What it does: `spawn`.
    pub kind: String,
    /// Where it stands.
    pub state: JobState,
    /// How many events it has sent.
    pub events: u64,
}

/// Answer of a long call with `Prefer: respond-async` (202).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobAccepted {
    /// The job to follow.
    pub job_id: JobId,
}
