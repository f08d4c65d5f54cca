//! Translates between the HTTP APIs of [OpenAI](openai) (with its [Responses](responses) API),
//! [Ollama](ollama) and [Anthropic](anthropic) and rbee's own [`InferRequest`](worker_contract::InferRequest).
//!
//! `parse` of a dialect turns a JSON body into a [`ParsedRequest`]: the request for a worker,
//! and the [`ResponseWriter`] that encodes the worker's events as the response. Pure: no HTTP,
//! no clock.
//!
//! A field that a dialect defines and rbee does not implement is refused with
//! [`UNSUPPORTED_PARAMETER`](diagnostics::Code::UnsupportedParameter) if it would change the
//! output. Unknown fields are ignored, as clients expect.

pub mod anthropic;
#[cfg(test)]
mod bounds_tests;
mod embed;
mod errors;
mod field_names;
mod fields;
mod images;
mod json;
#[cfg(test)]
mod lenient_tests;
mod logprobs;
pub mod ollama;
pub mod openai;
mod overflow;
mod parsed_request;
mod priority;
#[cfg(test)]
mod reasoning_tests;
mod response_writer;
pub mod responses;
mod schemas;
mod shown_message;
#[cfg(test)]
mod testing;
mod without_output;

pub use field_names::FieldNames;
pub use parsed_request::{ParsedRequest, ParsedTokenCount, RequestContext, ResponseFormat};
pub use response_writer::ResponseWriter;
