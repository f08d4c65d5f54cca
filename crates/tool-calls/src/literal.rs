//! Literals in the syntax of Python, and in that of Gemma 4, as JSON.

use std::str::Chars;

use serde_json::Value;

use crate::json::partial_mark;

/// Stands around strings in Gemma 4's syntax.
pub const GEMMA_QUOTE: &str = "<|\"|>";
/// Maximum nesting; the JSON parser has the same limit.
const MAX_DEPTH: u32 = 128;

/// Converts a literal.
pub(crate) fn value(text: &str) -> Option<String> {
    let mut reader = Reader::new(text);
    reader.value(0)?;
    reader.space();
    reader.rest.as_str().is_empty().then_some(reader.json)
}

/// Converts arguments to an object: keyword arguments, `a=1, b="x"`, or entries of an object,
/// `a:1,b:<|"|>x<|"|>`.
pub(crate) fn arguments(text: &str, quotes: Quotes) -> Option<String> {
    let mut reader = Reader::new(text);
    reader.entries(quotes.assign(), None, 0)?;
    Some(reader.json)
}

/// Converts arguments that were cut off, to the start of an object.
pub(crate) fn partial(text: &str, quotes: Quotes) -> String {
    let mut reader = Reader::new(text);
    if reader.entries(quotes.assign(), None, 0).is_some() {
        reader.json.pop();
    }
    reader.json
}

struct Reader<'a> {
    rest: Chars<'a>,
    json: String,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars(),
            json: String::new(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.rest.next();
        }
    }

    /// Skips whitespace and then `c`, if it is next.
    fn skip(&mut self, c: char) -> bool {
        self.space();
        let found = self.peek() == Some(c);
        if found {
            self.rest.next();
        }
        found
    }

    fn skip_text(&mut self, text: &str) -> bool {
        let rest = self.rest.as_str().strip_prefix(text);
        if let Some(rest) = rest {
            self.rest = rest.chars();
        }
        rest.is_some()
    }

    /// Reads entries up to `close`, or to the end of the text.
    fn entries(&mut self, assign: char, close: Option<char>, depth: u32) -> Option<()> {
        self.json.push('{');
        let mut first = true;
        while !self.at_end(close) {
            if !first {
                self.json.push_str(", ");
            }
            first = false;
            let before = self.json.len();
            let key = self.key(depth);
            if key.is_none() || !self.skip(assign) {
                self.json.truncate(before);
                return None;
            }
            self.json.push_str(": ");
            self.value(depth + 1)?;
            if !self.skip(',') && !self.at_end(close) {
                return None;
            }
        }
        self.close(close)?;
        self.json.push('}');
        Some(())
    }

    fn at_end(&mut self, close: Option<char>) -> bool {
        self.space();
        self.peek() == close
    }

    fn close(&mut self, close: Option<char>) -> Option<()> {
        match close {
            Some(c) => self.skip(c).then_some(()),
            None => Some(()),
        }
    }

    /// Reads a string, or a word, as a string.
    fn key(&mut self, depth: u32) -> Option<()> {
        self.space();
        if matches!(self.peek()?, '"' | '\'' | '<') {
            return self.value(depth + 1);
        }
        let word = self.word();
        (!word.is_empty()).then_some(())?;
        self.json.push_str(&Value::from(word).to_string());
        Some(())
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest.as_str();
        let is_end = |c: char| !(c.is_alphanumeric() || "_-+.$".contains(c));
        let end = rest.find(is_end).unwrap_or(rest.len());
        self.rest = rest[end..].chars();
        &rest[..end]
    }

    fn value(&mut self, depth: u32) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.space();
        match self.peek()? {
            '"' | '\'' => self.string(),
            '<' => self.marked_string(),
            '[' => self.list(']', depth),
            '(' => self.list(')', depth),
            '{' => {
                self.rest.next();
                self.entries(':', Some('}'), depth)
            }
            _ => {
                let word = self.word();
                self.json.push_str(&bare(word)?);
                Some(())
            }
        }
    }

    fn list(&mut self, close: char, depth: u32) -> Option<()> {
        self.rest.next();
        self.json.push('[');
        let mut first = true;
        while !self.at_end(Some(close)) {
            if !first {
                self.json.push_str(", ");
            }
            first = false;
            self.value(depth + 1)?;
            if !self.skip(',') && !self.at_end(Some(close)) {
                return None;
            }
        }
        self.close(Some(close))?;
        self.json.push(']');
        Some(())
    }

    fn marked_string(&mut self) -> Option<()> {
        self.skip_text(GEMMA_QUOTE).then_some(())?;
        let text = self.rest.as_str();
        let Some((text, rest)) = text.split_once(GEMMA_QUOTE) else {
            let end = text.len() - partial_mark(text, GEMMA_QUOTE);
            self.json.push_str(&string_start(&text[..end]));
            return None;
        };
        self.rest = rest.chars();
        self.json.push_str(&Value::from(text).to_string());
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        let quote = self.rest.next()?;
        let long = self.skip_text(&quote.to_string().repeat(2));
        let mut text = String::new();
        let end = self.string_text(quote, long, &mut text);
        self.json.push_str(&match end {
            Some(()) => Value::from(text).to_string(),
            None => string_start(&text),
        });
        end
    }

    /// Reads the text of a string, and its end.
    fn string_text(&mut self, quote: char, long: bool, text: &mut String) -> Option<()> {
        let triple = quote.to_string().repeat(3);
        loop {
            if long && self.skip_text(&triple) {
                return Some(());
            }
            match self.rest.next()? {
                c if c == quote && !long => return Some(()),
                c if c == quote && triple[1..].starts_with(self.rest.as_str()) => return None,
                '\\' => self.escape(text)?,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let c = self.rest.next()?;
        let plain = match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            '0' => '\0',
            '\n' => return Some(()),
            '\\' | '\'' | '"' | '/' => c,
            'x' => self.code(2).and_then(char::from_u32)?,
            'U' => self.code(8).and_then(char::from_u32)?,
            'u' => {
                let unit = self.code(4)?;
                if (0xd800..0xdc00).contains(&unit) && self.skip_text("\\u") {
                    let low = self
                        .code(4)?
                        .checked_sub(0xdc00)
                        .filter(|low| *low < 0x400)?;
                    char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)?
                } else {
                    char::from_u32(unit)?
                }
            }
            // Python keeps the backslash of an unknown escape.
            other => {
                text.push('\\');
                other
            }
        };
        text.push(plain);
        Some(())
    }

    fn code(&mut self, digits: usize) -> Option<u32> {
        let code = self.rest.as_str().get(..digits)?;
        self.rest = self.rest.as_str().get(digits..)?.chars();
        u32::from_str_radix(code, 16).ok()
    }
}

/// Returns a string without its closing quote, as JSON.
pub(crate) fn string_start(text: &str) -> String {
    let mut json = Value::from(text).to_string();
    json.pop();
    json
}

/// Converts a number or a constant.
fn bare(word: &str) -> Option<String> {
    let constant = match word {
        "True" | "true" => "true",
        "False" | "false" => "false",
        "None" | "null" => "null",
        _ => {
            let digits = word.replace('_', "");
            let digits = digits.strip_prefix('+').unwrap_or(&digits);
            let digits = match digits.strip_suffix('.') {
                Some(integer) => integer.to_owned(),
                None => digits.replacen("-.", "-0.", 1),
            };
            let digits = match digits.strip_prefix('.') {
                Some(fraction) => format!("0.{fraction}"),
                None => digits,
            };
            let number = serde_json::from_str::<Value>(&digits).ok()?;
            return number.is_number().then_some(digits);
        }
    };
    Some(constant.to_owned())
}

/// Finds the end of arguments by their brackets and quotes, one character at a time.
#[derive(Debug)]
pub(crate) struct Extent {
    depth: u32,
    quotes: Quotes,
    within: Within,
}

/// Which strings there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    Python,
    Gemma,
}

impl Quotes {
    /// Stands between a key and its value.
    fn assign(self) -> char {
        match self {
            Self::Python => '=',
            Self::Gemma => ':',
        }
    }

    /// Follows the arguments.
    pub fn closing(self) -> char {
        match self {
            Self::Python => ')',
            Self::Gemma => '}',
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Code,
    /// After this many quotes, which may begin a string of one or three.
    Opening(char, u8),
    String(char),
    Escape(char),
    /// In a string with three quotes, after so many of its closing ones.
    Long(char, u8),
    LongEscape(char),
    /// After so many characters of the mark that begins or ends a string.
    Mark {
        matched: usize,
        in_string: bool,
    },
}

impl Extent {
    /// Starts after the opening bracket.
    pub fn new(quotes: Quotes) -> Self {
        Self {
            depth: 1,
            quotes,
            within: Within::Code,
        }
    }

    /// Processes the next character. Returns whether it closes the first bracket.
    pub fn push(&mut self, c: char) -> bool {
        self.within = match self.within {
            Within::Opening(quote, 2) if c == quote => Within::Long(quote, 0),
            Within::Code | Within::Opening(_, 2) => return self.code(c),
            Within::Opening(quote, 1) if c == quote => Within::Opening(quote, 2),
            Within::Opening(quote, _) | Within::String(quote) => match c {
                '\\' => Within::Escape(quote),
                _ if c == quote => Within::Code,
                _ => Within::String(quote),
            },
            Within::Escape(quote) => Within::String(quote),
            Within::Long(quote, closing) => match c {
                '\\' => Within::LongEscape(quote),
                _ if c == quote && closing == 2 => Within::Code,
                _ if c == quote => Within::Long(quote, closing + 1),
                _ => Within::Long(quote, 0),
            },
            Within::LongEscape(quote) => Within::Long(quote, 0),
            Within::Mark { matched, in_string } => return self.mark(c, matched, in_string),
        };
        false
    }

    fn code(&mut self, c: char) -> bool {
        self.within = match (c, self.quotes) {
            ('"', Quotes::Gemma) => Within::String('"'),
            ('<', Quotes::Gemma) => Within::Mark {
                matched: 1,
                in_string: false,
            },
            ('"' | '\'', Quotes::Python) => Within::Opening(c, 1),
            _ => Within::Code,
        };
        match c {
            '(' | '[' | '{' => self.depth += 1,
            ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0
    }

    fn mark(&mut self, c: char, matched: usize, in_string: bool) -> bool {
        let expected = GEMMA_QUOTE.chars().nth(matched);
        if expected == Some(c) {
            let complete = matched + 1 == GEMMA_QUOTE.len();
            let in_string = in_string != complete;
            self.within = match (complete, in_string) {
                (true, false) => Within::Code,
                (true, true) => Within::Mark {
                    matched: 0,
                    in_string,
                },
                (false, _) => Within::Mark {
                    matched: matched + 1,
                    in_string,
                },
            };
            return false;
        }
        if in_string {
            self.within = Within::Mark {
                matched: usize::from(c == '<'),
                in_string,
            };
            return false;
        }
        self.code(c)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn converts_keyword_arguments_of_python() {
        for (text, expected) in [
            ("", json!({})),
            (
                "a=1, b='x', c=True, d=None,",
                json!({"a": 1, "b": "x", "c": true, "d": null}),
            ),
            (
                "a=[1, (2, 3)], b={'k': \"it's\", \"l\": {}}",
                json!({"a": [1, [2, 3]], "b": {"k": "it's", "l": {}}}),
            ),
            (
                r#"a="\"\u00e9\n\d", b='''it's "x"''', c=''"#,
                json!({"a": "\"é\n\\d", "b": "it's \"x\"", "c": ""}),
            ),
            (
                "a=-1.5e3, b=.5, c=1_000, d=2.",
                json!({"a": -1500.0, "b": 0.5, "c": 1000, "d": 2}),
            ),
        ] {
            let json = arguments(text, Quotes::Python).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
        }
        for wrong in [
            "1", "a", "a=", "a=x", "a=1 b=2", "a='x", "a=f(1)", "=1", "a=[1",
        ] {
            assert_eq!(arguments(wrong, Quotes::Python), None, "{wrong}");
        }
    }

    #[test]
    fn converts_objects_of_gemma() {
        let text = r#"city:<|"|>Pa"ri}s<|"|>,days:3,opt:{x:[1,true,None],y:"z"}"#;
        let json = arguments(text, Quotes::Gemma).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&json).unwrap(),
            json!({"city": "Pa\"ri}s", "days": 3, "opt": {"x": [1, true, null], "y": "z"}})
        );
    }

    #[test]
    fn finds_the_end_of_arguments() {
        for (quotes, text) in [
            (
                Quotes::Python,
                r#"a=")", b='\')', c=''')"')''', d='', e=[(1)])"#,
            ),
            (Quotes::Gemma, r#"a:<|"|>}<|"<|"|>,b:"}\"",c:{d:1}}"#),
        ] {
            let mut extent = Extent::new(quotes);
            let end = text.chars().position(|c| extent.push(c));
            assert_eq!(end, Some(text.len() - 1), "{text}");
        }
    }
}
