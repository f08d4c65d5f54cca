//! Syntaxes in which models write tool calls, and one parser for all of them.
//!
//! A [`ToolFormat`] describes a syntax as data: the marks around calls, how a call names its
//! function, and how it writes the arguments. [`ToolFormat::detect`] finds the format of a model
//! by its chat template. A [`ToolCallParser`] splits the output of a model into text and calls by
//! such a description.
//!
//! The parser works on characters, so the result depends on the text only, not on the boundaries
//! of the tokens. Text that is not a tool call, or turns out not to be one, is returned as text;
//! so is a call of a function that was not offered. Only whitespace that merely separates calls
//! is dropped. From the moment when a call is certain, its arguments are returned as they arrive.
//! They are always the text of a JSON object.
//!
//! Where an output was cut off, syntax of a call that is incomplete is not text: it is the start
//! of a call if the function is known, and dropped otherwise.

mod detect;
mod fields;
mod format;
mod formats;
mod functions;
mod head;
mod json;
mod literal;
mod object;
mod outside;
mod parser;
mod part;

#[cfg(test)]
mod tests;

pub use format::{Arguments, Call, Fields, Item, Layout, ToolFormat};
pub use functions::{FunctionTypes, Functions};
pub use literal::GEMMA_QUOTE;
pub use parser::ToolCallParser;
pub use part::Part;
