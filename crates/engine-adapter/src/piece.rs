//! What the streams of all engines have in common.

use diagnostics::Diagnostic;
use worker_contract::{FinishReason, TokenLogprob, ToolCallPiece};

/// A part of the output.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Piece {
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<ToolCallPiece>,
    /// Id of the token; absent if the engine does not report it.
    pub token: Option<u32>,
    pub logprob: Option<TokenLogprob>,
    /// Number of tokens up to this one, if the engine reports it. It skips tokens that the engine
    /// does not report.
    pub number: Option<u32>,
}

/// Token counts; absent where the engine does not report them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub prompt: Option<u32>,
    pub completion: Option<u32>,
    pub cached: Option<u32>,
}

impl Counts {
    /// Takes over what `later` knows.
    pub fn update(&mut self, later: Self) {
        self.prompt = later.prompt.or(self.prompt);
        self.completion = later.completion.or(self.completion);
        self.cached = later.cached.or(self.cached);
    }
}

/// An element of an engine's stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Update {
    Piece(Piece),
    Counts(Counts),
    /// The output is complete.
    Finish(FinishReason),
    Failed(Diagnostic),
}
