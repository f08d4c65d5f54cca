use diagnostics::{Diagnostic, Narration};
use input_validation::JobId;
use openapi_schema::{closed_object, event_of_json, events, impl_schema, reference};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ProvisionResponse, PullResponse, SpawnResponse, VerifyResponse};

/// Progress of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Phase of the job: `load`, `download`.
    pub phase: String,
    /// Part that is counted, such as a file; absent for the whole phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub item: Option<String>,
    /// SHA-256 of `item`, in hexadecimal; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sha256: Option<String>,
    /// Units completed.
    pub done: u64,
    /// Units in total; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub total: Option<u64>,
    /// Unit of the counts: `bytes`.
    pub unit: String,
    /// Units per second; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub rate: Option<f64>,
    /// Estimated time left, in seconds; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub eta_seconds: Option<f64>,
}

/// Event of a job. The last event is `result`, `error` or `cancelled`. As a server-sent event,
/// the variant is the event's type and its content the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEvent {
    /// Message for display.
    Narration(Narration),
    /// Progress of the current phase.
    Progress(Progress),
    /// The job succeeded. The content is the response of the call without streaming.
    Result(serde_json::Value),
    /// The job failed.
    Error(Diagnostic),
    /// The job was cancelled.
    Cancelled {},
}

impl_schema! {
    JobEvent, uses [Narration, Progress, SpawnResponse, PullResponse, VerifyResponse, ProvisionResponse, Diagnostic],
    "Event of a job. The last event is `result` (with the response of the operation), `error` or \
     `cancelled`.",
    events([
        event_of_json(Some("narration"), reference::<Narration>()),
        event_of_json(Some("progress"), reference::<Progress>()),
        event_of_json(Some("result"), reference::<SpawnResponse>()),
        event_of_json(Some("result"), reference::<PullResponse>()),
        event_of_json(Some("result"), reference::<VerifyResponse>()),
        event_of_json(Some("result"), reference::<ProvisionResponse>()),
        event_of_json(Some("error"), reference::<Diagnostic>()),
        event_of_json(Some("cancelled"), closed_object([])),
    ])
}

impl JobEvent {
    /// Returns the type of the server-sent event.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Narration(_) => "narration",
            Self::Progress(_) => "progress",
            Self::Result(_) => "result",
            Self::Error(_) => "error",
            Self::Cancelled {} => "cancelled",
        }
    }

    /// Whether this is the last event of a stream.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Result(_) | Self::Error(_) | Self::Cancelled {})
    }

    /// Returns the data of the server-sent event: one line of JSON.
    pub fn data(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Narration(e) => serde_json::to_string(e),
            Self::Progress(e) => serde_json::to_string(e),
            Self::Result(e) => serde_json::to_string(e),
            Self::Error(e) => serde_json::to_string(e),
            Self::Cancelled {} => Ok("{}".to_owned()),
        }
    }

    /// Parses a server-sent event from its type and data. Returns `Ok(None)` for a type that
    /// this version does not know.
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

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The job is running.
    Running,
    /// The job succeeded.
    Succeeded,
    /// The job failed.
    Failed,
    /// The job was cancelled.
    Cancelled,
}

/// Response of `GET /v1/jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobStatus {
    /// Id of the job.
    pub id: JobId,
    /// Kind of the job: `spawn`, `pull`, `verify`, `provision`.
    pub kind: String,
    /// State of the job.
    pub state: JobState,
    /// Number of events so far.
    pub events: u64,
}

/// Response of a long operation with `Prefer: respond-async` (status 202).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobAccepted {
    /// Id of the job, for `GET /v1/jobs/{id}`.
    pub job_id: JobId,
}
