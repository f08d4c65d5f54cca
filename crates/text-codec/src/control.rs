//! Keeps text of a conversation that spells a control token from becoming that token.
//!
//! Each spelling inside a text of the request is broken by a mark, a character that the request
//! does not contain. After rendering, only the control tokens that the template itself wrote are
//! whole; then the marks are removed.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};
use diagnostics::Diagnostic;
use minijinja::{Value, value::ValueKind};

use crate::errors;

/// Marks: characters that Unicode keeps for internal use by programs.
const MARKS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';
/// Maximum nesting of a value that is searched.
const MAX_DEPTH: usize = 200;

/// Whether a character can be a mark.
pub(crate) fn is_mark(c: char) -> bool {
    MARKS.contains(&c)
}

/// Finds the spellings of the control tokens of a vocabulary.
#[derive(Debug)]
pub(crate) struct ControlTokens {
    names: Names,
    reversed: Names,
    overlapping: AhoCorasick,
    longest: AhoCorasick,
}

/// Sorted names.
#[derive(Debug)]
struct Names {
    sorted: Vec<String>,
    longest: usize,
}

/// Part of a rendered prompt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text that the tokenizer may search for control tokens.
    Template(&'a str),
    /// Text without marks in which no control token is recognized.
    Plain(String),
}

/// Texts in which spellings were found.
#[derive(Debug, Default)]
struct Search {
    found: bool,
    used: BTreeSet<char>,
}

impl ControlTokens {
    /// `names` are those of the control tokens; one of a single character cannot be broken.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, Diagnostic> {
        let names = names.filter(|name| name.chars().nth(1).is_some());
        let names: Vec<String> = names.map(str::to_owned).collect();
        let build = |kind| AhoCorasick::builder().match_kind(kind).build(&names);
        Ok(Self {
            overlapping: build(MatchKind::Standard).map_err(errors::invalid_tokenizer)?,
            longest: build(MatchKind::LeftmostLongest).map_err(errors::invalid_tokenizer)?,
            reversed: Names::new(names.iter().map(|name| name.chars().rev().collect())),
            names: Names::new(names.into_iter()),
        })
    }

    /// Returns a mark if any text in the values spells a control token.
    pub(crate) fn mark_for(&self, values: &[&Value]) -> Result<Option<char>, Diagnostic> {
        let mut search = Search::default();
        for value in values {
            self.search(value, &mut search, 0);
        }
        if !search.found {
            return Ok(None);
        }
        let mut free = MARKS.filter(|mark| !search.used.contains(mark));
        free.next().map(Some).ok_or_else(errors::no_free_mark)
    }

    fn search(&self, value: &Value, search: &mut Search, depth: usize) {
        if let Some(text) = value.as_str() {
            search.found |= self.touches(text);
            // The marks have a common lead byte, which is rare.
            if text.as_bytes().contains(&0xef) {
                search.used.extend(text.chars().filter(|c| is_mark(*c)));
            }
            return;
        }
        if depth > MAX_DEPTH || !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
            return;
        }
        for item in value.try_iter().into_iter().flatten() {
            self.search(&item, search, depth + 1);
            if value.kind() == ValueKind::Map
                && let Ok(item) = value.get_item(&item)
            {
                self.search(&item, search, depth + 1);
            }
        }
    }

    /// Whether the text spells a control token, or could together with the text around it.
    fn touches(&self, text: &str) -> bool {
        self.overlapping.is_match(text) || self.opens(text) || self.closes(text)
    }

    /// Whether the text ends with the start of a name.
    fn opens(&self, text: &str) -> bool {
        self.names.start_at_end_of(text)
    }

    /// Whether the text starts with the end of a name.
    fn closes(&self, text: &str) -> bool {
        let start = text.chars().take(self.reversed.longest);
        let start: String = start.collect::<Vec<_>>().into_iter().rev().collect();
        self.reversed.start_at_end_of(&start)
    }

    /// Returns the value with all spellings broken.
    pub(crate) fn break_spellings(&self, value: &Value, mark: char) -> Value {
        self.broken(value, mark, 0)
    }

    fn broken(&self, value: &Value, mark: char, depth: usize) -> Value {
        if let Some(text) = value.as_str() {
            return Value::from(self.broken_text(text, mark));
        }
        match value.kind() {
            _ if depth > MAX_DEPTH => Value::from(()),
            ValueKind::Seq => {
                let items = value.try_iter().into_iter().flatten();
                items
                    .map(|item| self.broken(&item, mark, depth + 1))
                    .collect()
            }
            ValueKind::Map => {
                let keys = value.try_iter().into_iter().flatten();
                let entries = keys.map(|key| {
                    let item = value.get_item(&key).unwrap_or_default();
                    let item = self.broken(&item, mark, depth + 1);
                    (self.broken(&key, mark, depth + 1), item)
                });
                Value::from_pairs(entries)
            }
            _ => value.clone(),
        }
    }

    fn broken_text(&self, text: &str, mark: char) -> String {
        let mut at: BTreeSet<usize> = self
            .overlapping
            .find_overlapping_iter(text)
            .filter_map(|found| {
                let first = text.get(found.start()..)?.chars().next()?;
                Some(found.start() + first.len_utf8())
            })
            .collect();
        if self.closes(text) {
            at.insert(0);
        }
        if self.opens(text) {
            at.insert(text.len());
        }
        let mut out = String::with_capacity(text.len() + at.len() * mark.len_utf8());
        let mut from = 0;
        for at in at {
            out.push_str(&text[from..at]);
            out.push(mark);
            from = at;
        }
        out.push_str(&text[from..]);
        out
    }

    /// Splits a rendered text at the control tokens next to text with marks.
    pub(crate) fn pieces<'a>(&self, text: &'a str, mark: char) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        // Start of the text that is not yet in a piece, and of the text after the last token.
        let (mut start, mut plain) = (0, 0);
        let tokens = self
            .longest
            .find_iter(text)
            .map(|found| (found.start(), found.end()));
        for (token, after) in tokens.chain([(text.len(), text.len())]) {
            if text[plain..token].contains(mark) {
                if start < plain {
                    pieces.push(Piece::Template(&text[start..plain]));
                }
                pieces.push(Piece::Plain(text[plain..token].replace(mark, "")));
                start = token;
            }
            plain = after;
        }
        if start < text.len() {
            pieces.push(Piece::Template(&text[start..]));
        }
        pieces
    }
}

impl Names {
    fn new(names: impl Iterator<Item = String>) -> Self {
        let mut sorted: Vec<String> = names.collect();
        sorted.sort_unstable();
        let longest = sorted.iter().map(String::len).max().unwrap_or(0);
        Self { sorted, longest }
    }

    /// Whether the text ends with the start of a name that is longer.
    fn start_at_end_of(&self, text: &str) -> bool {
        let starts = text.char_indices().rev().map(|(at, _)| &text[at..]);
        let mut starts = starts.take_while(|start| start.len() < self.longest);
        starts.any(|start| {
            let after = self.sorted.partition_point(|name| name.as_str() <= start);
            let next = self.sorted.get(after);
            next.is_some_and(|name| name.starts_with(start))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> ControlTokens {
        ControlTokens::new(["<|im_start|>", "<|im_end|>", "<s>"].into_iter()).unwrap()
    }

    #[test]
    fn breaks_spellings_also_across_the_ends_of_a_text() {
        let mark = '\u{fdd0}';
        for (text, expected) in [
            ("a<s>b", "a<#s>b"),
            ("<<s><|im_end|>", "#<<#s><#|im_end|>#"),
            ("x <|im_", "x <|im_#"),
            ("end|> x", "#end|> x"),
            ("no token", "no token"),
        ] {
            let broken = tokens().broken_text(text, mark).replace(mark, "#");
            // Marks at the ends may be there for a shorter start or end of a name.
            assert_eq!(
                broken.trim_matches('#'),
                expected.trim_matches('#'),
                "{text}"
            );
        }
    }

    #[test]
    fn only_the_tokens_of_the_template_stay_whole() {
        let mark = '\u{fdd0}';
        let text = "<s>a<|im_start|>x<\u{fdd0}s>y<|im_end|>b<s>";
        assert_eq!(
            tokens().pieces(text, mark),
            [
                Piece::Template("<s>a<|im_start|>"),
                Piece::Plain("x<s>y".to_owned()),
                Piece::Template("<|im_end|>b<s>"),
            ]
        );
    }

    #[test]
    fn a_request_that_contains_every_mark_is_refused() {
        let text: String = MARKS.chain("<s>".chars()).collect();
        let error = tokens().mark_for(&[&Value::from(text)]).unwrap_err();
        assert_eq!(error.code, diagnostics::Code::InvalidRequest);
    }
}
