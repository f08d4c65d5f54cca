//! Parses expressions as jinja2 does, and writes them for minijinja with calls of the functions
//! that compute what minijinja computes differently.

use std::collections::BTreeSet;

use super::{lexer::Token, python::methods};

/// Maximum nesting of an expression.
const MAX_DEPTH: usize = 60;
/// Maximum number of operators, filters or subscripts in a row.
const MAX_CHAIN: usize = 500;

/// Parser of the tokens of one tag.
pub(super) struct Parser {
    tokens: std::vec::IntoIter<Token>,
    current: Option<Token>,
    depth: usize,
    /// Names that the expressions read.
    pub(super) reads: BTreeSet<String>,
}

type Parsed = Result<String, String>;

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

    fn unexpected(&self, expected: &str) -> String {
        let found = match &self.current {
            None => "the end of the tag".to_owned(),
            Some(Token::Name(name) | Token::Number(name)) => format!("`{name}`"),
            Some(Token::Text(_)) => "a string".to_owned(),
            Some(Token::Symbol(symbol)) => format!("`{symbol}`"),
        };
        format!("unexpected {found}, expected {expected}")
    }

    /// One expression, or several separated by commas, which are a tuple.
    pub(super) fn tuple(&mut self, conditional: bool) -> Parsed {
        let item = |parser: &mut Self| match conditional {
            true => parser.expression(),
            false => parser.or(),
        };
        let mut items = vec![item(self)?];
        let mut is_tuple = false;
        while self.skip(",") {
            is_tuple = true;
            let ends = matches!(
                &self.current,
                None | Some(Token::Symbol(")" | "=" | "]" | "}"))
            );
            if ends || self.at_name("in") || self.at_name("if") {
                break;
            }
            items.push(item(self)?);
        }
        Ok(match is_tuple {
            true if items.len() == 1 => format!("({},)", items.concat()),
            true => format!("({})", items.join(", ")),
            false => items.concat(),
        })
    }

    /// An expression, with `if … else …`.
    pub(super) fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!(
                "an expression is nested more than {MAX_DEPTH} levels"
            ));
        }
        let mut value = self.or()?;
        for links in 0.. {
            check_chain(links)?;
            if !self.skip_name("if") {
                break;
            }
            let condition = self.or()?;
            value = match self.skip_name("else") {
                true => format!("({value} if {condition} else {})", self.expression()?),
                false => format!("({value} if {condition})"),
            };
        }
        self.depth -= 1;
        Ok(value)
    }

    fn or(&mut self) -> Parsed {
        let mut parts = vec![self.and()?];
        while self.skip_name("or") {
            parts.push(self.and()?);
        }
        check_chain(parts.len())?;
        Ok(joined(parts, " or "))
    }

    fn and(&mut self) -> Parsed {
        let mut parts = vec![self.not()?];
        while self.skip_name("and") {
            parts.push(self.not()?);
        }
        check_chain(parts.len())?;
        Ok(joined(parts, " and "))
    }

    fn not(&mut self) -> Parsed {
        let mut count = 0;
        while self.skip_name("not") {
            count += 1;
        }
        let value = self.compare()?;
        Ok(match (count, count % 2) {
            (0, _) => value,
            (_, 1) => format!("(not {value})"),
            _ => format!("(not (not {value}))"),
        })
    }

    fn compare(&mut self) -> Parsed {
        let mut parts = vec![self.sum()?];
        loop {
            let operator = match &self.current {
                Some(Token::Symbol(s @ ("==" | "!=" | "<" | "<=" | ">" | ">="))) => {
                    let symbol = *s;
                    self.next();
                    symbol
                }
                Some(Token::Name(name)) if name == "in" => {
                    self.next();
                    "in"
                }
                Some(Token::Name(name)) if name == "not" => {
                    self.next();
                    if !self.skip_name("in") {
                        return Err(self.unexpected("`in`"));
                    }
                    "not in"
                }
                _ => break,
            };
            parts.push(literal(operator));
            parts.push(self.sum()?);
        }
        Ok(match parts.len() {
            1 => parts.concat(),
            _ => format!("__compare({})", parts.join(", ")),
        })
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.concat()?;
        for links in 0.. {
            check_chain(links)?;
            if !self.at("+") && !self.at("-") {
                break;
            }
            if self.skip("-") {
                left = format!("({left} - {})", self.concat()?);
                continue;
            }
            let mut parts = vec![left];
            while self.skip("+") {
                parts.push(self.concat()?);
            }
            left = format!("__add({})", parts.join(", "));
        }
        Ok(left)
    }

    fn concat(&mut self) -> Parsed {
        let mut parts = vec![self.product()?];
        while self.skip("~") {
            parts.push(self.product()?);
        }
        Ok(match parts.len() {
            1 => parts.concat(),
            _ => format!("__concat({})", parts.join(", ")),
        })
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.power()?;
        for links in 0.. {
            check_chain(links)?;
            left = if self.skip("*") {
                format!("__mul({left}, {})", self.power()?)
            } else if self.skip("%") {
                format!("__mod({left}, {})", self.power()?)
            } else if self.skip("//") {
                format!("({left} // {})", self.power()?)
            } else if self.skip("/") {
                format!("({left} / {})", self.power()?)
            } else {
                break;
            };
        }
        Ok(left)
    }

    fn power(&mut self) -> Parsed {
        let mut left = self.unary(true)?;
        for links in 0.. {
            check_chain(links)?;
            if !self.skip("**") {
                break;
            }
            left = format!("({left} ** {})", self.unary(true)?);
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Parsed {
        let mut signs = Vec::new();
        while self.at("-") || self.at("+") {
            signs.push(self.skip("-") || !self.skip("+"));
        }
        check_chain(signs.len())?;
        let mut value = self.primary()?;
        value = self.postfix(value)?;
        // Filters follow a signed value, not the value without its sign.
        for minus in signs.iter().rev() {
            value = match minus {
                true => format!("(-{value})"),
                false => format!("__add(0, {value})"),
            };
        }
        match with_filters {
            true => self.filters(value),
            false => Ok(value),
        }
    }

    fn primary(&mut self) -> Parsed {
        match self.next() {
            Some(Token::Name(name)) => match name.as_str() {
                "true" | "True" | "false" | "False" | "none" | "None" => Ok(name),
                "and" | "or" | "else" | "if" | "in" | "is" | "not" => {
                    Err(format!("unexpected `{name}`, expected an expression"))
                }
                _ => {
                    self.reads.insert(name.clone());
                    Ok(name)
                }
            },
            Some(Token::Text(mut text)) => {
                while let Some(Token::Text(more)) = &self.current {
                    text.push_str(more);
                    self.next();
                }
                Ok(literal(&text))
            }
            Some(Token::Number(number)) => Ok(number),
            Some(Token::Symbol("(")) => {
                if self.skip(")") {
                    return Ok("()".to_owned());
                }
                let inner = self.nested(|parser| parser.tuple(true))?;
                self.expect(")")?;
                Ok(match inner.starts_with('(') {
                    true => inner,
                    false => format!("({inner})"),
                })
            }
            Some(Token::Symbol("[")) => {
                let items = self.items("]", Self::expression)?;
                Ok(format!("[{items}]"))
            }
            Some(Token::Symbol("{")) => {
                let items = self.items("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect(":")?;
                    Ok(format!("{key}: {}", parser.expression()?))
                })?;
                Ok(format!("{{{items}}}"))
            }
            other => {
                self.current = other;
                Err(self.unexpected("an expression"))
            }
        }
    }

    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!(
                "an expression is nested more than {MAX_DEPTH} levels"
            ));
        }
        let parsed = parse(self)?;
        self.depth -= 1;
        Ok(parsed)
    }

    /// Items separated by commas up to `end`.
    fn items(&mut self, end: &str, item: impl Fn(&mut Self) -> Parsed) -> Parsed {
        let mut items = Vec::new();
        while !self.skip(end) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.skip(end) {
                    break;
                }
            }
            items.push(self.nested(&item)?);
        }
        Ok(items.join(", "))
    }

    fn postfix(&mut self, mut value: String) -> Parsed {
        for links in 0.. {
            check_chain(links)?;
            if self.skip(".") {
                value = match self.next() {
                    Some(Token::Name(name)) => self.attribute(&value, &name)?,
                    Some(Token::Number(index)) if index.bytes().all(|b| b.is_ascii_digit()) => {
                        format!("{value}[{index}]")
                    }
                    other => {
                        self.current = other;
                        return Err(self.unexpected("a name or number"));
                    }
                };
            } else if self.skip("[") {
                value = self.nested(|parser| parser.subscript(&value))?;
            } else if self.skip("(") {
                value = format!("{value}({})", self.arguments()?);
            } else {
                break;
            }
        }
        Ok(value)
    }

    fn attribute(&mut self, value: &str, name: &str) -> Parsed {
        if !methods::is_known(name) {
            return Ok(format!("{value}.{name}"));
        }
        if !self.skip("(") {
            return Ok(format!("__attribute({value}, {})", literal(name)));
        }
        let arguments = self.arguments()?;
        let comma = if arguments.is_empty() { "" } else { ", " };
        Ok(format!(
            "__method({value}, {}{comma}{arguments})",
            literal(name)
        ))
    }

    /// The rest of a subscript or slice.
    fn subscript(&mut self, value: &str) -> Parsed {
        let mut parts: Vec<Option<String>> = vec![None];
        while !self.skip("]") {
            if self.skip(":") {
                parts.push(None);
            } else if let Some(part @ None) = parts.last_mut() {
                *part = Some(self.tuple(true)?);
            } else {
                return Err(self.unexpected("`]`"));
            }
        }
        match &parts[..] {
            [None] => Err("a subscript is empty".to_owned()),
            [Some(index)] => Ok(format!("{value}[{index}]")),
            slice if slice.len() <= 3 => {
                let part = |at: usize| slice.get(at).and_then(Option::as_deref).unwrap_or("none");
                Ok(format!(
                    "__slice({value}, {}, {}, {})",
                    part(0),
                    part(1),
                    part(2)
                ))
            }
            _ => Err("a slice has more than three parts".to_owned()),
        }
    }

    /// Arguments of a call up to `)`.
    fn arguments(&mut self) -> Parsed {
        self.items(")", |parser| {
            for splat in ["**", "*"] {
                if parser.skip(splat) {
                    return Ok(format!("{splat}{}", parser.expression()?));
                }
            }
            if let Some(Token::Name(name)) = &parser.current
                && matches!(parser.tokens.as_slice().first(), Some(Token::Symbol("=")))
            {
                let name = name.clone();
                parser.next();
                parser.next();
                return Ok(format!("{name}={}", parser.expression()?));
            }
            parser.expression()
        })
    }

    fn filters(&mut self, mut value: String) -> Parsed {
        for links in 0.. {
            check_chain(links)?;
            if self.skip("|") {
                value = format!("{value}|{}", self.filter()?);
            } else if self.skip_name("is") {
                value = self.test(&value)?;
            } else if self.skip("(") {
                value = format!("({value})({})", self.arguments()?);
            } else {
                break;
            }
        }
        Ok(value)
    }

    /// Name and arguments of a filter.
    pub(super) fn filter(&mut self) -> Parsed {
        let name = self.name()?;
        Ok(match self.skip("(") {
            true => format!("{name}({})", self.arguments()?),
            false => name,
        })
    }

    fn test(&mut self, value: &str) -> Parsed {
        let not = if self.skip_name("not") { "not " } else { "" };
        let name = self.name()?;
        let takes_argument = match &self.current {
            Some(Token::Name(next)) => {
                !["else", "or", "and", "if", "is", "not", "in"].contains(&next.as_str())
            }
            Some(Token::Text(_) | Token::Number(_)) => true,
            Some(Token::Symbol(symbol)) => ["[", "{"].contains(symbol),
            None => false,
        };
        let arguments = if self.skip("(") {
            self.arguments()?
        } else if takes_argument {
            let argument = self.primary()?;
            self.postfix(argument)?
        } else {
            String::new()
        };
        Ok(match arguments.is_empty() {
            true => format!("({not}{value} is {name})"),
            false => format!("({not}{value} is {name}({arguments}))"),
        })
    }
}

fn check_chain(links: usize) -> Result<(), String> {
    if links > MAX_CHAIN {
        return Err(format!(
            "more than {MAX_CHAIN} operators or filters in a row"
        ));
    }
    Ok(())
}

fn joined(parts: Vec<String>, operator: &str) -> String {
    match parts.len() {
        1 => parts.concat(),
        _ => format!("({})", parts.join(operator)),
    }
}
