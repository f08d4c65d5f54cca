//! Patterns of parameter expansions: literal characters, `*` and `?`.

/// A pattern without brackets, quotes and expansions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(u8),
    Any,
    Many,
}

impl Glob {
    /// Parses a pattern. `None` if it contains more than literal ASCII characters, `*` and `?`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut tokens = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            tokens.push(match byte {
                b'*' => Token::Many,
                b'?' => Token::Any,
                b'\\' => Token::Char(bytes.next().filter(u8::is_ascii)?),
                b'[' | b'$' | b'`' | b'"' | b'\'' | b'(' | b'~' | b'|' => return None,
                byte if byte.is_ascii() => Token::Char(byte),
                _ => return None,
            });
        }
        Some(Self(tokens))
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        self.longest(text) == Some(text.len())
    }

    /// Length of the longest match at the beginning of the text.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<usize> {
        // The lengths of text that the tokens so far can match.
        let mut ends = vec![false; text.len() + 1];
        ends[0] = true;
        for token in &self.0 {
            let mut next = vec![false; text.len() + 1];
            match token {
                Token::Many => {
                    let first = ends.iter().position(|end| *end)?;
                    next[first..].fill(true);
                }
                Token::Any | Token::Char(_) => {
                    for (at, byte) in text.iter().enumerate() {
                        let fits = *token == Token::Any || *token == Token::Char(*byte);
                        next[at + 1] = ends[at] && fits;
                    }
                }
            }
            ends = next;
        }
        ends.iter().rposition(|end| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_bash() {
        for (pattern, text, longest) in [
            ("", "abc", Some(0)),
            ("a", "abc", Some(1)),
            ("b", "abc", None),
            ("*", "abc", Some(3)),
            ("*b", "abcbd", Some(4)),
            ("a?c", "abcd", Some(3)),
            ("a*", "", None),
            (r"\*", "*x", Some(1)),
            ("*.*", "1.2.3", Some(5)),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(glob.longest(text.as_bytes()), longest, "{pattern} {text}");
        }
        assert!(Glob::parse("*b").unwrap().matches(b"ab"));
        assert!(!Glob::parse("*b").unwrap().matches(b"abc"));
        for other in ["[ab]", "$x", "'a'", "é", "@(a|b)", "a\\"] {
            assert_eq!(Glob::parse(other), None, "{other}");
        }
    }
}
