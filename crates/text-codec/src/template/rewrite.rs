//! Rewrites the source of a template so that minijinja renders it as jinja2 does.

use std::collections::BTreeSet;

use super::{lexer, parser::Parser};

/// Source for minijinja.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    pub(super) source: String,
    /// Variables that a statement reads to assign the same name.
    pub(super) read_by_own_assignment: BTreeSet<String>,
}

/// Statements without expressions.
const PLAIN: &[&str] = &[
    "else",
    "endif",
    "endfor",
    "endmacro",
    "endcall",
    "endset",
    "endfilter",
    "endwith",
    "break",
    "continue",
    "endblock",
    "endautoescape",
];

/// Rewrites a template. Errors name the line of the tag.
pub(super) fn rewrite(source: &str) -> Result<Rewritten, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = Rewritten::default();
    let mut rest = source.as_str();
    while let Some(start) = next_tag(rest) {
        let (data, tag) = rest.split_at(start);
        out.source.push_str(data);
        let line = || 1 + source[..source.len() - tag.len()].matches('\n').count();
        rest = copy_tag(&mut out, tag).map_err(|e| format!("{e} (line {})", line()))?;
    }
    out.source.push_str(rest);
    Ok(out)
}

fn next_tag(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find('{')?;
        match text.as_bytes().get(at + 1) {
            Some(b'{' | b'%' | b'#') => return Some(at),
            _ => from = at + 1,
        }
    }
}

/// Appends the tag at the start of `text`, rewritten; returns what follows it.
fn copy_tag<'a>(out: &mut Rewritten, text: &'a str) -> Result<&'a str, String> {
    let (mark, inner) = text.split_at(2);
    if mark == "{#" {
        let end = inner
            .find("#}")
            .ok_or("unexpected end of template in a comment")?;
        let (comment, rest) = text.split_at(2 + end + 2);
        out.source.push_str(comment);
        return Ok(rest);
    }
    let sign = inner
        .get(..1)
        .filter(|s| ["-", "+"].contains(s))
        .unwrap_or_default();
    let inner = &inner[sign.len()..];
    if mark == "{%"
        && let Some(length) = raw_block(inner)?
    {
        let (block, rest) = text.split_at(2 + sign.len() + length);
        out.source.push_str(block);
        return Ok(rest);
    }
    let end = if mark == "{%" { "%}" } else { "}}" };
    let (tokens, end_sign, rest) = lexer::tag(inner, end)?;
    let mut parser = Parser::new(tokens);
    let code = match mark {
        "{%" => statement(&mut parser, &mut out.read_by_own_assignment)?,
        _ => parser.tuple(true)?,
    };
    parser.end()?;
    for part in [mark, sign, " ", &code, " ", end_sign, end] {
        out.source.push_str(part);
    }
    Ok(rest)
}

/// Length of a raw block, from after the mark and sign that open it to its end.
fn raw_block(inner: &str) -> Result<Option<usize>, String> {
    let is_tag = |text: &str, name: &str| -> Option<usize> {
        let after = text.trim_start().strip_prefix(name)?.trim_start();
        let after = after.strip_prefix(['-', '+']).unwrap_or(after);
        Some(text.len() - after.strip_prefix("%}")?.len())
    };
    let Some(mut at) = is_tag(inner, "raw") else {
        return Ok(None);
    };
    while let Some(start) = inner[at..].find("{%") {
        at += start + 2;
        let rest = &inner[at..];
        let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        if let Some(length) = is_tag(unsigned, "endraw") {
            return Ok(Some(at + rest.len() - unsigned.len() + length));
        }
    }
    Err("unexpected end of template in a raw block".to_owned())
}

fn statement(parser: &mut Parser, own: &mut BTreeSet<String>) -> Result<String, String> {
    let keyword = parser.name()?;
    Ok(match keyword.as_str() {
        plain if PLAIN.contains(&plain) => {
            if plain == "endblock" {
                parser.next();
            }
            keyword
        }
        // Variables that are set inside are not visible outside.
        "generation" => "with __generation = true".to_owned(),
        "endgeneration" => "endwith".to_owned(),
        "if" | "elif" => format!("{keyword} {}", parser.tuple(true)?),
        "for" => for_loop(parser)?,
        "set" => assignment(parser, own)?,
        "macro" => {
            let name = parser.name()?;
            parser.expect("(")?;
            format!("macro {name}({})", parameters(parser)?)
        }
        "call" => {
            let parameters = if parser.skip("(") {
                format!("({})", parameters(parser)?)
            } else {
                String::new()
            };
            format!("call{parameters} {}", parser.expression()?)
        }
        "filter" => {
            let mut filters = vec![parser.filter()?];
            while parser.skip("|") {
                filters.push(parser.filter()?);
            }
            format!("filter {}", filters.join("|"))
        }
        "with" => {
            let mut parts = Vec::new();
            while parser.end().is_err() {
                if !parts.is_empty() {
                    parser.expect(",")?;
                }
                let target = targets(parser)?;
                parser.expect("=")?;
                parts.push(format!("{target} = {}", parser.expression()?));
            }
            if parts.is_empty() {
                parts.push("__with = true".to_owned());
            }
            format!("with {}", parts.join(", "))
        }
        "autoescape" => format!("autoescape {}", parser.expression()?),
        "block" => format!("block {}", parser.name()?),
        // A model has one template; what it names does not exist.
        "include" | "extends" => {
            parser.expression()?;
            while parser.next().is_some() {}
            format!("{keyword} \"\"")
        }
        _ => return Err(format!("unknown statement `{keyword}`")),
    })
}

fn for_loop(parser: &mut Parser) -> Result<String, String> {
    let target = targets(parser)?;
    if !parser.skip_name("in") {
        return Err("a loop has no `in`".to_owned());
    }
    let mut code = format!("for {target} in __iterate({})", parser.tuple(false)?);
    if parser.skip_name("if") {
        code = format!("{code} if {}", parser.expression()?);
    }
    if parser.skip_name("recursive") {
        code += " recursive";
    }
    Ok(code)
}

fn assignment(parser: &mut Parser, own: &mut BTreeSet<String>) -> Result<String, String> {
    let target = targets(parser)?;
    if parser.skip("=") {
        let value = parser.tuple(true)?;
        let assigned = |name: &&String| {
            target
                .split([',', ' ', '(', ')'])
                .any(|t| t == name.as_str())
        };
        own.extend(parser.reads.iter().filter(assigned).cloned());
        return Ok(format!("set {target} = {value}"));
    }
    let mut code = format!("set {target}");
    while parser.skip("|") {
        code = format!("{code}|{}", parser.filter()?);
    }
    Ok(code)
}

/// Names to assign: one, several separated by commas, an attribute of a namespace.
fn targets(parser: &mut Parser) -> Result<String, String> {
    let mut parts = Vec::new();
    let mut is_tuple = false;
    loop {
        let mut part = if parser.skip("(") {
            let inner = targets(parser)?;
            parser.expect(")")?;
            format!("({inner})")
        } else {
            parser.name()?
        };
        if parser.skip(".") {
            part = format!("{part}.{}", parser.name()?);
        }
        parts.push(part);
        if !parser.skip(",") {
            break;
        }
        is_tuple = true;
        if parser.at_name("in") || parser.at("=") || parser.at(")") {
            break;
        }
    }
    let comma = if is_tuple && parts.len() == 1 {
        ","
    } else {
        ""
    };
    Ok(format!("{}{comma}", parts.join(", ")))
}

/// Parameters of a macro up to `)`.
fn parameters(parser: &mut Parser) -> Result<String, String> {
    let mut parts = Vec::new();
    while !parser.skip(")") {
        if !parts.is_empty() {
            parser.expect(",")?;
        }
        let mut part = parser.name()?;
        if parser.skip("=") {
            part = format!("{part}={}", parser.expression()?);
        }
        parts.push(part);
    }
    Ok(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_data_comments_and_raw_blocks() {
        let source = "a{# {{ x }} #}{%- raw -%}{{ y }}{%- endraw %}\r\n{ }";
        let expected = "a{# {{ x }} #}{%- raw -%}{{ y }}{%- endraw %}\n{ }";
        assert_eq!(rewrite(source).unwrap().source, expected);
    }

    #[test]
    fn writes_calls_for_what_python_computes_differently() {
        for (source, expected) in [
            ("{{- 'a' 'b' -}}", r#"{{- "ab" -}}"#),
            ("{{ a[1:].b }}", "{{ __slice(a, 1, none, none).b }}"),
            ("{{ '%s' % x }}", r#"{{ __mod("%s", x) }}"#),
            ("{{ d.items() }}", r#"{{ __method(d, "items") }}"#),
            ("{% generation %}", "{% with __generation = true %}"),
            (
                "{{ a + b ~ c * -1 | abs }}",
                "{{ __add(a, __concat(b, __mul(c, (-1)|abs))) }}",
            ),
            (
                "{% if a is not none and b %}",
                "{% if ((not a is none) and b) %}",
            ),
        ] {
            assert_eq!(rewrite(source).unwrap().source, expected);
        }
    }

    #[test]
    fn names_the_line_of_an_error() {
        for (source, error) in [
            (
                "\n\n{{ a b }}",
                "unexpected `b`, expected the end of the tag (line 3)",
            ),
            ("{% do x %}", "unknown statement `do` (line 1)"),
            ("{{ 'a", "unexpected end of template in a string (line 1)"),
        ] {
            assert_eq!(rewrite(source).unwrap_err(), error);
        }
    }
}
