use diagnostics::Narration;
use input_validation::{Backend, DeviceId, ModelRef, NodeName, WorkerId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use worker_contract::{DetokenizeRequest, InferRequest, StreamEvent, TokenizeRequest};

/// Body of `POST /v1/infer` on the queen: an [`InferRequest`] and where it may run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InferCall {
    /// The model; loaded when no worker has it.
    pub model: ModelRef,
    /// Only on such a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// Only on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The request; always answered as events.
    #[serde(flatten)]
    pub request: InferRequest,
}

/// Body of `POST /v1/tokenize` on the queen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeCall {
    /// The model; loaded when no worker has it.
    pub model: ModelRef,
    /// The request.
    #[serde(flatten)]
    pub request: TokenizeRequest,
}

/// Body of `POST /v1/detokenize` on the queen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeCall {
    /// The model; loaded when no worker has it.
    pub model: ModelRef,
    /// The request.
    #[serde(flatten)]
    pub request: DetokenizeRequest,
}

/// The request got a worker. Sent again when it moves to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assigned {
    /// The worker.
    pub worker: WorkerId,
    /// Its node.
    pub node: NodeName,
    /// Its device.
    pub device: DeviceId,
    /// 1 for the first worker, 2 for the next, ….
    pub attempt: u32,
}

/// An event of the queen's `/v1/infer`. A client sees `started` once, every token once, and
/// exactly one of `end` and `error`, last, however often the request moved.
#[derive(Debug, Clone, PartialEq)]
pub enum InferEvent {
    /// What happens while it waits.
    Narration(Narration),
    /// It got a worker.
    Assigned(Assigned),
    /// From the worker.
    Worker(StreamEvent),
}

impl InferEvent {
    /// Appends the event to `out` as SSE.
    pub fn write_sse(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let (name, data) = match self {
            Self::Narration(e) => ("narration", serde_json::to_string(e)?),
            Self::Assigned(e) => ("assigned", serde_json::to_string(e)?),
            Self::Worker(e) => return e.write_sse(out),
        };
        out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
        Ok(())
    }

    /// Reads an event by its SSE name and data; `Ok(None)` is an event that this version
    /// does not know and passes over.
    pub fn read_sse(name: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(match name {
            "narration" => Some(Self::Narration(serde_json::from_str(data)?)),
            "assigned" => Some(Self::Assigned(serde_json::from_str(data)?)),
            _ => StreamEvent::read_sse(name, data)?.map(Self::Worker),
        })
    }
}
