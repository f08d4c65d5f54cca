//! Tokens of the code between `{{` and `}}`, or `{%` and `%}`.

/// Token of an expression or statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Name(String),
    /// Text of a string literal, with its escapes resolved.
    Text(String),
    /// Number as Jinja's syntax has it, in decimal digits.
    Number(String),
    Symbol(&'static str),
}

/// Symbols, the longer of two with a common start first.
const SYMBOLS: &[&str] = &[
    "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",",
];

/// Reads the tokens of a tag up to its end mark, such as `}}`. Returns them with the sign before
/// the mark (`-`, `+` or nothing) and the rest of the source after the mark.
pub(super) fn tag<'a>(
    source: &'a str,
    end: &str,
) -> Result<(Vec<Token>, &'static str, &'a str), String> {
    let mut rest = source;
    let mut tokens = Vec::new();
    let mut open = 0_usize;
    loop {
        rest = rest.trim_start();
        if open == 0 {
            for sign in ["-", "+", ""] {
                let after = rest.strip_prefix(sign).and_then(|r| r.strip_prefix(end));
                if let Some(after) = after
                    && !(sign == "+" && end == "}}")
                {
                    return Ok((tokens, sign, after));
                }
            }
        }
        let Some(first) = rest.chars().next() else {
            return Err(format!("unexpected end of template, expected `{end}`"));
        };
        let (token, length) = if first == '"' || first == '\'' {
            text(rest, first)?
        } else if first.is_ascii_digit() {
            number(rest)?
        } else if first.is_alphabetic() || first == '_' {
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
            let name = name.take(1).collect::<String>();
            let length = name.len();
            (Token::Name(name), length)
        } else if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            match *symbol {
                "(" | "[" | "{" => open += 1,
                ")" | "]" | "}" if open == 0 => return Err(format!("unexpected `{symbol}`")),
                ")" | "]" | "}" => open -= 1,
                _ => {}
            }
            (Token::Symbol(symbol), symbol.len())
        } else {
            return Err(format!("unexpected character `{}`", first.escape_debug()));
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// Reads a string literal; escapes are those of Python.
fn text(source: &str, quote: char) -> Result<(Token, usize), String> {
    let mut out = String::new();
    let mut chars = source.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((Token::Text(out), at + 1));
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some((at, escaped)) = chars.next() else {
            break;
        };
        let digits = |from: usize, count: usize, radix: u32| {
            let digits = source.get(from..from + count)?;
            let code = u32::from_str_radix(digits, radix).ok()?;
            digits
                .bytes()
                .all(|b| b.is_ascii_hexdigit())
                .then_some(code)
        };
        let mut skip = 0;
        match escaped {
            '\n' => {}
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            '\\' | '\'' | '"' => out.push(escaped),
            'x' | 'u' | 'U' => {
                skip = match escaped {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let mut code = digits(at + 1, skip, 16);
                // Two halves of a surrogate pair are one character.
                let low = source.get(at + 5..at + 7).filter(|u| *u == "\\u");
                if let (Some(high @ 0xd800..0xdc00), Some(_)) = (code, low)
                    && let Some(low @ 0xdc00..0xe000) = digits(at + 7, 4, 16)
                {
                    code = Some(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                    skip = 10;
                }
                let Some(c) = code.and_then(char::from_u32) else {
                    return Err(format!("invalid escape `\\{escaped}` in a string"));
                };
                out.push(c);
            }
            '0'..='7' => {
                let count = source.as_bytes()[at..]
                    .iter()
                    .take(3)
                    .take_while(|b| (b'0'..b'8').contains(b))
                    .count();
                out.extend(digits(at, count, 8).and_then(char::from_u32));
                skip = count - 1;
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        for _ in 0..skip {
            chars.next();
        }
    }
    Err("unexpected end of template in a string".to_owned())
}

/// Reads a number: decimal, hexadecimal, octal, binary, or with a fraction or exponent.
fn number(source: &str) -> Result<(Token, usize), String> {
    let run = |from: usize| {
        let rest = source.as_bytes().get(from..).unwrap_or_default();
        rest.iter()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
            .count()
    };
    let digits = |from: usize| {
        let rest = source.as_bytes().get(from..).unwrap_or_default();
        rest.iter()
            .take_while(|b| b.is_ascii_digit() || **b == b'_')
            .count()
    };
    for (prefix, radix) in [
        ("0x", 16),
        ("0X", 16),
        ("0b", 2),
        ("0B", 2),
        ("0o", 8),
        ("0O", 8),
    ] {
        if source.starts_with(prefix) {
            let length = run(2) + 2;
            let text = source.get(2..length).unwrap_or_default().replace('_', "");
            let value = i128::from_str_radix(&text, radix)
                .map_err(|_| format!("invalid number `{prefix}…`"))?;
            return Ok((Token::Number(value.to_string()), length));
        }
    }
    let mut length = digits(0);
    if source[length..].starts_with('.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
    }
    if source[length..].starts_with(['e', 'E']) {
        let sign = usize::from(source[length + 1..].starts_with(['+', '-']));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    Ok((Token::Number(source[..length].replace('_', "")), length))
}
