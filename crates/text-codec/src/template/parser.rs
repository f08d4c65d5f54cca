//! Reads the tokens of a tag.

use std::collections::BTreeSet;

use super::lexer::Token;

/// Maximum number of operators, filters or subscripts in a row.
const MAX_CHAIN: usize = 500;

/// Parser of the tokens of one tag.
pub(super) struct Parser {
    pub(super) tokens: std::vec::IntoIter<Token>,
    pub(super) current: Option<Token>,
    /// Nesting of the expression that is parsed.
    pub(super) depth: usize,
    /// Names that the expressions read.
    pub(super) reads: BTreeSet<String>,
}

pub(super) type Parsed = Result<String, String>;

/// Text of a string literal for minijinja.
pub(super) fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Parser {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        let mut tokens = tokens.into_iter();
        let current = tokens.next();
        Self {
            tokens,
            current,
            depth: 0,
            reads: BTreeSet::new(),
        }
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        std::mem::replace(&mut self.current, self.tokens.next())
    }

    pub(super) fn at(&self, symbol: &str) -> bool {
        matches!(&self.current, Some(Token::Symbol(s)) if *s == symbol)
    }

    pub(super) fn at_name(&self, name: &str) -> bool {
        matches!(&self.current, Some(Token::Name(n)) if n == name)
    }

    /// The name that is next, if one is.
    pub(super) fn name_or_empty(&self) -> &str {
        match &self.current {
            Some(Token::Name(name)) => name,
            _ => "",
        }
    }

    pub(super) fn skip(&mut self, symbol: &str) -> bool {
        let found = self.at(symbol);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.at_name(name);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn expect(&mut self, symbol: &str) -> Result<(), String> {
        if self.skip(symbol) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{symbol}`")))
    }

    pub(super) fn name(&mut self) -> Parsed {
        match self.next() {
            Some(Token::Name(name)) => Ok(name),
            other => {
                self.current = other;
                Err(self.unexpected("a name"))
            }
        }
    }

    pub(super) fn end(&self) -> Result<(), String> {
        match self.current {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the tag")),
        }
    }

    pub(super) fn unexpected(&self, expected: &str) -> String {
        let found = match &self.current {
            None => "the end of the tag".to_owned(),
            Some(Token::Name(name) | Token::Number(name)) => format!("`{name}`"),
            Some(Token::Text(_)) => "a string".to_owned(),
            Some(Token::Symbol(symbol)) => format!("`{symbol}`"),
        };
        format!("unexpected {found}, expected {expected}")
    }
}

pub(super) fn check_chain(links: usize) -> Result<(), String> {
    if links > MAX_CHAIN {
        return Err(format!(
            "more than {MAX_CHAIN} operators or filters in a row"
        ));
    }
    Ok(())
}
