use input_validation::RequestId;
use jiff::Timestamp;
use queen_contract::Priority;
use worker_contract::{InferInput, InferRequest, TokenizeRequest};

use crate::{
    field_names::FieldNames, response_writer::ResponseWriter, without_output::WithoutOutput,
};

/// Properties of a request that its body does not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// Id of the request. The ids in responses are derived from it.
    pub request_id: RequestId,
    /// Time at which the request arrived.
    pub received_at: Timestamp,
    /// Version of the server, which OpenAI's responses report as `system_fingerprint`.
    pub system_fingerprint: &'static str,
}

/// A request for text in any dialect, translated for a worker.
#[derive(Debug)]
pub struct ParsedRequest {
    /// Model as the client named it.
    pub model: String,
    /// Request for a worker; of several choices, the first.
    pub request: InferRequest,
    /// Number of choices to generate for each input, 1 to 16.
    pub choices: u32,
    /// Inputs in addition to that of `request`. The choices of each follow those of the one
    /// before it.
    pub further_inputs: Vec<InferInput>,
    pub format: ResponseFormat,
    /// What the body says of its priority.
    pub priority: Option<Priority>,
    /// The client's names for fields that a worker's error may mention.
    pub field_names: FieldNames,
    /// What was changed in the request or ignored, as sentences for the user.
    pub notes: Vec<String>,
    /// Encoder of the response.
    pub writer: Box<dyn ResponseWriter>,
}

impl ParsedRequest {
    /// Writes a response without output. The request should generate as little as possible.
    pub(crate) fn without_output(self) -> Self {
        Self {
            writer: Box::new(WithoutOutput(self.writer)),
            ..self
        }
    }
}

/// A request to count the tokens of a prompt, translated for a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedTokenCount {
    /// Model as the client named it.
    pub model: String,
    pub request: TokenizeRequest,
    /// The client's names for fields that a worker's error may mention.
    pub field_names: FieldNames,
}

/// Format of a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFormat {
    /// One JSON document (`application/json`).
    Document,
    /// Server-sent events (`text/event-stream`).
    Events,
    /// Newline-delimited JSON (`application/x-ndjson`).
    JsonLines,
}
