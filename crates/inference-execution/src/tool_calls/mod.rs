//! Finds tool calls in a model's output. The parser works on characters, so the result depends
//! on the text only, not on the boundaries of the tokens.
//!
//! Text that is not a tool call, or turns out not to be one, is returned as text. Only
//! whitespace that merely separates calls is dropped. A call is certain once its function and
//! the start of its arguments are read; from then on its arguments are returned as they
//! arrive.

mod hermes;
mod id;
mod json;
mod llama;
mod mistral;
mod object;
mod outside;
mod part;
mod shape;

#[cfg(test)]
mod tests;

pub(crate) use id::CallIds;
pub(crate) use part::Part;
pub(crate) use shape::{FORCED_STYLE, required_shape};

use std::sync::Arc;

use hermes::Hermes;
use llama::Llama;
use mistral::Mistral;
use text_codec::ToolStyle;

/// Parses one output in one style.
#[derive(Debug)]
pub(crate) enum ToolCallParser {
    Llama(Llama),
    Hermes(Hermes),
    Mistral(Mistral),
}

impl ToolCallParser {
    /// Returns a parser for an output that may call these functions.
    pub fn new(style: ToolStyle, functions: Arc<[String]>) -> Self {
        match style {
            ToolStyle::Llama => Self::Llama(Llama::new(functions)),
            ToolStyle::Hermes => Self::Hermes(Hermes::new()),
            ToolStyle::Mistral => Self::Mistral(Mistral::new()),
        }
    }

    /// Parses more text and returns the parts that became certain.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        for c in text.chars() {
            match self {
                Self::Llama(parser) => parser.push(c, &mut parts),
                Self::Hermes(parser) => parser.push(c, &mut parts),
                Self::Mistral(parser) => parser.push(c, &mut parts),
            }
        }
        parts
    }

    /// Ends the output. Text that is held back and is not certain to be a call becomes text.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        match self {
            Self::Llama(parser) => parser.finish(&mut parts),
            Self::Hermes(parser) => parser.finish(&mut parts),
            Self::Mistral(parser) => parser.finish(&mut parts),
        }
        parts
    }
}
