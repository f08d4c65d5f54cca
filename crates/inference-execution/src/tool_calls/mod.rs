//! Finds calls of tools in what a model says, character by character: what comes out depends
//! on the text alone, never on how it was cut into tokens.
//!
//! Text that is no call, or turns out to be none, comes out as text. Only whitespace that
//! does nothing but divide calls is left out. A call is certain once its function and the
//! beginning of its arguments were read; from there on its arguments come out as they are
//! read.

mod hermes;
mod id;
mod json;
mod llama;
mod mistral;
mod object;
mod outside;
mod shape;

#[cfg(test)]
mod tests;

pub(crate) use id::CallIds;
pub(crate) use shape::{FORCED, shape};

use std::sync::Arc;

use hermes::Hermes;
use llama::Llama;
use mistral::Mistral;
use text_codec::ToolStyle;

/// A part of what a model says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text for the reader.
    Text(String),
    /// A call of this function begins.
    Begin(String),
    /// More of the arguments of the call that began last.
    Arguments(String),
    /// The call that began last has all its arguments.
    End,
}

/// Reads one answer in one style.
#[derive(Debug)]
pub(crate) enum ToolCallParser {
    Llama(Llama),
    Hermes(Hermes),
    Mistral(Mistral),
}

impl ToolCallParser {
    /// A parser of an answer from its beginning; `functions` are the names that it may call.
    pub fn new(style: ToolStyle, functions: Arc<[String]>) -> Self {
        match style {
            ToolStyle::Llama => Self::Llama(Llama::new(functions)),
            ToolStyle::Hermes => Self::Hermes(Hermes::new()),
            ToolStyle::Mistral => Self::Mistral(Mistral::new()),
        }
    }

    /// Takes the next text and returns what became certain with it.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        let mut out = Vec::new();
        for c in text.chars() {
            match self {
                Self::Llama(parser) => parser.push(c, &mut out),
                Self::Hermes(parser) => parser.push(c, &mut out),
                Self::Mistral(parser) => parser.push(c, &mut out),
            }
        }
        out
    }

    /// Ends the answer: what is not a call by now is none.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut out = Vec::new();
        match self {
            Self::Llama(parser) => parser.finish(&mut out),
            Self::Hermes(parser) => parser.finish(&mut out),
            Self::Mistral(parser) => parser.finish(&mut out),
        }
        out
    }
}

/// Appends text to the parts, to the last one where that is text too.
fn put_text(out: &mut Vec<Part>, text: &str) {
    match out.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => out.push(Part::Text(text.to_owned())),
    }
}

/// Appends a character of arguments to the parts.
fn put_argument(out: &mut Vec<Part>, c: char) {
    match out.last_mut() {
        Some(Part::Arguments(last)) => last.push(c),
        _ => out.push(Part::Arguments(c.to_string())),
    }
}
