use crate::{
    controls::Controls,
    harmony::{self, Harmony},
    marks::{FAMILIES, Family, MarkSplitter},
    phase::Start,
    source::Source,
    splitter::Splitter,
};

/// How a model writes its reasoning, and how its chat template controls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pub(crate) syntax: Syntax,
    pub(crate) controls: Controls,
    in_template: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// Reasoning between two marks, before the answer.
    Marks(&'static Family),
    /// Messages on the channels `analysis`, `commentary` and `final`: gpt-oss.
    Harmony,
}

impl Format {
    /// Detects the format from the Jinja source of the chat template, and from the vocabulary if
    /// the template has no marks. Returns `None` if the model does not reason, as far as is known.
    pub fn detect(template: &str, has_token: impl Fn(&str) -> bool) -> Option<Self> {
        let named = if template.contains(harmony::CHANNEL) && template.contains(harmony::ANALYSIS) {
            Some(Syntax::Harmony)
        } else {
            let family = FAMILIES.iter().find(|family| family.is_in(template));
            family.map(Syntax::Marks)
        };
        let in_vocabulary = || {
            let family = FAMILIES
                .iter()
                .find(|family| has_token(family.open) && has_token(family.close));
            family.map(Syntax::Marks)
        };
        Some(Self {
            syntax: named.or_else(in_vocabulary)?,
            controls: Controls::of(&Source::read(template)),
            in_template: named.is_some(),
        })
    }

    /// Whether the chat template knows of reasoning. Otherwise, only the vocabulary has marks.
    pub fn in_template(&self) -> bool {
        self.in_template
    }

    /// Texts that separate reasoning and answer. In some vocabularies they are special tokens.
    pub fn marks(&self) -> Vec<&'static str> {
        match self.syntax {
            Syntax::Harmony => harmony::MARKS.to_vec(),
            Syntax::Marks(family) => family.tokens.to_vec(),
        }
    }

    /// Tokens that only separate messages, although they end the output of other models.
    pub fn separators(&self) -> &'static [&'static str] {
        match self.syntax {
            Syntax::Harmony => &[harmony::END],
            Syntax::Marks(_) => &[],
        }
    }

    /// Tokens that end the output, in addition to those that the model's files name.
    pub fn end_tokens(&self) -> &'static [&'static str] {
        match self.syntax {
            Syntax::Harmony => &["<|return|>", "<|call|>"],
            Syntax::Marks(_) => &[],
        }
    }

    /// Text that begins reasoning.
    pub fn opening(&self) -> &'static str {
        match self.syntax {
            Syntax::Harmony => harmony::CHANNEL,
            Syntax::Marks(family) => family.open,
        }
    }

    /// Text that ends reasoning and begins the answer.
    pub fn closing(&self) -> &'static str {
        match self.syntax {
            Syntax::Harmony => harmony::TO_FINAL,
            Syntax::Marks(family) => family.close,
        }
    }

    /// Whether every output begins with [`Self::opening`], also one without reasoning.
    pub fn always_opens(&self) -> bool {
        self.syntax == Syntax::Harmony
    }

    /// Returns where the output begins after a prompt that ends with `prompt_end`.
    pub fn start(&self, prompt_end: &str) -> Start {
        let end = prompt_end.trim_end();
        match self.syntax {
            Syntax::Harmony => harmony::start(end),
            Syntax::Marks(family) if end.ends_with(family.open) => Start::Reasoning,
            Syntax::Marks(family) if end.ends_with(family.close) => Start::Answer,
            Syntax::Marks(_) => Start::Undecided,
        }
    }

    /// Returns a splitter for an output that begins at `start`.
    pub fn splitter(&self, start: Start) -> Splitter {
        match self.syntax {
            Syntax::Harmony => Splitter::harmony(Harmony::new(start)),
            Syntax::Marks(family) => Splitter::marks(MarkSplitter::new(family, start)),
        }
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
