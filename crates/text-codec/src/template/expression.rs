//! Parses expressions as jinja2 does, and writes them for minijinja with calls of the functions
//! that compute what minijinja computes differently.

use super::{
    lexer::Token,
    parser::{Parsed, Parser, check_chain, literal},
};

/// Maximum nesting of an expression.
const MAX_DEPTH: usize = 60;

impl Parser {
    /// One expression, or several separated by commas, which are a tuple.
    pub(super) fn tuple(&mut self, conditional: bool) -> Parsed {
        let item = |parser: &mut Self| {
            if conditional {
                parser.expression()
            } else {
                parser.or()
            }
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
            value = if self.skip_name("else") {
                format!("({value} if {condition} else {})", self.expression()?)
            } else {
                format!("({value} if {condition})")
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
        Ok(joined(&parts, " or "))
    }

    fn and(&mut self) -> Parsed {
        let mut parts = vec![self.not()?];
        while self.skip_name("and") {
            parts.push(self.not()?);
        }
        check_chain(parts.len())?;
        Ok(joined(&parts, " and "))
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
        if with_filters {
            self.filters(value)
        } else {
            Ok(value)
        }
    }

    pub(super) fn primary(&mut self) -> Parsed {
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
                Ok(if inner.starts_with('(') {
                    inner
                } else {
                    format!("({inner})")
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

    pub(super) fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
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
    pub(super) fn items(&mut self, end: &str, item: impl Fn(&mut Self) -> Parsed) -> Parsed {
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
}

fn joined(parts: &[String], operator: &str) -> String {
    match parts.len() {
        1 => parts.concat(),
        _ => format!("({})", parts.join(operator)),
    }
}
