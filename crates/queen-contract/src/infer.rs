use diagnostics::Narration;
use input_validation::{Backend, DeviceId, ModelRef, NodeName, WorkerId};
use openapi_schema::{any_of, event_of_json, impl_schema, reference};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use worker_contract::{DetokenizeRequest, InferRequest, StreamEvent, TokenizeRequest};

use crate::{Priority, Waiting};

/// Body of `POST /v1/infer` of the queen: an [`InferRequest`] and requirements for the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferCall {
    /// Model. If no worker serves it, the queen spawns one.
    pub model: ModelRef,
    /// Backend that the worker must use. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// Node that the worker must run on. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Whether it is served before or after other requests for the model. Default: `interactive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The request. Its `stream` is ignored: the response is always an event stream.
    #[serde(flatten)]
    pub request: InferRequest,
}

/// Body of `POST /v1/tokenize` of the queen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeCall {
    /// Model. If no worker serves it, the queen spawns one.
    pub model: ModelRef,
    /// The request for the worker.
    #[serde(flatten)]
    pub request: TokenizeRequest,
}

/// Body of `POST /v1/detokenize` of the queen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeCall {
    /// Model. If no worker serves it, the queen spawns one.
    pub model: ModelRef,
    /// The request for the worker.
    #[serde(flatten)]
    pub request: DetokenizeRequest,
}

/// The request was assigned to a worker. Sent again if it continues on another worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assigned {
    /// Id of the worker.
    pub worker: WorkerId,
    /// Node that the worker runs on.
    pub node: NodeName,
    /// Device that the model runs on.
    pub device: DeviceId,
    /// Number of the attempt: 1 for the first worker, 2 for the next one.
    #[schema(minimum = 1)]
    pub attempt: u32,
}

/// Event of the queen's `POST /v1/infer`. A client receives `started` and each token once even
/// if the request continues on another worker. The last event is `end` or `error`.
#[derive(Debug, Clone, PartialEq)]
pub enum InferEvent {
    /// Message for display while the request waits.
    Narration(Narration),
    /// The request waits for a worker.
    Waiting(Waiting),
    /// The request was assigned to a worker.
    Assigned(Assigned),
    /// Event of the worker.
    Worker(StreamEvent),
}

impl_schema! {
    InferEvent, uses [Narration, Waiting, Assigned, StreamEvent],
    "Event of a request, from the queen or from the worker.",
    any_of([
        event_of_json(Some("narration"), reference::<Narration>()),
        event_of_json(Some("waiting"), reference::<Waiting>()),
        event_of_json(Some("assigned"), reference::<Assigned>()),
        reference::<StreamEvent>(),
    ])
}

impl InferEvent {
    /// Appends the event to `out` as a server-sent event.
    pub fn write_sse(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let (name, data) = match self {
            Self::Narration(e) => ("narration", serde_json::to_string(e)?),
            Self::Waiting(e) => ("waiting", serde_json::to_string(e)?),
            Self::Assigned(e) => ("assigned", serde_json::to_string(e)?),
            Self::Worker(e) => return e.write_sse(out),
        };
        out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
        Ok(())
    }

    /// Parses a server-sent event from its type and data. Returns `Ok(None)` for a type that
    /// this version does not know.
    pub fn read_sse(name: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(match name {
            "narration" => Some(Self::Narration(serde_json::from_str(data)?)),
            "waiting" => Some(Self::Waiting(serde_json::from_str(data)?)),
            "assigned" => Some(Self::Assigned(serde_json::from_str(data)?)),
            _ => StreamEvent::read_sse(name, data)?.map(Self::Worker),
        })
    }
}
