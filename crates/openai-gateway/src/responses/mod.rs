//! OpenAI's Responses API.
//!
//! Nothing is stored: every request carries its whole conversation.

mod document;
mod events;
mod format;
mod input;
mod items;
mod part_events;
mod request;
mod schemas;
mod tools;
mod writer;

pub use document::{ResponseDocument, ResponseTokenCount};
pub use events::ResponseEvent;
pub use request::{ResponsesRequest, parse, parse_token_count};

#[cfg(test)]
mod parse_tests;
#[cfg(test)]
mod writer_tests;
