use std::fmt::Debug;

use diagnostics::Diagnostic;
use jiff::Timestamp;
use worker_contract::{EndEvent, StartedEvent, TokenEvent};

/// Encodes the response to one request in the format of its dialect, from worker events.
///
/// Every method appends the bytes that are ready to `out`. A streamed response produces bytes
/// with every event; a document produces all of them when its last choice ends.
///
/// Call order: [`start`](Self::start) once, then for each choice [`token`](Self::token) for
/// every token and [`end`](Self::end) once, the choices interleaved in any way. An error ends
/// the whole response: [`error`](Self::error) if it is streamed; a document is discarded.
///
/// Only OpenAI requests have several choices; in other dialects the choice is always 0.
pub trait ResponseWriter: Debug + Send {
    /// Sets the current time, for formats whose parts have a time.
    fn set_time(&mut self, _: Timestamp) {}

    /// Begins the response when its first choice starts.
    fn start(&mut self, event: &StartedEvent, out: &mut Vec<u8>);

    /// Appends a token of a choice. Often writes nothing: the token's text is not final yet.
    fn token(&mut self, choice: u32, event: TokenEvent, out: &mut Vec<u8>);

    /// Ends a choice. Returns `true` when it was the last one, so the response is complete.
    fn end(&mut self, choice: u32, event: &EndEvent, out: &mut Vec<u8>) -> bool;

    /// Ends a streamed response with an error.
    fn error(&mut self, error: Diagnostic, out: &mut Vec<u8>);

    /// Bytes that tell the client of a silent stream of server-sent events that its request is
    /// still running: a comment, unless the dialect has an event for it.
    fn keep_alive(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }

    /// Returns the text of the first choice so far; empty if the response is streamed.
    fn partial_text(&self) -> String;
}
