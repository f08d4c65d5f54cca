use std::borrow::Cow;

use crate::{harmony::Harmony, marks::MarkSplitter, phase::Phase};

/// Separates reasoning and answer of one output, which arrives in pieces. The result depends on
/// the text only, not on the boundaries of the pieces.
///
/// Marks are not part of the result, nor is whitespace next to them. Text is held back while it
/// could be the beginning of a mark.
#[derive(Debug, Clone)]
pub struct Splitter(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Marks(MarkSplitter),
    Harmony(Harmony),
}

impl Splitter {
    pub(crate) fn marks(splitter: MarkSplitter) -> Self {
        Self(Kind::Marks(splitter))
    }

    pub(crate) fn harmony(splitter: Harmony) -> Self {
        Self(Kind::Harmony(splitter))
    }

    /// Processes the next piece of the output. Appends reasoning that became final to
    /// `reasoning` and returns the text of the answer that became final, without copying it
    /// where nothing was held back.
    pub fn push<'a>(&mut self, text: &'a str, reasoning: &mut String) -> Cow<'a, str> {
        match &mut self.0 {
            Kind::Marks(splitter) => splitter.push(text, reasoning),
            Kind::Harmony(splitter) => splitter.push(text, reasoning),
        }
    }

    /// Ends an output that the model ended: what is held back is text. Returns the rest of the
    /// answer.
    pub fn finish(&mut self, reasoning: &mut String) -> String {
        match &mut self.0 {
            Kind::Marks(splitter) => splitter.finish(reasoning),
            Kind::Harmony(splitter) => splitter.finish(reasoning),
        }
    }

    /// Ends an output that was cut off: what is held back is the start of a mark, and is dropped.
    /// Returns the header of a call to a function, which the output was cut off in.
    pub fn cut_off(&mut self, reasoning: &mut String) -> String {
        match &mut self.0 {
            Kind::Marks(splitter) => splitter.cut_off(reasoning),
            Kind::Harmony(splitter) => splitter.cut_off(),
        }
    }

    /// Whether all further text is the answer, unchanged.
    pub fn is_transparent(&self) -> bool {
        match &self.0 {
            Kind::Marks(splitter) => splitter.is_transparent(),
            Kind::Harmony(_) => false,
        }
    }

    /// Returns the part of the output that the next text belongs to.
    pub fn phase(&self) -> Phase {
        match &self.0 {
            Kind::Marks(splitter) => splitter.phase(),
            Kind::Harmony(splitter) => splitter.phase(),
        }
    }
}
