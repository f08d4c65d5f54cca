//! What follows a value: attributes, subscripts, calls, filters, tests.

use super::{
    lexer::Token,
    parser::{Parsed, Parser, check_chain, literal},
    python::methods,
};

impl Parser {
    pub(super) fn postfix(&mut self, mut value: String) -> Parsed {
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

    pub(super) fn filters(&mut self, mut value: String) -> Parsed {
        for links in 0.. {
            check_chain(links)?;
            if self.skip("|") {
                value = match self.name_or_empty() {
                    // minijinja iterates more than Python does.
                    "batch" | "groupby" | "slice" | "sum" | "unique" => {
                        format!("__iterate({value})")
                    }
                    "map" | "reject" | "rejectattr" | "select" | "selectattr" => {
                        format!("__iterate_if_true({value})")
                    }
                    _ => value,
                };
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
        Ok(if self.skip("(") {
            format!("{name}({})", self.arguments()?)
        } else {
            name
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
        Ok(if arguments.is_empty() {
            format!("({not}{value} is {name})")
        } else {
            format!("({not}{value} is {name}({arguments}))")
        })
    }
}
