use diagnostics::Diagnostic;
use worker_contract::{EndEvent, InferRequest, StartedEvent, TokenEvent};

use crate::ClientFields;

/// A request, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The model by the client's name for it.
    pub model: String,
    /// Pieces or one document.
    pub stream: bool,
    /// The request for a worker.
    pub request: InferRequest,
    /// What the client calls what a worker may refuse.
    pub fields: ClientFields,
}

/// Writes one answer in an edge's own form, from a worker's events.
///
/// Streamed, bytes come with every event; as one document, all of them come with the end.
/// Order: [`start`](Self::start), [`token`](Self::token) …, then [`end`](Self::end) or
/// [`error`](Self::error).
pub trait AnswerWriter: Send + 'static {
    /// The request has a slot.
    fn start(&mut self, event: &StartedEvent, out: &mut Vec<u8>);
    /// One token; often without text.
    fn token(&mut self, event: TokenEvent, out: &mut Vec<u8>);
    /// The answer is complete.
    fn end(&mut self, event: &EndEvent, out: &mut Vec<u8>);
    /// An error ends a streamed answer; what came before it stays with the client.
    fn error(&mut self, error: Diagnostic, out: &mut Vec<u8>);
    /// What the document has so far.
    fn partial(&self) -> String;
}
