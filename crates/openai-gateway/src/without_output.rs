use diagnostics::Diagnostic;
use jiff::Timestamp;
use worker_contract::{EndEvent, FinishReason, StartedEvent, TokenEvent, Usage};

use crate::response_writer::ResponseWriter;

/// Writes the response to a request for no tokens at all, which only computes the prompt.
/// Workers generate at least one token; it is not part of the response.
#[derive(Debug)]
pub(crate) struct WithoutOutput(pub Box<dyn ResponseWriter>);

impl ResponseWriter for WithoutOutput {
    fn set_time(&mut self, now: Timestamp) {
        self.0.set_time(now);
    }

    fn start(&mut self, event: &StartedEvent, out: &mut Vec<u8>) {
        self.0.start(event, out);
    }

    fn token(&mut self, _: u32, _: TokenEvent, _: &mut Vec<u8>) {}

    fn end(&mut self, choice: u32, event: &EndEvent, out: &mut Vec<u8>) -> bool {
        let event = EndEvent {
            reason: FinishReason::Length,
            stop: None,
            usage: Usage {
                completion_tokens: 0,
                reasoning_tokens: 0,
                ..event.usage
            },
            timings: event.timings,
        };
        self.0.end(choice, &event, out)
    }

    fn error(&mut self, error: Diagnostic, out: &mut Vec<u8>) {
        self.0.error(error, out);
    }

    fn keep_alive(&self) -> &'static [u8] {
        self.0.keep_alive()
    }

    fn partial_text(&self) -> String {
        String::new()
    }
}
