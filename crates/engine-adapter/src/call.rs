use reasoning::Splitter;
use serde_json::Value;
use worker_contract::FinishReason;

use crate::piece::Update;

/// How the documents of a stream are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// A document a line.
    Lines,
}

/// A request in the engine's words.
#[derive(Debug)]
pub(crate) struct Call {
    pub path: &'static str,
    pub body: Value,
    pub framing: Framing,
    /// Reads a document of the stream.
    pub read: fn(&Value) -> Vec<Update>,
    /// Tokens of the prompt; empty if the engine does not report them in advance.
    pub prompt: Vec<u32>,
    /// Separates reasoning, if the engine does not.
    pub splitter: Option<Splitter>,
    /// Tokens of an earlier worker that the engine generates once more.
    pub repeated: Vec<u32>,
    /// Whether tokens that the engine does not report are found by their text.
    pub finds_lost_tokens: bool,
    /// The output of the earlier worker is complete: nothing is sent to the engine. The index is
    /// that of a stop sequence.
    pub complete: Option<FinishReason>,
}

impl Call {
    pub fn new(path: &'static str, body: Value, read: fn(&Value) -> Vec<Update>) -> Self {
        Self {
            path,
            body,
            framing: Framing::Events,
            read,
            prompt: Vec::new(),
            splitter: None,
            repeated: Vec::new(),
            finds_lost_tokens: false,
            complete: None,
        }
    }
}
