use reasoning::Splitter;
use serde_json::Value;
use worker_contract::FinishReason;

use crate::piece::Update;

/// Reads a document of a stream.
type ReadDocument = fn(&Value) -> Vec<Update>;

/// How the documents of a stream are separated and read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events(ReadDocument),
    /// Server-sent events that are read from their names and data, which takes less time: each
    /// token is an event.
    Tokens(fn(&str, &str) -> serde_json::Result<Option<Vec<Update>>>),
    /// A document a line.
    Lines(ReadDocument),
}

/// A request in the engine's words.
#[derive(Debug)]
pub(crate) struct Call {
    pub path: &'static str,
    pub body: Value,
    pub framing: Framing,
    /// Tokens of the prompt; empty if the engine does not report them in advance.
    pub prompt: Vec<u32>,
    /// Whether the stream counts the tokens of the prompt in its first document.
    pub counts_prompt: bool,
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
    pub fn new(path: &'static str, body: Value, framing: Framing) -> Self {
        Self {
            path,
            body,
            framing,
            prompt: Vec::new(),
            counts_prompt: false,
            splitter: None,
            repeated: Vec::new(),
            finds_lost_tokens: false,
            complete: None,
        }
    }
}
